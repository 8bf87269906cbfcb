"""Checks whether the journal is whole. Blocking, and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.journal import Condition, inspect_all
from relay.state import list_journals, read_acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSegment:
    """The result for a segment. Times are Unix seconds."""

    path: str
    base: int
    """The offset of its first event."""
    condition: Condition
    end: int
    """The offset behind the last good event."""
    used: int
    """The byte behind the last good record."""
    behind: int
    """Bytes behind that record up to the last one that is not zero."""
    first: float | None
    """When its first event was received."""
    last: float | None
    lost: int
    """Events that an earlier repair could not save."""
    events: int
    said: str
    """Its condition in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCheck:
    """The result for one worker's journal."""

    worker: int
    ok: bool
    segments: Sequence[CheckedSegment]
    missing: int = 0
    """Acknowledged events, if there is no segment at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of a check. A single process is worker 0."""

    ok: bool
    workers: Sequence[WorkerCheck]


def check_all(state: Path, path: Path) -> Check:
    """Read the journals of all workers from the first to the last byte. `path`: the setting `journal.path`.

    Raises FileNotFoundError, OSError, sqlite3.Error.
    """
    workers = []
    for number, (folder, journal) in list_journals(state, path).items():
        needed = read_acknowledged(folder)  # first: what is acknowledged now is in the journal that is then read
        found = inspect_all(journal, needed)
        missing = 0 if found else needed
        segments = [
            CheckedSegment(
                path=str(one.path), base=one.base, condition=one.condition, end=one.end, used=one.used,
                behind=one.behind, first=one.first, last=one.last, lost=one.lost, events=one.end - one.base,
                said=str(one),
            )
            for one in found
        ]  # fmt: skip
        ok = not missing and all(one.is_whole for one in found)
        workers.append(WorkerCheck(worker=number, ok=ok, segments=segments, missing=missing))
    return Check(ok=all(one.ok for one in workers), workers=workers)
