"""The check: is the journal whole. Blocking, and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.inspect.segments import Condition, Inspected, inspect
from relay.state import list_journals, read_acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSegment:
    """What a check has found in a segment. Times are Unix seconds."""

    path: str
    base: int
    """The offset of its first event."""
    condition: Condition
    end: int
    """The offset behind the last good event."""
    used: int
    """The byte behind the last good record."""
    behind: int
    """Bytes that hold anything after that."""
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
    """What a check of one worker's journal has found."""

    worker: int
    ok: bool
    segments: Sequence[CheckedSegment]
    missing: int = 0
    """Events that were acknowledged, if there is no segment at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a check has found; of one process alone it is that of worker 0."""

    ok: bool
    workers: Sequence[WorkerCheck]


def check_all(state: Path, path: Path) -> Check:
    """Read the journals of all workers of a state folder from the first to the last byte; `path` is the setting
    `journal.path`. Raises FileNotFoundError, OSError, sqlite3.Error."""
    workers = [_check(number, *folders) for number, folders in list_journals(state, path).items()]
    return Check(ok=all(one.ok for one in workers), workers=workers)


def _check(worker: int, folder: Path, journal: Path) -> WorkerCheck:
    needed = read_acknowledged(folder)  # first: what is acknowledged now is in the journal that is then read
    found = inspect(journal, needed)
    missing = 0 if found else needed
    ok = not missing and all(segment.is_whole for segment in found)
    return WorkerCheck(worker=worker, ok=ok, segments=[*map(_segment, found)], missing=missing)


def _segment(one: Inspected) -> CheckedSegment:
    return CheckedSegment(
        path=str(one.path), base=one.base, condition=one.condition, end=one.end, used=one.used, behind=one.behind,
        first=one.first, last=one.last, lost=one.lost, events=one.end - one.base, said=str(one),
    )  # fmt: skip
