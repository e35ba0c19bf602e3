from aamn.cli.main import tool  # `aamn train-detector`

tool("train-detector")
