"""Limits the memory for request bodies."""

from dataclasses import dataclass


@dataclass(slots=True)
class BodyMemory:
    """A budget of bytes that all requests under way share. Each `Body` reserves its bytes and returns them."""

    limit: int
    used: int = 0
