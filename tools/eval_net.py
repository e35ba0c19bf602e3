from aamn.cli.main import tool  # `aamn evaluate`

tool("evaluate")
