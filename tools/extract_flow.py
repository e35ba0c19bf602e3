from aamn.cli.main import tool  # `aamn flow`

tool("flow")
