"""`python -m relay.inspect` answers one question about a journal, for the relay that started it."""

from relay.inspect.subprocess import main

main()
