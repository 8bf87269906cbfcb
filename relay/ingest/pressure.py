"""How much of request bodies is held in memory at a time."""

from dataclasses import dataclass


@dataclass(slots=True)
class Pressure:
    """A budget of bytes that all requests under way share: each `Body` books what it takes, and gives it back."""

    limit: int
    used: int = 0
