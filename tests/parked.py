"""Parked events of a state folder, whether relay runs or not."""

from pathlib import Path

from relay.state.parked import FolderParked
from relay.store import Parked, ParkedQuery


def list_parked(folder: Path) -> list[Parked]:
    """Return all parked events, the oldest first."""
    return [*FolderParked(folder).read(ParkedQuery())]


def mark_parked(folder: Path, which: ParkedQuery) -> int:
    """Request a replay of parked events; return their number."""
    return sum(FolderParked(folder).mark(which))


def drop_parked(folder: Path, which: ParkedQuery) -> int:
    """Drop parked events; return their number."""
    return sum(FolderParked(folder).drop(which))
