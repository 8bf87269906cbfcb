"""Lanes: batch, retry, pause, split, acknowledge; one per connector, none in another's way."""

from relay.deliver.fleet import Fleet

__all__ = ["Fleet"]
