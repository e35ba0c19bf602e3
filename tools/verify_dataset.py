from aamn.cli.main import tool  # `aamn verify`

tool("verify")
