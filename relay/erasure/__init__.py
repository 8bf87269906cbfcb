"""Erases users: out of the journal, out of the tables, and at the destinations."""

from relay.erasure.eraser import Eraser

__all__ = [
    "Eraser",
]
