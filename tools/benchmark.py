from aamn.cli.main import tool  # `aamn benchmark`

tool("benchmark")
