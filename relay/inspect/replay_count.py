"""Counts the events of a replay before it is requested. Blocking, and changes nothing."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from relay.catalogue import Selection
from relay.inspect.progress import UNTOLD, JournalProgress
from relay.store import PartitionView, Store

USUAL_RATE: Final = 1000.0
"""Events per second of a replay at most, unless somebody wants another limit."""


class WorkerCount(Struct, frozen=True):
    """The replay from one worker's journal."""

    worker: int
    start: int
    """The first offset."""
    stop: int
    """The offset after the last one."""
    wanted: int
    """Events of the range that the connector would get, before its filters."""
    problems: Sequence[str]
    """What could not be read."""

    @property
    def events(self) -> int:
        """All events of the range."""
        return self.stop - self.start


class ReplayCount(Struct, frozen=True):
    """The replay from every worker's journal."""

    rate: float
    """The connector's own limit of events per second; 0: no limit."""
    workers: Sequence[WorkerCount]

    @property
    def wanted(self) -> int:
        """Events that the connector would get, before its filters."""
        return sum(part.wanted for part in self.workers)

    @property
    def events(self) -> int:
        """All events of the range."""
        return sum(part.events for part in self.workers)

    @property
    def problems(self) -> Sequence[str]:
        """What could not be read."""
        return [problem for part in self.workers for problem in part.problems]

    def find_lowest_rate(self, rate: float) -> float:
        """Return the lower of the connector's own limit and a limit for the replay; 0: no limit."""
        return min(filter(None, (rate, self.rate)), default=0.0)

    def split_rate(self, rate: float) -> Sequence[tuple[WorkerCount, float]]:
        """Return each worker with its share of a rate."""
        return [(part, rate * part.wanted / max(1, self.wanted)) for part in self.workers]


class Stretch(Struct, frozen=True, kw_only=True):
    """The range of a replay."""

    connector: str
    """Name of the connector."""
    events: Sequence[str] = ("*",)
    """Selection of events, as in conf.d."""
    since: float = 0.0
    """Earliest receipt, in Unix seconds."""
    until: float | None = None
    """Receipt before this time, in Unix seconds; None: up to the connector's position."""


def count_all(
    store: Store, asked: Stretch, within: Sequence[str] | None = None, progress: JournalProgress = UNTOLD
) -> list[WorkerCount]:
    """Count the events behind the connector that both selections want, in every worker in which it has run.

    `within`: the connector's own selection. Raises LookupError if the connector has not run, Unavailable.
    """
    selection = Selection(asked.events or ["*"], within=None if within is None else Selection(within))
    found = [
        (view, lane.cursor.position)
        for view in store.view_all()
        for lane in view.read_lanes_if_any()
        if lane.connector == asked.connector
    ]
    if not found:
        raise LookupError(f"connector {asked.connector} has not run yet: set its `from` to begin in the past")
    progress.begin([view for view, _ in found])
    return [_count_worker(view, asked, position, selection, progress) for view, position in found]


def _count_worker(
    view: PartitionView, asked: Stretch, position: int, selection: Selection, progress: JournalProgress
) -> WorkerCount:
    log = view.view_log()
    first, last, wanted = None, position, 0
    for _, block in progress.follow(view.number, log.read(since=asked.since)):
        if block.received < asked.since:
            continue
        start, stop = block.offsets[0], min(block.offsets[-1] + 1, position)
        if start >= stop or (asked.until is not None and block.received >= asked.until):
            last = min(last, start)
            break
        first = start if first is None else first
        wants = [not kind.is_erased and selection.wants(kind.type) for kind in block.kinds]
        wanted += sum(wants[kind] for kind in block.index[: stop - start])
    return WorkerCount(view.number, last if first is None else first, last, wanted, log.problems)
