"""Reads the status of one partition: its log and its lanes."""

import time
from collections.abc import Hashable, Mapping
from types import MappingProxyType

import structlog
from msgspec.structs import asdict, replace

from relay.api import Connector, Filter, PluginMetrics
from relay.config import Config, Redaction
from relay.deliver import Fleet, LiveLane
from relay.guests import name_error, quick, read_text
from relay.histogram import QUICK, Histogram
from relay.runtime.secret_settings import list_secrets
from relay.status import (
    NOW_S,
    JournalStatus,
    LaneStatus,
    LastError,
    Rates,
    RemovedConnector,
    ReplayStatus,
    State,
    Status,
    make_idle_status,
    make_removed,
    predict_time,
)
from relay.store import Counts, Log, Unavailable

log = structlog.stdlib.get_logger()


class PartitionStatusReader:
    """Reads the status of a partition, with rates from earlier counters."""

    def __init__(self, fleet: Fleet, journal: Log, partition: int) -> None:
        self._fleet, self._journal, self._partition = fleet, journal, partition
        self._rates = Rates()
        self._oldest: dict[str, tuple[int, float | None]] = {}
        """Receipt of the event at each lane's position. Finding it may need a read from disk."""
        self._begun: dict[str, Counts] = {}
        """The counts with which each lane began to run here, where all processes share the partitions."""
        self._first: int | None = None
        """The head when the partition began to run here, where all processes share the partitions."""

    def note_begun(self) -> None:
        """Note with which counts the partition and its lanes begin to run here."""
        self._first = self._journal.head if self._first is None else self._first
        for lane in self._fleet.lanes:
            self._begun.setdefault(lane.name, replace(lane.cursor.counts))

    def sample(self, now: float) -> None:
        """Note the counters. `now`: monotonic seconds."""
        journal, head = self._journal, self._journal.head
        held = head - self._find_needed()
        values: dict[Hashable, float] = {"events": head, "stored": journal.stored, "held": held}
        for lane in self._fleet.lanes:
            values["settled", lane.name] = lane.cursor.counts.total
            values["pending", lane.name] = lane.cursor.make_ledger(head).pending
            values["parked", lane.name] = lane.destination.metrics.parked
        for number, replay in self._fleet.replays.items():
            values["replayed", number] = replay.cursor.counts.total
        self._rates.note(now, values)

    def _find_needed(self) -> int:
        """Return the oldest offset that a lane still needs."""
        return min((lane.cursor.position for lane in self._fleet.lanes), default=self._journal.head)

    async def read_status(self, config: Config) -> Status:
        """Return the status by the configuration in force."""
        oldest = {lane.name: await self._find_received(lane) for lane in self._fleet.lanes}
        return replace(
            self.read_counts(config, oldest),
            gone=await self._read_removed(config),
            replays=[
                ReplayStatus(
                    number=number,
                    connector=lane.name,
                    settled=lane.cursor.counts.total,
                    events=lane.until - lane.cursor.start,
                    rate=self._rates.measure_change(("replayed", number), NOW_S),
                )
                for number, lane in self._fleet.replays.items()
            ],
            partitions=[self._partition],
        )

    def read_counts(self, config: Config, oldest: Mapping[str, float | None] = MappingProxyType({})) -> Status:
        """Return the part of the status that needs no reads. `oldest`: when the first pending event of each connector
        was received."""
        return replace(
            make_idle_status(0, {}, {}, config),
            lanes=[self._read_lane(lane, oldest.get(lane.name), config) for lane in self._fleet.lanes],
            journal=self._read_journal(),
        )

    async def _read_removed(self, config: Config) -> list[RemovedConnector]:
        try:
            gone = await self._fleet.find_abandoned()
        except Unavailable as error:
            if error.reason != "taken" and not error.is_logged:
                log.error("the ledgers of removed connectors cannot be read", error=str(error))
            return []
        oldest, head = self._journal.oldest, self._journal.head
        return [
            make_removed(one, oldest, head, config)
            for one in gone
            if one.connector not in config.connectors  # a reload may just be making its lane anew
        ]

    def _read_lane(self, lane: LiveLane, oldest: float | None, config: Config) -> LaneStatus:
        name, destination, now = lane.name, lane.destination, time.monotonic()
        ledger = lane.cursor.make_ledger(self._journal.head)
        configured = config.connectors.get(name)  # a reload may just be adding it
        state, since = _find_state(lane)
        stands = state in ("paused", "unauthorized")
        asked, held = min(destination.health.unanswered, default=now), destination.breaker.held
        return LaneStatus(
            connector=name,
            type=lane.connector.settings.type,
            file=configured.file if configured else "",
            state=state,
            since=since,
            paused_until=held.until if held else None,
            unanswered=now - asked,
            breaker=destination.breaker.state(now),
            next_try=destination.breaker.seconds_left(now),
            accepted=ledger.accepted,
            outcomes=asdict(ledger.counts),
            own_outcomes=_subtract(ledger.counts, self._begun[name]) if name in self._begun else None,
            pending=ledger.pending,
            oldest_pending=oldest,
            rate=self._rates.measure_change(("settled", name), NOW_S),
            drained_in=None if stands else predict_time(ledger.pending, -self._rates.measure_change(("pending", name))),
            last_error=_read_last_error(lane),
            parked_now=0,
            parked=destination.metrics.parked,
            parked_rate=self._rates.measure_change(("parked", name), NOW_S),
            attempts={**destination.metrics.attempts},
            attempt=destination.metrics.attempt.copy(),
            end_to_end=destination.metrics.end_to_end.copy(),
            counted=_read_counts(lane.connector),
            notice=_read_notices(lane),
            secrets=list_secrets(f"connector {name}", lane.connector.settings, config),
            writes=str(lane.traits.local_path or ""),
            batch_wait=lane.connector.settings.batch.age,
        )

    async def _find_received(self, lane: LiveLane) -> float | None:
        position = lane.cursor.position
        if position >= self._journal.head:
            return None
        if self._oldest.get(lane.name, (-1, None))[0] != position:
            self._oldest[lane.name] = position, await self._journal.find_received(position)
        return self._oldest[lane.name][1]

    def _read_journal(self) -> JournalStatus:
        journal, rates = self._journal, self._rates
        needed = journal.measure_needed(self._find_needed()) if self._find_needed() < journal.head else 0
        per_event = rates.measure_change("stored") / (rates.measure_change("events") or 1.0)
        growing = rates.measure_steady_change("held")
        is_known = growing is not None and journal.refusing is None and needed < journal.capacity
        return JournalStatus(
            oldest=journal.oldest,
            head=journal.head,
            own_events=None if self._first is None else journal.head - self._first,
            size=journal.size,
            needed=needed,
            capacity=journal.capacity,
            full_in=predict_time(journal.capacity - needed, growing * per_event) if growing and is_known else None,
            refusing=journal.refusing,
            unsaved=self._fleet.unsaved,
            bytes=0,
            failed=0,
            lost=journal.lost,
            syncs=Histogram(QUICK),
        )


def _subtract(counts: Counts, begun: Counts) -> dict[str, int]:
    """Return what was counted since then."""
    before = asdict(begun)
    return {outcome: number - before[outcome] for outcome, number in asdict(counts).items()}


def _find_state(lane: LiveLane) -> tuple[State, float | None]:
    """Return the state of a lane, and since when."""
    health, held = lane.destination.health, lane.destination.breaker.held
    trouble, refusals = health.trouble, health.refusals
    if held is not None:
        return "paused", held.since
    if lane.fault:
        return "broken", None
    if trouble is not None and trouble.over is None:
        return ("unauthorized", trouble.unauthorized) if trouble.unauthorized else ("failing", trouble.since)
    if refusals is not None and refusals.is_all(time.time()):
        return "refusing", refusals.since
    return "working", None


def _read_counts(connector: Connector) -> dict[str, int]:
    """Return the counters of a connector. A plugin may have something else of this name."""
    metrics = vars(connector).get("metrics")
    return {**metrics.counts} if isinstance(metrics, PluginMetrics) else {}


def _read_notices(lane: LiveLane) -> str:
    """Return what the connector and the filters of a lane tell admins, without secrets."""
    said = [(f"filter {one.name}: ", _read_notice("filter", one)) for one in lane.filters]
    return "; ".join(f"{name}{text}" for name, text in [("", _read_notice("connector", lane.connector)), *said] if text)


def _read_notice(kind: str, guest: Connector | Filter) -> str:
    try:
        with quick("notice", **{kind: guest.name}):
            said = guest.notice
    except Exception as error:  # a property of a plugin
        said = f"its notice cannot be read: {name_error(error)}"
    text = "" if said is None else read_text(said)
    return Redaction(guest.settings).clean(text) if text else ""  # to hide secrets means to look for them first


def _read_last_error(lane: LiveLane) -> LastError | None:
    if lane.fault:
        return LastError(at=time.time(), reason=lane.fault, status=None)
    health = lane.destination.health
    kind, number = health.event or ("", "")
    errors = [
        LastError(at=one.last, reason=one.reason, status=one.status, event_type=kind, event_id=number)
        for one in (health.trouble, health.refusals)
        if one
    ]
    return max(errors, key=lambda error: error.at, default=None)
