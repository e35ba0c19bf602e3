from aamn.cli.main import tool  # `aamn train`

tool("train")
