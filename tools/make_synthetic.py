from aamn.cli.main import tool  # `aamn synthetic`

tool("synthetic")
