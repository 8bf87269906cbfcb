"""Commands that run relay, or talk to a relay that runs."""
