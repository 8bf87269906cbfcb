"""Erases users from the journal, from the tables, and at the destinations."""

from relay.erasure.eraser import Eraser

__all__ = [
    "Eraser",
]
