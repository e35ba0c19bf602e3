from aamn.cli.main import tool  # `aamn index`

tool("index")
