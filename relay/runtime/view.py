"""What admins see of this process: looks at sources, journal and lanes."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from relay import __version__
from relay.admin import (
    EVERY_S,
    GoneConnector,
    JournalStatus,
    LaneStatus,
    LastError,
    ParkedCount,
    Rates,
    Refusing,
    ReplayStatus,
    SourceStatus,
    State,
    Status,
    Tap,
    merged,
    time_to,
)
from relay.admin.rates import NOW_S
from relay.catalogue import Selection
from relay.config import Config
from relay.deliver import Fleet
from relay.deliver.lane import Lane
from relay.deliver.live import LiveLane
from relay.ingest import Ingest
from relay.ingest.intake import Intake
from relay.journal import Forgotten, Journal, forget, parked_counts, pause, resume
from relay.runtime.reload import Reloaded
from relay.runtime.retired import configured, retired
from relay.runtime.usage import cpu_seconds, memory_bytes

HEED_S: Final = 5.0
"""How long a lane may take to heed a pause."""
HEED_LOOK_S: Final = 0.02
log = structlog.stdlib.get_logger()


class View:
    """The daemon as `relay.admin` wants it."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        fleet: Fleet,
        ingest: Ingest,
        journal: Journal,
        reload: Callable[[], Coroutine[Any, Any, Reloaded]],
        *,
        alone: bool,
    ) -> None:
        """`alone`: this process is all that runs with the state folder."""
        self._alone = alone
        self.config, self.folder, self.reload = config, folder, reload
        self._fleet, self._ingest, self._journal = fleet, ingest, journal
        self.changing = asyncio.Lock()
        """Held while the configuration changes."""
        self.restart: Sequence[str] = ()
        """What waits for a restart since the last reload."""
        self._rates = Rates()
        self._started = time.time()
        self._oldest: dict[str, tuple[int, float | None]] = {}
        """For each lane when the event at its position was received: that may take a look at the disk."""

    async def keep_sampling(self) -> None:
        """Note the counters once a second, for ever."""
        while True:
            self._rates.note(time.monotonic(), self._sample())
            await asyncio.sleep(EVERY_S)

    def _sample(self) -> Mapping[Hashable, float]:
        journal, head = self._journal, self._journal.head
        values: dict[Hashable, float] = {"events": head, "bytes": journal.bytes, "held": head - self._needed()}
        for lane in self._fleet.lanes:
            values["settled", lane.name] = lane.cursor.counts.total
            values["pending", lane.name] = lane.cursor.ledger(head).pending
        for number, replay in self._fleet.replays.items():
            values["replayed", number] = replay.cursor.counts.total
        for name, intake in self._ingest.intakes.items():
            values["accepted", name] = intake.traffic.accepted
        return values

    def _needed(self) -> int:
        """The oldest offset that some lane still needs."""
        return min((lane.cursor.position for lane in self._fleet.lanes), default=self._journal.head)

    @asynccontextmanager
    async def tap(self, at: str, entries: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """What passes at "ingest", or at a connector behind its filters, as NDJSON. Raises LookupError."""
        taps = self._journal.taps if at == "ingest" else self._lane(at).taps
        tap = Tap(Selection(entries))
        taps.add(tap)
        try:
            yield tap.portions()
        finally:
            taps.discard(tap)

    async def hold(self, connector: str, *, held: bool) -> bool:
        """Have a connector hold its events, or go on; False if it does so already. Returns when that is heeded.

        Raises LookupError, OSError (it is not heeded yet), sqlite3.Error."""
        if connector not in self.config.connectors:
            self._lane(connector)
        changed = await asyncio.to_thread(pause if held else resume, self.folder, connector)
        try:
            async with asyncio.timeout(HEED_S):
                while self._is_held(connector) is not held:  # noqa: ASYNC110  the database tells the lane
                    await asyncio.sleep(HEED_LOOK_S)
        except TimeoutError:
            raise OSError("it is noted, but the lane has not heeded it yet: see the log") from None
        return changed

    async def forget(self, connector: str) -> Forgotten:
        """Let go of all that is kept of a connector that is not configured; not in the middle of a reload. Raises
        LookupError, ValueError (it is), OSError, sqlite3.Error."""
        async with self.changing:
            return await forgotten(self.folder, connector, self.config.connectors)

    def _is_held(self, connector: str) -> bool:
        held = (lane.delivery.breaker.held for lane in self._fleet.lanes if lane.name == connector)
        return next(held, None) is not None  # a reload may just be making the lane anew: it is held from the start

    def _lane(self, connector: str) -> LiveLane:
        for lane in self._fleet.lanes:
            if lane.name == connector:
                return lane
        known = ", ".join(sorted(lane.name for lane in self._fleet.lanes)) or "none"
        raise LookupError(f"no connector {connector} runs; there are: {known}")

    async def status(self) -> Status:
        """How everything is now."""
        others = await retired(self.folder, {0}, self.config) if self._alone else []
        parked = await count_parked_in(self.folder)
        mine = await self._mine()
        return merged([mine, *(configured(one, self.config) for one in others)], parked)  # a reload may have ended

    async def _mine(self) -> Status:
        return Status(
            version=__version__,
            now=time.time(),
            started=self._started,
            cpu=cpu_seconds(),
            memory=memory_bytes(),
            sources=[self._source(name, intake) for name, intake in self._ingest.intakes.items()],
            lanes=[await self._lane_status(lane) for lane in self._fleet.lanes],
            journal=self._journal_status(),
            strays=self._ingest.strays,
            parked=(),
            gone=await self._gone(),
            replays=[self._replay(number, lane) for number, lane in self._fleet.replays.items()],
            restart=self.restart,
        )

    def _source(self, name: str, intake: Intake) -> SourceStatus:
        traffic, books = intake.traffic, intake.books
        refusals = books.refusals
        refusing = None
        if refusals:
            refusing = Refusing(
                since=refusals.since, status=refusals.status, reason=refusals.reason, deadline=refusals.deadline
            )
        return SourceStatus(
            source=name,
            file=self.config.sources[name].file,
            accepted=traffic.accepted,
            unreadable=traffic.unreadable,
            duplicates=books.duplicates,
            requests={**traffic.requests},
            last=traffic.last,
            rate=self._rates.change(("accepted", name), NOW_S),
            refusing=refusing,
            ack=traffic.ack.copy(),
        )

    async def _gone(self) -> list[GoneConnector]:
        try:
            gone = await self._fleet.gone()
        except (OSError, sqlite3.Error) as error:
            log.error("the books of connectors that are gone cannot be read", error=str(error))
            return []
        return [
            GoneConnector(connector=name, pending=pending)
            for name, pending in gone.items()
            if name not in self.config.connectors  # a reload may just be making its lane anew
        ]

    def _replay(self, number: int, lane: Lane) -> ReplayStatus:
        return ReplayStatus(
            number=number,
            connector=lane.name,
            settled=lane.cursor.counts.total,
            events=lane.until - lane.cursor.start,
            rate=self._rates.change(("replayed", number), NOW_S),
        )

    async def _lane_status(self, lane: LiveLane) -> LaneStatus:
        oldest = await self._received(lane)
        name, delivery, now = lane.name, lane.delivery, time.monotonic()
        ledger, trouble = lane.cursor.ledger(self._journal.head), delivery.health.trouble
        configured = self.config.connectors.get(name)  # a reload may just be adding it
        state, paused_by, since = _state(lane)
        return LaneStatus(
            connector=name,
            type=lane.connector.settings.type,
            file=configured.file if configured else "",
            state=state,
            paused_by=paused_by,
            since=since,
            breaker=delivery.breaker.state(now),
            next_try=delivery.breaker.left(now),
            accepted=ledger.accepted,
            outcomes=asdict(ledger.counts),
            pending=ledger.pending,
            oldest_pending=oldest,
            rate=self._rates.change(("settled", name), NOW_S),
            drained_in=time_to(ledger.pending, -self._rates.change(("pending", name))),
            last_error=_last_error(lane) if trouble or lane.fault else None,
            parked_now=0,
            parked=delivery.meter.parked,
            attempts={**delivery.meter.attempts},
            attempt=delivery.meter.attempt.copy(),
            end_to_end=delivery.meter.end_to_end.copy(),
            writes=str(lane.connector.writes or ""),
        )

    async def _received(self, lane: LiveLane) -> float | None:
        position = lane.cursor.position
        if position >= self._journal.head:
            return None
        if self._oldest.get(lane.name, (-1, None))[0] != position:
            self._oldest[lane.name] = position, await self._journal.received_at(position)
        return self._oldest[lane.name][1]

    def _journal_status(self) -> JournalStatus:
        journal, rates = self._journal, self._rates
        needed = journal.needed(self._needed()) if self._needed() < journal.head else 0
        per_event = rates.change("bytes") / (rates.change("events") or 1.0)
        growing = rates.change("held") * per_event
        return JournalStatus(
            oldest=journal.oldest,
            head=journal.head,
            size=journal.size,
            needed=needed,
            capacity=journal.capacity,
            full_in=time_to(journal.capacity - needed, growing) if growing > 0 else None,
            refusing=journal.refusing,
            bytes=journal.bytes,
            failed=journal.failed,
            syncs=journal.syncs.copy(),
        )


async def forgotten(folder: Path, connector: str, connectors: Collection[str]) -> Forgotten:
    """Let go of what a state folder has of a connector that is none of these. Raises as `View.forget`."""
    if connector in connectors:
        raise ValueError(f"{connector} is configured: remove it from the configuration, and reload, before")
    kept = await asyncio.to_thread(forget, folder, connector)
    log.warning("connector is forgotten", connector=connector, expired=kept.pending, parked=kept.parked)
    return kept


async def count_parked_in(folder: Path) -> list[ParkedCount]:
    """What lies parked in a state folder; nothing if that cannot be told at the moment."""
    try:
        counts = await asyncio.to_thread(parked_counts, folder)
    except (OSError, sqlite3.Error) as error:
        log.error("parked events cannot be counted", error=str(error))
        return []
    return [
        ParkedCount(source=source, connector=connector, cause=cause, events=events)
        for source, connector, cause, events in counts
    ]


def _state(lane: LiveLane) -> tuple[State, Literal["admin", "destination"] | None, float | None]:
    """The state of a lane, who paused it, and since when."""
    trouble, held = lane.delivery.health.trouble, lane.delivery.breaker.held
    if held is not None:
        return "paused", "admin", held
    if lane.fault:
        return "broken", None, None
    if trouble is None or trouble.over is not None:
        return "working", None, None
    return ("paused", "destination", trouble.paused) if trouble.paused else ("failing", None, trouble.since)


def _last_error(lane: LiveLane) -> LastError | None:
    trouble = lane.delivery.health.trouble
    if lane.fault:
        return LastError(at=time.time(), reason=lane.fault, status=None)
    return LastError(at=trouble.last, reason=trouble.reason, status=trouble.status) if trouble else None
