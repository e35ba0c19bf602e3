from aamn.cli.main import tool  # `aamn search`

tool("search")
