"""Checks whether the journal is whole. Blocking, and changes nothing."""

from collections.abc import Sequence
from functools import partial

from msgspec import Struct

from relay.inspect.progress import UNTOLD, JournalProgress
from relay.store import CheckedPart, Store


class WorkerCheck(Struct, frozen=True, kw_only=True):
    """The result for one worker's journal."""

    worker: int
    ok: bool
    segments: Sequence[CheckedPart]
    missing: int = 0
    """Acknowledged events, if there is no segment at all."""


class Check(Struct, frozen=True, kw_only=True):
    """The result of a check. A single process is worker 0."""

    ok: bool
    workers: Sequence[WorkerCheck]


def check_all(store: Store, progress: JournalProgress = UNTOLD) -> Check:
    """Read the journals of all workers from the first to the last byte. Raises Unavailable."""
    workers, views = [], store.view_all()
    progress.begin(views)
    for view in views:
        needed = view.read_acknowledged()  # first: what is acknowledged now is in the journal that is then read
        found = view.view_log().check(partial(progress.note, view.number))
        missing = 0 if found else needed
        ok = not missing and all(one.is_whole for one in found)
        workers.append(WorkerCheck(worker=view.number, ok=ok, segments=found, missing=missing))
    return Check(ok=all(one.ok for one in workers), workers=workers)
