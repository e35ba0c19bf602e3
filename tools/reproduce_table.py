from aamn.cli.main import tool  # `aamn table`

tool("table")
