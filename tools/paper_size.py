from aamn.cli.main import tool  # `aamn parameters`

tool("parameters")
