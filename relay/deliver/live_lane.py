"""The lane of a connector: it follows the journal's head, and takes parked events once more when asked to."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from relay.api import ConnectorSettings
from relay.api.internal import LeftBehind
from relay.catalogue import Selection
from relay.config import Made
from relay.deliver.batch.sent_together import Cuts
from relay.deliver.delivery import HANGS, Delivery
from relay.deliver.destination import SharedDestination
from relay.deliver.lane import Lane, Snapshot
from relay.deliver.opener import Opener
from relay.deliver.rate_limit import limit_batches
from relay.deliver.redelivery import Again
from relay.deliver.window import EVENT_BYTES, Window
from relay.journal import Journal
from relay.route import Route
from relay.state import Counts, Cursor, Pause, Replay, State, find_unsettled

log = structlog.stdlib.get_logger()


class LiveLane(Lane):
    """The lane of a connector: it follows the journal's head, and takes parked events once more when asked to."""

    def __init__(
        self,
        made: Made,
        settings: ConnectorSettings,
        route: Route,
        cursor: Cursor,
        *,
        journal: Journal,
        state: State,
        save_soon: Callable[[], None],
        behind: LeftBehind,
    ) -> None:
        """`behind`: what goes on in threads of connectors that had this name before."""
        destination = SharedDestination(made.connector, settings, keeps_order=made.traits.keeps_order)
        delivery = Delivery(destination, Window(settings.window, memory_of(settings), save_soon), state)
        limits = limit_batches(settings.batch, settings.rate)
        self.connector, self.traits = made.connector, made.traits
        self.opener = Opener(made.connector, made.connector.name)
        self._openers = [self.opener, *(Opener(one, made.connector.name) for one in made.filters)]
        cuts = Cuts(state.folder, made.connector.name, journal.identity)
        super().__init__(delivery, limits, route, cursor, journal=journal, ready=self._open, cuts=cuts)
        self._state, self._behind = state, behind
        self._again = Again(
            delivery,
            route,
            limits,
            state,
            cuts.beside("again"),
            self.correct,
            self._read_keys,
            self._is_counted,
        )

    @property
    def fault(self) -> str:
        """Why the connector or a filter is not open, or why the lane failed where it stands; "" if neither is so."""
        return next((one.problem for one in self._openers if one.problem), super().fault)

    async def _open(self) -> None:
        """Have the connector and the filters open, as often as it takes, once the last one's threads are back."""
        await self._delivery.back(self._behind, asyncio.sleep)
        async with asyncio.TaskGroup() as group:
            for one in self._openers:
                group.create_task(one.open(), name=f"lane {self.name}: open")

    async def _opened(self) -> None:
        """Wait until they are."""
        for one in self._openers:
            await one.opened()

    async def tried(self) -> str:
        """Wait until each of them is open, or could not be opened; return why one could not."""
        if self._behind:
            return HANGS
        problems = [await one.tried() for one in self._openers]
        return next(filter(None, problems), "")

    def in_threads(self) -> LeftBehind:
        """What goes on now in threads of this connector, and of those that had its name before."""
        found = LeftBehind()
        for each in (self._behind, self.connector.work_in_threads):
            found.take(each)
        return found

    async def release(self, within: float) -> None:
        """Let go of the connector and of the filters, all of them within so many seconds."""
        async with asyncio.TaskGroup() as group:
            for one in self._openers:
                group.create_task(one.close(within), name=f"lane {self.name}: close")

    async def _begin(self) -> None:
        await super()._begin()
        await self._again.begin()
        open_ranges = find_unsettled(self.cursor.position, self._journal.head, self.cursor.ahead)
        self._parked_parts.begin(await self._state.read_parked_in(self.name, open_ranges))
        await self._read_keys()

    def _is_counted(self, offset: int) -> bool:
        """Whether the ledger counts the event there, and what lies parked of it is not about to go."""
        return self.cursor.is_settled(offset) and not self._parked_parts.is_going(offset)

    async def _read_keys(self) -> None:
        """See whose parked events others have to stay behind."""
        if self._ordered is not None:
            self._ordered.order.reading()
            self._ordered.order.read(await self._state.read_parked_keys(self.name, self._parked_parts.numbers))

    def _work(self, group: asyncio.TaskGroup) -> Sequence[asyncio.Task[None]]:
        self._again.look()
        again = group.create_task(self._again.run(group), name=f"lane {self.name}: deliver again")
        return [*super()._work(group), again]

    def hold(self, pause: Pause | None) -> None:
        """Begin no attempt while an admin wants the connector paused; None: go on."""
        breaker = self.destination.breaker
        if (breaker.held is None) != (pause is None):
            log.info("lane goes on" if pause is None else "lane paused by an admin", connector=self.name)
        breaker.held = pause

    def try_now(self) -> bool:
        """Have what waits for the destination be tried again at once; False if deliveries get through."""
        is_bad = self.destination.health.is_bad
        if is_bad:
            log.info("tried again at once, as an admin asks", connector=self.name)
            self._admission.try_now()
        return is_bad

    def look_for_parked(self) -> None:
        """There may be parked events to deliver again."""
        self._again.look()

    def correct(self, counts: Counts) -> None:
        """Count events otherwise than before."""
        self.cursor.counts += counts

    def snapshot(self) -> Snapshot:
        """What is to be saved; hand it to `saved` once it is."""
        notes = self.destination.attempt_log.snapshot()
        again, retaken = self._again.done, self._parked_parts.done
        return replace(super().snapshot(), delivered_again=again, retaken=retaken, attempts=notes)

    def saved(self, snapshot: Snapshot) -> None:
        """A snapshot is on disk: its events will not be sent again."""
        self._again.saved(len(snapshot.delivered_again))
        if retaken := len(snapshot.retaken):
            self._parked_parts.saved(retaken)
            log.info("parked events delivered, as they were not settled", connector=self.name, events=retaken)
        self.destination.attempt_log.saved(snapshot.attempts)
        super().saved(snapshot)

    def close(self) -> None:
        """Let go of its files, once it has ended."""
        self._again.close()
        super().close()

    def replay(self, replay: Replay) -> Lane:
        """A lane beside this one, over an old range of the journal."""
        delivery = Delivery(
            self.destination, self._window.beside(), self._state, replay=replay.number, rate=replay.rate
        )
        limits = limit_batches(self._limits, replay.rate)
        route = Route(Selection(replay.entries, within=self._route.selection), self._route.filters)
        return Lane(
            delivery,
            limits,
            route,
            replay.cursor,
            journal=self._journal,
            ready=self._opened,
            cuts=self._cuts.beside(str(replay.number)),
            until=replay.stop,
        )


def memory_of(settings: ConnectorSettings) -> int:
    """Bytes of events that a lane may have in memory: those on their way have to fit, whatever else it says."""
    batch = settings.batch
    return max(settings.memory, settings.concurrency * (batch.size + batch.events * EVENT_BYTES))
