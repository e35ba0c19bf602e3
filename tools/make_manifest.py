from aamn.cli.main import tool  # `aamn manifest`

tool("manifest")
