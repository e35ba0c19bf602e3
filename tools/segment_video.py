from aamn.cli.main import tool  # `aamn segment`

tool("segment")
