"""Merges the status of several workers into one. Pure.

Counters must not fall when a worker restarts. So the counts of its earlier processes (`keep_counts`) are merged like
those of an idle worker.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Final, TypeVar

from msgspec.structs import replace

from relay.status.model import (
    CertificateStatus,
    JournalStatus,
    LaneStatus,
    ListenerStatus,
    RemovedConnector,
    SourceStatus,
    Status,
)
from relay.status.rates import predict_time
from relay.store import Doubt, FailingErasures, ParkedTotal

T = TypeVar("T")

SEVERITY: Final = ("idle", "working", "refusing", "failing", "unauthorized", "paused", "broken")


def merge_statuses(
    statuses: Sequence[Status],
    parked: Sequence[ParkedTotal],
    failing_erasures: Sequence[FailingErasures] = (),
    doubts: Sequence[Doubt] = (),
    *,
    parked_most: int = 0,
) -> Status:
    """Merge the status of all workers; of each lane the worst state counts. `parked` limits the bytes of parked events
    (0: no limit).

    During a reload a connector may be removed in one worker and run in another: then it has a lane.
    """
    whole = merge_parts(statuses)
    now, removed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for one in parked:
        whose = ("source", one.source) if one.connector is None else ("connector", one.connector)
        now[whose] += one.events
        removed[whose] += one.removed_for_room
    sources = [
        replace(one, parked_now=now["source", one.source], parked_removed=removed["source", one.source])
        for one in whole.sources
    ]
    lanes = [
        replace(
            one,
            parked_now=now["connector", one.connector],
            parked_removed=removed["connector", one.connector],
            parked_full_in=_predict_parked_full(one, parked, parked_most),
        )
        for one in whole.lanes
    ]
    running = {one.connector for one in lanes}
    gone = [one for one in whole.gone if one.connector not in running]
    whole = replace(whole, sources=sources, lanes=lanes, gone=gone, parked=parked)
    return replace(whole, failing_erasures=failing_erasures, doubts=doubts)


def merge_parts(statuses: Sequence[Status]) -> Status:
    """Merge the status of the parts of one process, or of several processes, without their parked events."""
    return reduce(_merge_two, statuses)


def _predict_parked_full(lane: LaneStatus, parked: Sequence[ParkedTotal], most: int) -> float | None:
    """Return the seconds until parked events take so many bytes, if all events of a lane are parked from now on."""
    mine = [one for one in parked if one.connector == lane.connector]
    events, size = sum(one.events for one in mine), sum(one.bytes for one in mine)
    if lane.state != "refusing" or not most or not events:
        return None
    return predict_time(most - sum(one.bytes for one in parked), lane.parked_rate * size / events)


def keep_counts(last: Status) -> Status:
    """Return what remains of an ended process: everything that it had counted, and nothing that was wrong with it."""
    frozen = freeze(last)
    sources = [replace(one, duplicates=0, refusing=None, incomplete=0, notice="") for one in frozen.sources]
    healthy = [
        replace(one, state="idle", since=None, paused_until=None, breaker="closed", next_try=0.0, notice="")
        for one in frozen.lanes
    ]
    lanes = [replace(one, accepted=0, outcomes={}, pending=0, oldest_pending=None, drained_in=0.0) for one in healthy]
    journal = replace(frozen.journal, oldest=0, head=0, size=0, needed=0, capacity=0, refusing=None, unsaved=None)
    kept = replace(frozen, sources=sources, lanes=lanes, journal=journal)
    return replace(kept, parked=(), certificates=(), replays=(), gone=(), restart=(), partitions=())


def freeze(last: Status) -> Status:
    """Return the last status of an absent worker: its events are on disk, and nothing moves."""
    sources = [replace(one, rate=0.0) for one in last.sources]
    lanes = [
        replace(one, rate=0.0, parked_rate=0.0, drained_in=None if one.pending else 0.0, unanswered=0.0)
        for one in last.lanes
    ]
    replays = [replace(one, rate=0.0) for one in last.replays]
    journal = replace(last.journal, full_in=None)
    listeners = {name: replace(one, connections=0) for name, one in last.listeners.items()}
    left = replace(last, memory=0, listeners=listeners, partitions=(), unreachable_since=None)
    return replace(left, sources=sources, lanes=lanes, journal=journal, replays=replays)


def merge_listeners(
    ones: Mapping[str, ListenerStatus], others: Mapping[str, ListenerStatus]
) -> dict[str, ListenerStatus]:
    """Merge the listeners of two processes, or of two parts of one."""
    none = ListenerStatus(connections=0, refused={})
    pairs = {name: (ones.get(name, none), others.get(name, none)) for name in {**ones, **others}}
    return {
        name: ListenerStatus(
            connections=one.connections + other.connections, refused=_add_counts(one.refused, other.refused)
        )
        for name, (one, other) in pairs.items()
    }


def _merge_two(one: Status, other: Status) -> Status:
    return replace(
        other,
        now=max(one.now, other.now),
        started=min(one.started, other.started),
        cpu=one.cpu + other.cpu,
        memory=one.memory + other.memory,
        sources=_merge_by_name(one.sources, other.sources, lambda source: source.source, _merge_sources),
        lanes=_merge_by_name(one.lanes, other.lanes, lambda lane: lane.connector, _merge_lanes),
        journal=_merge_journals(one.journal, other.journal),
        strays=one.strays + other.strays,
        dropped_log_lines=one.dropped_log_lines + other.dropped_log_lines,
        listeners=merge_listeners(one.listeners, other.listeners),
        certificates=_merge_by_name(
            one.certificates, other.certificates, lambda shown: shown.certificate, _merge_certificates
        ),
        replays=[*one.replays, *other.replays],
        gone=_merge_by_name(one.gone, other.gone, lambda gone: gone.connector, _merge_removed),
        restart=[*dict.fromkeys((*one.restart, *other.restart))],
        partitions=sorted({*one.partitions, *other.partitions}),
        unopened={**one.unopened, **other.unopened},
        shares_partitions=one.shares_partitions or other.shares_partitions,
        unreachable_since=min(filter(None, (one.unreachable_since, other.unreachable_since)), default=None),
    )


def _merge_by_name(
    ones: Sequence[T], others: Sequence[T], name: Callable[[T], str], both: Callable[[T, T], T]
) -> list[T]:
    found = {name(one): one for one in ones}
    for other in others:
        known = found.get(name(other))
        found[name(other)] = other if known is None else both(known, other)
    return [*found.values()]


def _merge_certificates(one: CertificateStatus, other: CertificateStatus) -> CertificateStatus:
    """Return the one that ends first: each worker reads the files by itself."""
    return min(one, other, key=lambda shown: shown.ends)


def _merge_removed(one: RemovedConnector, other: RemovedConnector) -> RemovedConnector:
    return replace(one, pending=one.pending + other.pending, later=one.later + other.later)


def _merge_sources(one: SourceStatus, other: SourceStatus) -> SourceStatus:
    last = _choose_largest(one.last, other.last)
    # refusals count unless some worker has taken something since they began
    refusals = [each for each in (one.refusing, other.refusing) if each and (last is None or each.since >= last)]
    return replace(
        other,
        accepted=one.accepted + other.accepted,
        unreadable=one.unreadable + other.unreadable,
        duplicates=one.duplicates + other.duplicates,
        requests=_add_counts(one.requests, other.requests),
        last=last,
        rate=one.rate + other.rate,
        refusing=min(refusals, key=lambda each: each.since, default=None),
        ack=one.ack + other.ack,
        incomplete=one.incomplete + other.incomplete,
        notice="; ".join(filter(None, (one.notice, other.notice))),
        unknown_types=sorted({*one.unknown_types, *other.unknown_types}),
    )


def _merge_lanes(one: LaneStatus, other: LaneStatus) -> LaneStatus:
    better, worse = sorted((one, other), key=lambda lane: SEVERITY.index(lane.state))
    errors = [error for error in (one.last_error, other.last_error) if error]
    return replace(
        worse,
        since=_choose_least(worse.since, better.since) if better.state == worse.state else worse.since,
        accepted=one.accepted + other.accepted,
        outcomes=_add_counts(one.outcomes, other.outcomes),
        own_outcomes=None
        if one.own_outcomes is None and other.own_outcomes is None
        else _add_counts(one.own_outcomes or {}, other.own_outcomes or {}),
        pending=one.pending + other.pending,
        oldest_pending=_choose_least(one.oldest_pending, other.oldest_pending),
        rate=one.rate + other.rate,
        drained_in=None
        if None in (one.drained_in, other.drained_in)
        else _choose_largest(one.drained_in, other.drained_in),
        unanswered=max(one.unanswered, other.unanswered),
        last_error=max(errors, key=lambda error: error.at, default=None),
        parked=one.parked + other.parked,
        parked_rate=one.parked_rate + other.parked_rate,
        attempts=_add_counts(one.attempts, other.attempts),
        counted=_add_counts(one.counted, other.counted),
        attempt=one.attempt + other.attempt,
        end_to_end=one.end_to_end + other.end_to_end,
        notice=one.notice or other.notice,
    )


def _merge_journals(one: JournalStatus, other: JournalStatus) -> JournalStatus:
    return JournalStatus(
        oldest=one.oldest + other.oldest,
        head=one.head + other.head,
        own_events=None
        if one.own_events is None and other.own_events is None
        else (one.own_events or 0) + (other.own_events or 0),
        size=one.size + other.size,
        needed=one.needed + other.needed,
        capacity=one.capacity + other.capacity,
        full_in=_choose_least(one.full_in, other.full_in),
        refusing=one.refusing or other.refusing,
        unsaved=one.unsaved or other.unsaved,
        away=one.away or other.away,
        bytes=one.bytes + other.bytes,
        failed=one.failed + other.failed,
        lost=one.lost + other.lost,
        syncs=one.syncs + other.syncs,
    )


def _add_counts(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _choose_least(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _choose_largest(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
