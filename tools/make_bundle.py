from aamn.cli.main import tool  # `aamn bundle`

tool("bundle")
