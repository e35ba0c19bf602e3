"""`python -m aamn` is the command `aamn`."""

from aamn.cli.main import main

main()
