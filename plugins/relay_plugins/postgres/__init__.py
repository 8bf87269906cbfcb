"""The connector type `postgres`, and the command `relay postgres`."""

from relay_plugins.postgres.connector import Postgres, relay_commands

__all__ = ["Postgres", "relay_commands"]
