"""The lane of a connector: follows the head of the journal, and delivers parked events again on request."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from msgspec.structs import replace

from relay.api import ConnectorSettings
from relay.api.internal import LeftBehind
from relay.catalogue import Selection
from relay.config import Made
from relay.deliver.batch.sent_together import Cuts
from relay.deliver.delivery import HANGS, Delivery
from relay.deliver.destination import SharedDestination
from relay.deliver.lane import Lane, Snapshot
from relay.deliver.opener import Opener
from relay.deliver.parked_replay import ParkedReplay
from relay.deliver.rate_limit import limit_batches
from relay.deliver.window import EVENT_BYTES, Window
from relay.route import Route
from relay.store import Counts, Cursor, Log, Pause, Replay, State, find_unsettled

log = structlog.stdlib.get_logger()


class LiveLane(Lane):
    """The lane of a connector: follows the head of the journal, and delivers parked events again on request."""

    def __init__(
        self,
        made: Made,
        settings: ConnectorSettings,
        route: Route,
        cursor: Cursor,
        *,
        journal: Log,
        state: State,
        save_soon: Callable[[], None],
        behind: LeftBehind,
        may_begin: asyncio.Event,
    ) -> None:
        """`behind`: work in threads of earlier connectors of this name. The lane delivers nothing until `may_begin` is
        set."""
        destination = SharedDestination(made.connector, settings, keeps_order=made.traits.keeps_order)
        delivery = Delivery(destination, Window(settings.window, compute_memory(settings), save_soon), state)
        limits = limit_batches(settings.batch, settings.rate)
        self.connector, self.traits, self.filters = made.connector, made.traits, made.filters
        self.opener = Opener(made.connector, made.connector.name)
        self._openers = [self.opener, *(Opener(one, made.connector.name) for one in made.filters)]
        cuts = Cuts(made.connector.name, state.open_cuts(made.connector.name))
        super().__init__(delivery, limits, route, cursor, journal=journal, ready=self._open, cuts=cuts)
        self._state, self._behind, self._may_begin = state, behind, may_begin
        self._parked_replay = ParkedReplay(
            delivery,
            route,
            limits,
            state,
            Cuts(made.connector.name, state.open_cuts(made.connector.name, "again")),
            self.correct_counts,
            self._read_parked_keys,
            self._is_counted,
        )

    @property
    def fault(self) -> str:
        """Why the connector or a filter is not open, or why the lane failed where it stands; else ""."""
        return next((one.problem for one in self._openers if one.problem), super().fault)

    async def _open(self) -> None:
        """Open the connector and the filters, as often as it takes, once the threads of earlier connectors are back."""
        await self._delivery.wait_for_threads(self._behind, asyncio.sleep)
        async with asyncio.TaskGroup() as group:
            for one in self._openers:
                group.create_task(one.open(), name=f"lane {self.name}: open")
        await self._may_begin.wait()

    async def _wait_until_open(self) -> None:
        """Wait until the connector and the filters are open, and the lane may begin."""
        for one in self._openers:
            await one.wait_until_open()
        await self._may_begin.wait()

    async def wait_until_tried(self) -> str:
        """Wait until relay has tried to open the connector and each filter; return why the first of them failed, or
        ""."""
        if self._behind:
            return HANGS
        problems = [await one.wait_until_tried() for one in self._openers]
        return next(filter(None, problems), "")

    def find_thread_work(self) -> LeftBehind:
        """Return the work in threads of this connector, and of earlier connectors of its name."""
        found = LeftBehind()
        for each in (self._behind, self.connector.work_in_threads):
            found.take(each)
        return found

    async def release(self, within: float) -> None:
        """Close the connector and the filters, within so many seconds for all."""
        async with asyncio.TaskGroup() as group:
            for one in self._openers:
                group.create_task(one.close(within), name=f"lane {self.name}: close")

    async def _prepare(self) -> None:
        await super()._prepare()
        await self._parked_replay.open()
        open_ranges = find_unsettled(self.cursor.position, self._journal.head, self.cursor.ahead)
        self._parked_parts.reset(await self._state.read_parked_in(self.name, open_ranges))
        await self._read_parked_keys()

    def _is_counted(self, offset: int) -> bool:
        """Whether the ledger counts the event at an offset, and no checkpoint is about to remove a parked part of
        it."""
        return self.cursor.is_settled(offset) and not self._parked_parts.awaits_checkpoint(offset)

    async def _read_parked_keys(self) -> None:
        """Read the keys of parked events, behind which other events have to stay."""
        if self._ordered is not None:
            self._ordered.order.begin_reading_parked()
            self._ordered.order.set_parked_keys(
                await self._state.read_parked_keys(self.name, self._parked_parts.numbers)
            )

    def _start_tasks(self, group: asyncio.TaskGroup) -> Sequence[asyncio.Task[None]]:
        self._parked_replay.wake()
        again = group.create_task(self._parked_replay.run(group), name=f"lane {self.name}: deliver again")
        return [*super()._start_tasks(group), again]

    def hold(self, pause: Pause | None) -> None:
        """Begin no attempt during a pause by an admin; None ends the pause."""
        breaker = self.destination.breaker
        if (breaker.held is None) != (pause is None):
            log.info("lane goes on" if pause is None else "lane paused by an admin", connector=self.name)
        breaker.held = pause

    def use_up_rate(self) -> None:
        """Begin with a rate that is used up: another lane may just have sent as much as it may at once."""
        self.destination.rate_limit.use_up(time.monotonic())

    def try_now(self) -> bool:
        """Try at once what waits for the destination; return False if deliveries get through."""
        is_bad = self.destination.health.is_bad
        if is_bad:
            log.info("tried again at once, as an admin asks", connector=self.name)
            self._admission.try_now()
        return is_bad

    def wake_parked_replay(self) -> None:
        """Look for parked events to deliver again."""
        self._parked_replay.wake()

    def correct_counts(self, counts: Counts) -> None:
        """Add to the counts of outcomes, also negative numbers."""
        self.cursor.counts += counts

    def snapshot(self) -> Snapshot:
        """Return what to save. Hand it to `mark_saved` after the save."""
        attempts = self.destination.attempt_log.snapshot()
        again, delivered_parts = self._parked_replay.done, self._parked_parts.done
        return replace(super().snapshot(), delivered_again=again, delivered_parts=delivered_parts, attempts=attempts)

    def mark_saved(self, snapshot: Snapshot) -> None:
        """Note that a snapshot is on disk: its events are not sent again."""
        self._parked_replay.mark_saved(len(snapshot.delivered_again))
        if delivered_parts := len(snapshot.delivered_parts):
            self._parked_parts.mark_saved(delivered_parts)
            log.info("parked events delivered, as they were not settled", connector=self.name, events=delivered_parts)
        self.destination.attempt_log.mark_saved(snapshot.attempts)
        super().mark_saved(snapshot)

    def close(self) -> None:
        """Close the saved cuts of a lane that has ended."""
        self._parked_replay.close()
        super().close()

    def make_replay_lane(self, replay: Replay) -> Lane:
        """Make a lane beside this one, over an old range of the journal."""
        delivery = Delivery(
            self.destination, self._window.make_another(), self._state, replay=replay.number, rate=replay.rate
        )
        limits = limit_batches(self._limits, replay.rate)
        route = Route(Selection(replay.entries, within=self._route.selection), self._route.filters)
        return Lane(
            delivery,
            limits,
            route,
            replay.cursor,
            journal=self._journal,
            ready=self._wait_until_open,
            cuts=Cuts(self.name, self._state.open_cuts(self.name, str(replay.number))),
            until=replay.stop,
        )


def compute_memory(settings: ConnectorSettings) -> int:
    """Return the bytes of events that a lane may have in memory: `memory`, or more if the batches under way need
    more."""
    batch = settings.batch
    return max(settings.memory, settings.concurrency * (batch.size + batch.events * EVENT_BYTES))
