"""The audit: proves from the journal, not from counters, that nothing vanished. Blocking, and changes nothing."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict, fields

from relay.inspect.progress import UNTOLD, JournalProgress
from relay.store import (
    LaneLedger,
    LogSurvey,
    ParkedTotal,
    PartitionView,
    Passed,
    Range,
    SourceLedger,
    Store,
    Unavailable,
    find_acknowledged_head,
    find_unsettled,
    ignore_position,
    merge_sources,
    name_partition,
    sum_totals,
)
from relay.words import format_count, format_ranges

COUNTED: Final = (
    "accepted",
    "delivered",
    "unselected",
    "filtered",
    "parked",
    "expired",
    "damaged",
    "erased",
    "pending",
    "unsettled",
)


class AuditRow(Struct, frozen=True):
    """The ledger of one connector, and whether cursor, journal and parked events confirm it."""

    connector: str
    accepted: int
    delivered: int
    unselected: int
    filtered: int
    parked: int
    expired: int
    damaged: int
    erased: int
    pending: int
    unsettled: int
    balances: bool


class Audit(Struct, frozen=True, kw_only=True):
    """The result of an audit."""

    balances: bool
    segments: int
    """Segments of the journal."""
    oldest: int
    """The oldest readable offset."""
    head: int
    """The offset below which events were acknowledged."""
    connectors: Sequence[AuditRow]
    sources: Sequence[SourceLedger]
    parked: Sequence[ParkedTotal]
    """Parked events, and those that relay has removed by itself: the ledgers still count them as parked."""
    problems: Sequence[str]
    """What does not balance."""


class WorkerAudit(Audit, frozen=True, kw_only=True):
    """The result of the audit of one of several workers."""

    worker: int


class WholeAudit(Audit, frozen=True, kw_only=True):
    """The result of an audit of several workers: segments, offsets and ledgers are sums."""

    workers: Sequence[WorkerAudit]


class AuditedState(Struct, frozen=True, kw_only=True):
    """Everything that an audit reads, in the order in which it must be read while relay runs."""

    before: Sequence[LaneLedger]
    parked: Mapping[str, Sequence[int]]
    """The offsets by connector."""
    journal: LogSurvey
    after: Sequence[LaneLedger]
    """The ledgers, read again: what is unsettled now was needed all the while, and so in the journal."""

    acknowledged: int = 0
    """The offset below which events were acknowledged before the journal was read, by the database."""

    @property
    def head(self) -> int:
        """The same offset, also by the ledgers."""
        return max(self.acknowledged, find_acknowledged_head(self.before))


def audit_all(store: Store, kept_for: Collection[str] | None = None, progress: JournalProgress = UNTOLD) -> Audit:
    """Audit all workers, as `audit` does."""
    views = store.view_all()
    progress.begin(views)
    found = {view.number: audit(view, kept_for, partial(progress.note, view.number)) for view in views}
    return found[0] if len(found) == 1 else merge_audits(found, partial(name_partition, store))


def merge_audits(found: Mapping[int, Audit], name: Callable[[int], str] = "worker {}".format) -> WholeAudit:
    """Merge the audits of several workers. The result balances if all do. `name` names a worker."""
    audits = [*found.values()]
    connectors = []
    for connector in sorted({row.connector for one in audits for row in one.connectors}):
        rows = [row for one in audits for row in one.connectors if row.connector == connector]
        counts = {count: sum(getattr(row, count) for row in rows) for count in COUNTED}
        connectors.append(AuditRow(connector, **counts, balances=all(row.balances for row in rows)))
    return WholeAudit(
        balances=all(one.balances for one in audits),
        segments=sum(one.segments for one in audits),
        oldest=sum(one.oldest for one in audits),
        head=sum(one.head for one in audits),
        connectors=connectors,
        sources=merge_sources(ledger for one in audits for ledger in one.sources),
        parked=sum_totals(total for one in audits for total in one.parked),
        problems=[f"{name(number)}: {problem}" for number, one in found.items() for problem in one.problems],
        workers=[
            WorkerAudit(worker=number, **{field.name: getattr(one, field.name) for field in fields(Audit)})
            for number, one in found.items()
        ],
    )


def audit(view: PartitionView, kept_for: Collection[str] | None = None, passed: Passed = ignore_position) -> Audit:
    """Audit one worker, whether relay runs or not.

    `kept_for`: the connectors for which the journal keeps the events that they still need; None: all. Raises
    Unavailable.
    """
    doubts = [one.said for one in view.find_doubts() if one.what == "journal"]
    if doubts and not view.has_state():
        raise Unavailable(doubts[0], "missing")
    seen = _read_state(view, passed)
    problems = [*find_journal_problems(seen), *doubts]
    rows = []
    for lane in sorted(seen.before, key=lambda lane: lane.connector):
        may_expire = kept_for is not None and lane.connector not in kept_for
        wrong = [*find_lane_problems(lane, seen, may_expire=may_expire)]
        ledger = lane.ledger
        rows.append(
            AuditRow(
                lane.connector,
                ledger.accepted,
                **asdict(ledger.counts),
                pending=ledger.pending,
                unsettled=_count_events(lane.unsettled),
                balances=not wrong,
            )
        )
        problems += [f"{lane.connector}: {problem}" for problem in wrong]
    return Audit(
        balances=not problems,
        segments=seen.journal.parts,
        oldest=seen.journal.oldest,
        head=seen.head,
        connectors=rows,
        sources=view.read_sources(),
        parked=view.read_parked_totals(),
        problems=problems,
    )


def _read_state(view: PartitionView, passed: Passed) -> AuditedState:
    before, head = view.read_lanes(), view.read_acknowledged()
    parked = view.read_parked_offsets()
    journal = view.view_log().survey(passed)
    return AuditedState(before=before, parked=parked, journal=journal, after=view.read_lanes(), acknowledged=head)


def find_journal_problems(seen: AuditedState) -> Iterator[str]:
    """Yield what is missing between the journal's oldest offset and its head."""
    for problem in seen.journal.problems:
        yield f"journal: {problem}"
    oldest = seen.journal.oldest
    if missing := find_unsettled(oldest, seen.head, seen.journal.kept):
        yield f"journal: offsets {format_ranges(missing)} cannot be read, of {oldest} to {seen.head - 1}"


def find_lane_problems(lane: LaneLedger, seen: AuditedState, *, may_expire: bool) -> Iterator[str]:
    """Yield where cursor, journal and parked events contradict a lane's ledger.

    With `may_expire`, events older than the journal are no fault: the lane will count them as expired.
    """
    cursor, ledger = lane.cursor, lane.ledger
    places = [cursor.start, cursor.position, *chain(*cursor.ahead), lane.head]
    if any(low > high for low, high in pairwise(places)):
        yield f"the cursor is out of order: start, position, ranges ahead and head are {', '.join(map(str, places))}"
    if ledger.pending != _count_events(lane.unsettled):
        yield (
            f"accepted {ledger.accepted} less the outcomes leaves {ledger.pending} pending,"
            f" but the cursor leaves {_count_events(lane.unsettled)} unsettled:"
            f" {format_ranges(lane.unsettled) or 'none'}"
        )
    kept = seen.journal.kept
    readable = [(0, seen.journal.oldest), *kept] if may_expire else kept
    needed = next((later for later in seen.after if later.connector == lane.connector), lane).cursor
    pending = find_unsettled(needed.position, lane.head, needed.ahead)
    if missing := [*chain(*(find_unsettled(start, stop, readable) for start, stop in pending))]:
        yield f"unsettled offsets {format_ranges(missing)} cannot be read in the journal"
    offsets = seen.parked.get(lane.connector, ())
    parked = sum(_is_counted(lane, offset) for offset in offsets)
    if parked > ledger.counts.parked:
        shown = format_ranges([(offset, offset + 1) for offset in offsets if _is_counted(lane, offset)])
        yield f"{format_count(parked, 'event')} parked, but {ledger.counts.parked} counted: offsets {shown}"


def _is_counted(lane: LaneLedger, offset: int) -> bool:
    """Return whether the saved counts include a parked event. They lack one parked since, or before a crash."""
    return lane.cursor.start <= offset < lane.head and lane.is_settled(offset)


def _count_events(found: Sequence[Range]) -> int:
    return sum(stop - start for start, stop in found)
