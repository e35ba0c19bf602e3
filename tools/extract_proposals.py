from aamn.cli.main import tool  # `aamn extract`

tool("extract")
