"""Parked events on their way again, when an admin asks for it.

They stay parked until the cursor that counts them otherwise is saved: a crash before that delivers them once more, in
the same batch (`cuts`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from time import perf_counter
from typing import Final

import structlog

from relay.api import Batch, BatchSettings, Block
from relay.deliver.admission import Stopped
from relay.deliver.batch.groups import divided
from relay.deliver.batch.parts import Outcome, Settled, highest, within
from relay.deliver.batch.sent_together import Cuts
from relay.deliver.delivery import Delivery
from relay.deliver.window import size_of
from relay.route import ENOUGH_BYTES, ENOUGH_S, Failed, Routed
from relay.state import Counts, Parked, State, make_ranges

LATER_S: Final = 0.5
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Of parked events a batch to deliver, those whose filter failed again, and by offset the outcomes that are clear
    already."""

    parked: Sequence[Parked]
    batch: Batch | None
    failed: Sequence[Failed]
    clear: Mapping[int, Outcome]


async def prepare(parked: Sequence[Parked], route: Callable[[Block], Routed]) -> Prepared:
    """Route what a failed filter had parked, as far as that is enough for once; all else has been through the filters
    and is sent as it is. Others have their turn meanwhile."""
    taken: list[Parked] = []
    wanted: list[Block] = []
    failed: list[Failed] = []
    clear: dict[int, Outcome] = {}
    made, late = 0, perf_counter() + ENOUGH_S
    for one in parked:
        taken.append(one)
        block = Block.of([one.event])  # one each: they came at different times
        if one.cause != "filter":
            wanted.append(block)
            continue
        routed = route(block)
        failed += routed.failed
        if routed.wanted is not None:
            wanted.append(routed.wanted)
            made += len(routed.wanted.body)
        elif not routed.failed:
            clear[block.offsets[0]] = "filtered" if routed.filtered else "unselected"
        if made >= ENOUGH_BYTES:
            break
        if perf_counter() > late:
            await asyncio.sleep(0)
            late = perf_counter() + ENOUGH_S
    return Prepared(taken, Batch(wanted) if wanted else None, failed, clear)


def correction(prepared: Prepared, settled: Iterable[Settled], beside: Container[int]) -> Counts:
    """By how much the ledger changes that counts these events as parked. An event stays parked if anything of it was
    parked once more, or lies parked `beside` what was sent (offsets)."""
    outcomes = dict(prepared.clear)
    for each in settled:
        for offset in each.offsets:
            outcomes[offset] = highest(outcomes.get(offset, each.outcome), each.outcome)
    counts = Counts()
    for offset, outcome in outcomes.items():
        if outcome != "parked" and offset not in beside:
            counts += Counts(**{outcome: 1})
    return counts + Counts(parked=-counts.total)


class Again:
    """Delivers the parked events of one lane that are marked for it."""

    def __init__(
        self,
        delivery: Delivery,
        route: Callable[[Block], Routed],
        limits: BatchSettings,
        state: State,
        cuts: Cuts,
        count: Callable[[Counts], None],
        after: Callable[[], Awaitable[None]],
        is_counted: Callable[[int], bool],
    ) -> None:
        """`is_counted` tells of an offset whether the lane's ledger counts the event there."""
        self._delivery, self._route, self._limits = delivery, route, limits
        self._admission, self._window = delivery.admission, delivery.admission.window
        self._state, self._count, self._after = state, count, after
        self._cuts = cuts
        """Of the batch that is under way."""
        self._is_counted = is_counted
        self._look = asyncio.Event()
        self._done: list[Parked] = []

    @property
    def done(self) -> Sequence[Parked]:
        """Those that have an outcome, and only wait for the cursor to be saved."""
        return tuple(self._done)

    def saved(self, number: int) -> None:
        """So many of those that are done are on disk."""
        del self._done[:number]
        if number and not self._done:
            self._cuts.clear()

    async def begin(self) -> None:
        """Nothing is on its way."""
        await self._cuts.open()

    def close(self) -> None:
        """Let go of its file, once it has ended."""
        self._cuts.close(lambda cut: False)

    def look(self) -> None:
        """There may be some."""
        self._look.set()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Batch after batch, each time there may be some, and what is to be done after that."""
        while True:
            await self._look.wait()
            self._look.clear()
            while marked := await self._marked():
                await self._admission.admit(len(marked), size_of([one.event for one in marked]))
                task = await self._admission.start(group, partial(self._deliver, marked), "deliver again", len(marked))
                await asyncio.wait([task])  # it goes on when this is cancelled
            await self._after()

    async def _marked(self) -> list[Parked]:
        """Parked events to deliver, once those before them are off the list."""
        while self._done:
            self._window.save_soon()
            await self._window.moved()
        name, limits = self._delivery.destination.name, self._limits
        for cut in self._cuts.all:
            offsets = [offset for start, stop in cut for offset in range(start, stop)]
            found = self._due(await self._state.read_marked(name, limits.events, limits.size, offsets))
            if {one.offset for one in found} == {*offsets}:
                return found
        self._cuts.clear()
        found = self._due(await self._state.read_marked(name, limits.events, limits.size))
        if found:
            self._cuts.add(make_ranges(sorted({one.event.offset for one in found})))
        return found

    def _due(self, marked: Sequence[Parked]) -> list[Parked]:
        """The first of these that go together. What the lane does not count yet, because it is still busy with others
        of its batch or with other parts of its event, is looked at a little later."""
        due = [one for one in marked if one.replay is not None or self._is_counted(one.event.offset)]
        if len(due) < len(marked):
            asyncio.get_running_loop().call_later(LATER_S, self._look.set)
        return list(takewhile(lambda one: _like(one) == _like(due[0]), due))

    async def _deliver(self, marked: Sequence[Parked]) -> None:
        admitted, size = len(marked), size_of([one.event for one in marked])
        prepared, settled = await prepare(marked, self._route), list[Settled]()
        marked = prepared.parked
        beside = await self._beside(marked)
        try:
            await self._delivery.parking.failed(prepared.failed, attempts=1)
            for group in divided(prepared.batch, self._limits.group_by) if prepared.batch is not None else ():
                for batch in within(group, self._limits):
                    await self._delivery.finish(batch, settled.append, before=marked[0].attempts)
        except Stopped:
            return
        if _is_counted(marked[0]):
            self._count(correction(prepared, settled, beside))
        self._done += marked
        self._window.settled(admitted, size)
        again = len(prepared.failed) + sum(len(each.batch) for each in settled if each.outcome == "parked")
        name = self._delivery.destination.name
        log.info("parked events replayed", connector=name, events=len(marked), parked_again=again)

    async def _beside(self, marked: Sequence[Parked]) -> set[int]:
        """The offsets of those of which other parts lie parked that are not sent now."""
        sent = {(one.event.offset, one.part) for one in marked}
        places = await self._state.read_parked_places(self._delivery.destination.name, [offset for offset, _ in sent])
        return {offset for offset, _ in places - sent}


def _like(one: Parked) -> tuple[bool, int]:
    """What those have in common that go together."""
    return _is_counted(one), one.attempts


def _is_counted(one: Parked) -> bool:
    """Whether the lane's ledger counts it as parked; what a replay had parked is in the replay's own ledgers."""
    return one.replay is None
