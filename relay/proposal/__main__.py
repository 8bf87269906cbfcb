"""`python -m relay.proposal` answers one question about a configuration, for the relay that started it."""

from relay.proposal.subprocess import main

main()
