from aamn.cli.main import tool  # `aamn attention`

tool("attention")
