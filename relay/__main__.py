"""`python -m relay` is the same as the command `relay`."""

from relay.cli import main

main.main()
