"""Replay of parked events: sends them again when an admin asks for it.

A replayed event stays parked until the cursor that counts it otherwise is saved. A crash before that sends the event
again, in the same batch (`cuts`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from time import perf_counter
from typing import Final

import structlog
from msgspec import Struct

from relay.api import Batch, BatchSettings, Block
from relay.deliver.admission import Stopped
from relay.deliver.batch.groups import divide_by_group
from relay.deliver.batch.parts import EventOutcome, Settled, combine_outcomes, split_to_limits
from relay.deliver.batch.sent_together import Cuts
from relay.deliver.delivery import Delivery
from relay.deliver.window import measure_memory
from relay.route import ENOUGH_BYTES, ENOUGH_S, Failed, Routed
from relay.store import Counts, Parked, State, make_ranges

LATER_S: Final = 0.5
log = structlog.stdlib.get_logger()


class PreparedReplay(Struct, frozen=True):
    """Parked events, prepared: a batch to deliver, events whose filter failed again, and outcomes that are known, by
    offset."""

    parked: Sequence[Parked]
    batch: Batch | None
    failed: Sequence[Failed]
    clear: Mapping[int, EventOutcome]


async def prepare(parked: Sequence[Parked], route: Callable[[Block], Routed]) -> PreparedReplay:
    """Route events that a failed filter had parked, as far as that is enough for once. Other events have been through
    the filters and are sent as they are. Other tasks have their turn meanwhile."""
    taken: list[Parked] = []
    wanted: list[Block] = []
    failed: list[Failed] = []
    clear: dict[int, EventOutcome] = {}
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
    return PreparedReplay(taken, Batch(wanted) if wanted else None, failed, clear)


def compute_correction(prepared: PreparedReplay, settled: Iterable[Settled], beside: Container[int]) -> Counts:
    """Return how the ledger changes, which counts these events as parked. An event stays parked if a part of it was
    parked again, or lies parked at one of the offsets `beside`."""
    outcomes = dict(prepared.clear)
    for each in settled:
        for offset in each.offsets:
            outcomes[offset] = combine_outcomes(outcomes.get(offset, each.outcome), each.outcome)
    counts = Counts()
    for offset, outcome in outcomes.items():
        if outcome != "parked" and offset not in beside:
            counts += Counts(**{outcome: 1})
    return counts + Counts(parked=-counts.total)


class ParkedReplay:
    """Delivers the parked events of one lane that are marked for a replay."""

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
        """`is_counted` returns whether the lane's ledger counts the event at an offset."""
        self._delivery, self._route, self._limits = delivery, route, limits
        self._admission, self._window = delivery.admission, delivery.admission.window
        self._state, self._count, self._after = state, count, after
        self._cuts = cuts
        """The cuts of the batch under way."""
        self._is_counted = is_counted
        self._woken = asyncio.Event()
        self._done: list[Parked] = []

    @property
    def done(self) -> Sequence[Parked]:
        """Events that have an outcome and wait for the next checkpoint."""
        return tuple(self._done)

    def mark_saved(self, number: int) -> None:
        """Forget the first events of `done`, so many of which are on disk."""
        del self._done[:number]
        if number and not self._done:
            self._cuts.clear()

    async def open(self) -> None:
        """Read the cuts. Nothing is under way."""
        await self._cuts.open()

    def close(self) -> None:
        """Close the saved cuts, once the lane has ended."""
        self._cuts.close(lambda cut: False)

    def wake(self) -> None:
        """Look for events to replay."""
        self._woken.set()

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Replay batch after batch, each time after `wake`; then call `after`."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while marked := await self._read_marked():
                await self._admission.admit(len(marked), measure_memory([one.event for one in marked]))
                task = await self._admission.start(group, partial(self._deliver, marked), "deliver again", len(marked))
                await asyncio.wait([task])  # it goes on when this is cancelled
            await self._after()

    async def _read_marked(self) -> list[Parked]:
        """Read parked events to deliver, once earlier ones are saved."""
        while self._done:
            self._window.save_soon()
            await self._window.wait_for_change()
        name, limits = self._delivery.destination.name, self._limits
        for cut in self._cuts.all:
            offsets = [offset for start, stop in cut for offset in range(start, stop)]
            found = self._pick_due(await self._state.read_marked(name, limits.events, limits.size, offsets))
            if {one.offset for one in found} == {*offsets}:
                return found
        self._cuts.clear()
        found = self._pick_due(await self._state.read_marked(name, limits.events, limits.size))
        if found:
            self._cuts.add(make_ranges(sorted({one.event.offset for one in found})))
        return found

    def _pick_due(self, marked: Sequence[Parked]) -> list[Parked]:
        """Return the first of the marked events that go together. Some events are not counted by the lane yet: other
        events of their batch, or other parts, are under way. Look again for them a little later."""
        due = [one for one in marked if one.replay is not None or self._is_counted(one.event.offset)]
        if len(due) < len(marked):
            asyncio.get_running_loop().call_later(LATER_S, self._woken.set)
        return list(takewhile(lambda one: _find_alike(one) == _find_alike(due[0]), due))

    async def _deliver(self, marked: Sequence[Parked]) -> None:
        admitted, size = len(marked), measure_memory([one.event for one in marked])
        prepared, settled = await prepare(marked, self._route), list[Settled]()
        marked = prepared.parked
        sent = {(one.event.offset, one.part) for one in marked}
        places = await self._state.read_parked_places(self._delivery.destination.name, [offset for offset, _ in sent])
        beside = {offset for offset, _ in places - sent}  # other parts of these events lie parked, and are not sent now
        try:
            await self._delivery.parking.park_failed(prepared.failed, attempts=1)
            await self._cuts.await_saved()
            for group in divide_by_group(prepared.batch, self._limits.group_by) if prepared.batch is not None else ():
                for batch in split_to_limits(group, self._limits):
                    await self._delivery.finish(batch, settled.append, before=marked[0].attempts)
        except Stopped:
            return
        if _is_counted(marked[0]):
            self._count(compute_correction(prepared, settled, beside))
        self._done += marked
        self._window.settle(admitted, size)
        again = len(prepared.failed) + sum(len(each.batch) for each in settled if each.outcome == "parked")
        name = self._delivery.destination.name
        log.info("parked events replayed", connector=name, events=len(marked), parked_again=again)


def _find_alike(one: Parked) -> tuple[bool, int]:
    """Return what events that go together have in common."""
    return _is_counted(one), one.attempts


def _is_counted(one: Parked) -> bool:
    """Whether the lane's ledger counts the event as parked. What a replay had parked is in the ledger of the replay."""
    return one.replay is None
