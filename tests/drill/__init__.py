"""The night drill: a relay under load that is broken on purpose, and what each of its voices says of that, how soon."""
