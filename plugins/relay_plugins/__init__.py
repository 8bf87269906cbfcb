"""The built-in sources, connectors and filters. Guests: they import `relay.api` and nothing else of relay."""
