"""A filter splits events: the books count each event once, and what a destination refuses of one is parked by itself.

Looked at: the lane, an ordered lane, parked parts sent again, a filter that failed first, limits, a restart.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.api import Batch, Connector, ConnectorSettings, Event, Filter, Kind, Reject, Retry, User
from relay.config.model import Config, Configured
from relay.inspect.audit import audit
from relay.inspect.search import search_all
from relay.inspect.trace import trace_all
from relay.state.database import StateDatabase
from relay.state.ledger import read_ledger
from relay.state.state_folder import StateFolder
from relay.store import Counts, ParkedQuery
from relay.store.users import Wanted
from tests.parked import drop_parked, list_parked, mark_parked
from tests.unit.deliver.one_lane import OneLane

KIND = Kind("shop", "shop.Order")


class Items(Filter, type="items"):
    """One event per item; fails while it is told to."""

    fails = False

    def apply(self, event: Event) -> list[Event]:
        if Items.fails:
            raise LookupError("no items yet")
        rest = {name: value for name, value in event.data.items() if name != "items"}
        return [
            event.with_data(rest | {"item": item, "user": {"user_id": item}}).with_type("shop.Item")
            for item in event.data["items"]
        ]


class Till(Connector, type="till"):
    """Takes what it likes."""

    def __init__(self, name: str, settings: ConnectorSettings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        self.refuses: Callable[[Event], object] = lambda event: False
        self.taken: list[Event] = []
        self.batches: list[Batch] = []
        self.busy = 0

    async def deliver(self, batch: Batch) -> None:
        self.batches.append(batch)
        if self.busy:
            self.busy -= 1
            raise Retry("busy")
        if any(map(self.refuses, batch)):
            raise Reject("HTTP 400")
        self.taken += batch

    @property
    def items(self) -> list[str]:
        return [event.data["item"] for event in self.taken]


class Bench(OneLane[Till]):
    patience = 20

    def __init__(self, folder: Path, **settings: Any) -> None:
        quick = {"retry": {"first": "1ms", "max": "2ms"}, "batch": {"events": 10, "age": "0ms"}, "filters": ["items"]}
        made = Till.Settings.model_validate({"type": "till"} | quick | settings)
        config = Config(
            connectors={"it": Configured("it", Till, made)},
            filters={"items": Configured("items", Items, Items.Settings.model_validate({"type": "items"}))},
        )
        super().__init__(folder, config, Till)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Till]:
        """The books are right at the end."""
        async with super().running() as till:
            yield till
        problems = audit(StateFolder(self.folder, Path("journal")).view()).problems
        assert not [problem for problem in problems if problem.startswith("it: ")]

    async def send(self, *orders: list[str]) -> None:
        start = self.journal.head
        bodies = [orjson.dumps({"id": f"o{start + n}", "items": items}) for n, items in enumerate(orders)]
        await self.journal.append([KIND] * len(orders), bodies)

    async def replayed(self, offset: int, part: int) -> None:
        """Have one parked part sent again, and wait until it was."""
        (one,) = [one for one in list_parked(self.folder) if (one.offset, one.part) == (offset, part)]
        mark_parked(self.folder, ParkedQuery(numbers=[one.number]))
        async with asyncio.timeout(60):
            while any(each.number == one.number and each.attempts == one.attempts for each in list_parked(self.folder)):
                await asyncio.sleep(0.005)

    def parked(self) -> list[tuple[int | None, int, str]]:
        return [(one.offset, one.part, one.event.id) for one in list_parked(self.folder)]


@pytest.fixture(autouse=True)
def at_ease() -> None:
    Items.fails = False


ORDERED = {"order_by": "item", "after_parked": "park"}


@pytest.mark.parametrize("settings", [{}, ORDERED, {"concurrency": 1}], ids=str)
async def test_refused_parts_of_an_event_are_parked_and_resent_alone(tmp_path: Path, settings: dict[str, Any]) -> None:
    bench = Bench(tmp_path, **settings)
    async with bench.running() as till:
        till.refuses = lambda event: event.data["item"] in ("b", "c", "e")
        await bench.send(["a", "b", "c", "d"], [], ["e"], ["f", "g"])
        await bench.until(delivered=1, filtered=1, parked=2)
        assert sorted(till.items) == ["a", "d", "f", "g"]
        assert {event.type for event in till.taken} == {"shop.Item"}
        assert sorted(bench.parked()) == [(0, 1, "o0-2"), (0, 2, "o0-3"), (2, 0, "o2")]

        (found,) = trace_all("o0", search_all(StateFolder(tmp_path, Path("journal")), "o0"), bench.config).workers
        (way,) = found.journal[0].connectors
        assert way.filters == "split into 4 by items"
        assert [(one.part, one.id, one.type) for one in way.parts][::3] == [
            (0, "o0", "shop.Item"),
            (3, "o0-4", "shop.Item"),
        ]
        assert way.state == "parked (part 1: refused: HTTP 400; part 2: refused: HTTP 400)"
        (found,) = search_all(StateFolder(tmp_path, Path("journal")), "o0-3")
        assert [(one.offset, one.part, one.reason) for one in found.parked] == [(0, 2, "HTTP 400")]

        till.refuses = lambda event: event.data["item"] == "c"
        await bench.replayed(0, 2)
        await bench.until(delivered=1, filtered=1, parked=2)
        assert sorted(bench.parked()) == [(0, 1, "o0-2"), (0, 2, "o0-3"), (2, 0, "o2")]
        till.refuses = lambda event: False
        await bench.replayed(0, 1)
        await bench.replayed(2, 0)
        await bench.until(delivered=2, filtered=1, parked=1)
        assert bench.parked() == [(0, 2, "o0-3")]
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(delivered=3, filtered=1)
        assert sorted(till.items) == ["a", "b", "c", "d", "e", "f", "g"]
        ids = {event.data["item"]: event.id for event in till.taken}
        assert ids == {"a": "o0", "b": "o0-2", "c": "o0-3", "d": "o0-4", "e": "o2", "f": "o3", "g": "o3-2"}


async def test_parts_of_one_key_stay_in_order_behind_a_parked_one(tmp_path: Path) -> None:
    """The parts of one event may have keys of their own; the key of a parked part holds up what comes later."""
    bench = Bench(tmp_path, **ORDERED)
    async with bench.running() as till:
        till.refuses = lambda event: event.offset == 0 and event.part == 1
        await bench.send(["a", "b", "b"], ["b", "c"])
        await bench.until(parked=2)
        assert sorted(bench.parked()) == [(0, 1, "o0-2"), (0, 2, "o0-3"), (1, 0, "o1")]
        assert sorted(till.items) == ["a", "c"]
        till.refuses = lambda event: False
        mark_parked(tmp_path, ParkedQuery(cause="refused"))
        await bench.until(delivered=2)
        assert [event.id for event in till.taken if event.data["item"] == "b"] == ["o0-2", "o0-3", "o1"]


async def test_an_event_that_a_filter_failed_on_is_split_when_it_is_sent_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.running() as till:
        Items.fails = True
        await bench.send(["a", "b", "c"], ["d"], [])
        await bench.until(parked=3)
        Items.fails = False
        till.refuses = lambda event: event.data["item"] == "c"
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(delivered=1, filtered=1, parked=1)
        assert bench.parked() == [(0, 2, "o0-3")]
        till.refuses = lambda event: False
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(delivered=2, filtered=1)
        assert till.items == ["a", "b", "d", "c"]


@pytest.mark.parametrize("settings", [{}, {"order_by": "id"}], ids=str)
async def test_more_parts_than_a_batch_holds_go_in_several(tmp_path: Path, settings: dict[str, Any]) -> None:
    bench = Bench(tmp_path, **settings)
    items = [f"item {n}" for n in range(25)]
    async with bench.running() as till:
        till.busy = 2
        await bench.send(["before"], items, ["behind"], items[:9])
        await bench.until(delivered=4)
        assert max(map(len, till.batches)) == 10
        assert sorted(till.items) == sorted([*items, *items[:9], "before", "behind"])
        assert len({event.id for event in till.taken}) == 36
        tried = [(batch.id, batch.bodies()) for batch in till.batches]
        assert len({name for name, _ in tried}) == len({*map(str, tried)}), "what is tried again has the same id"


async def test_an_event_with_a_part_pending_is_sent_again_after_a_restart(tmp_path: Path) -> None:
    """With the ids that it had before; what of it was parked by then is not parked twice."""
    bench = Bench(tmp_path, batch={"events": 1, "age": "0ms"}, concurrency=1)
    async with bench.running() as till:
        await bench.send(["a", "b", "c", "d"])
        till.refuses = lambda event: event.part == 1

        async def stuck(batch: Batch) -> None:
            await Till.deliver(till, batch)
            if batch[0].part == 2:
                raise Retry("not that one", after=60)

        till.deliver = stuck  # type: ignore[method-assign]
        async with asyncio.timeout(60):
            while len(till.batches) < 3:
                await asyncio.sleep(0.005)
        before = [event.id for event in till.taken]
    assert read_ledger(tmp_path)["it"].counts == Counts()
    async with bench.running() as till:
        till.refuses = lambda event: event.part == 1
        await bench.until(parked=1)
        assert [event.id for event in till.taken] == ["o0", "o0-3", "o0-4"]
        assert bench.parked() == [(0, 1, "o0-2")]
    assert before == ["o0", "o0-3"]


def only(*parts: int) -> Callable[[Filter, Event], list[Event]]:
    """A filter that makes only these parts of an event."""

    def apply(self: Filter, event: Event) -> list[Event]:
        return [part for number, part in enumerate(split(self, event)) if number in parts]

    split = Items.apply
    return apply


@pytest.mark.parametrize("settings", [{}, ORDERED], ids=str)
@pytest.mark.parametrize("made", [(), (0,), (0, 1, 2, 3)], ids=["none", "fewer", "the same"])
async def test_parked_parts_of_an_unsettled_event_stay_if_the_filter_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], made: tuple[int, ...]
) -> None:
    """With its number. Looked at: a filter that drops the event, makes fewer parts, makes the same; an ordered lane."""
    bench = Bench(tmp_path, batch={"events": 1, "age": "0ms"}, concurrency=1, **settings)
    async with bench.running() as till:
        till.refuses = lambda event: event.part == 1

        async def deliver(batch: Batch) -> None:
            await Till.deliver(till, batch)
            if batch[0].part == 2:
                raise Retry("not that one", after=60)

        till.deliver = deliver  # type: ignore[method-assign]
        await bench.send(["a", "b", "c", "d"])
        async with asyncio.timeout(60):
            while len(till.batches) < 3:
                await asyncio.sleep(0.005)
    assert read_ledger(tmp_path)["it"].counts == Counts()
    (before,) = list_parked(tmp_path)
    monkeypatch.setattr(Items, "apply", only(*made))
    async with bench.running() as till:
        till.refuses = lambda event: event.part == 1
        await bench.until(parked=1)
        (after,) = list_parked(tmp_path)
        assert (after.number, after.part, after.cause) == (before.number, 1, "refused")
        assert after.attempts == (2 if 1 in made else 1)
        await bench.send(["b"])
        till.refuses = lambda event: False
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(delivered=2 if made else 1, filtered=0 if made else 1)
        assert till.items.count("b") == (2 if made else 1)
        assert bench.parked() == []


async def test_trace_says_what_the_ledger_knows_or_that_filters_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at: a filter that drops it today, with and without others that were dropped; parked, and not any more."""
    bench = Bench(tmp_path)

    def state(id: str) -> str:
        (found,) = trace_all(id, search_all(StateFolder(tmp_path, Path("journal")), id), bench.config).workers
        return found.journal[0].connectors[0].state

    async with bench.running() as till:
        with monkeypatch.context() as changed:
            await bench.send(["a"])
            await bench.until(delivered=1)
            changed.setattr(Items, "apply", only())
            assert state("o0") == "delivered at the first attempt"
        await bench.send([])
        await bench.until(delivered=1, filtered=1)
        till.refuses = lambda event: True
        await bench.send(["b"])
        await bench.until(delivered=1, filtered=1, parked=1)
        assert state("o2") == "parked (refused: HTTP 400)"
        drop_parked(tmp_path, ParkedQuery(cause="refused"))
        assert state("o2") == "was parked, and is not parked any more"
        assert state("o1") == "filtered, if its `events` and `filters` are still the same"
        monkeypatch.setattr(Items, "apply", only())
        assert state("o0") == "filtered, if its `events` and `filters` are still the same"


async def test_a_parked_part_that_is_delivered_after_a_restart_leaves_the_parked(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, batch={"events": 1, "age": "0ms"}, concurrency=1)
    async with bench.running() as till:
        till.refuses = lambda event: event.part == 0

        async def deliver(batch: Batch) -> None:
            await Till.deliver(till, batch)
            raise Retry("not that one", after=60)

        till.deliver = deliver  # type: ignore[method-assign]
        await bench.send(["a", "b"])
        async with asyncio.timeout(60):
            while len(till.batches) < 2:
                await asyncio.sleep(0.005)
    assert bench.parked() == [(0, 0, "o0")]
    async with bench.running() as till:
        await bench.until(delivered=1)
        assert till.items == ["a", "b"]
        assert bench.parked() == []


async def test_of_the_parts_that_are_parked_those_of_an_erased_user_go(tmp_path: Path) -> None:
    """The event counts as erased only once nothing of it lies parked."""
    bench = Bench(tmp_path)
    async with bench.running() as till:
        till.refuses = lambda event: True
        await bench.send(["anna", "bob"], ["anna", "anna"])
        await bench.until(parked=2)
    state = StateDatabase(tmp_path)
    counts = await state.erasures.erase_users("it", Wanted({1: User("anna")}), {})
    state.close()
    assert counts == Counts(parked=-1, erased=1)
    assert bench.parked() == [(0, 1, "o0-2")]
    assert read_ledger(tmp_path)["it"].counts == Counts(parked=1, erased=1)


async def test_a_parked_part_is_sent_again_once_its_event_is_counted(tmp_path: Path) -> None:
    """While other parts of it, or others of its batch, have no outcome the books do not say parked yet."""
    bench = Bench(tmp_path, batch={"events": 1, "age": "0ms"}, concurrency=2)
    async with bench.running() as till:
        till.refuses = lambda event: event.data["item"] == "a"
        is_busy = True

        async def deliver(batch: Batch) -> None:
            await Till.deliver(till, batch)
            if is_busy and batch[0].data["item"] == "b":
                raise Retry("busy", after=0.01)

        till.deliver = deliver  # type: ignore[method-assign]
        await bench.send(["a", "b"])
        async with asyncio.timeout(60):
            while len(till.batches) < 5:
                await asyncio.sleep(0.005)
        till.refuses = lambda event: False
        assert mark_parked(tmp_path, ParkedQuery()) == 1
        await asyncio.sleep(0.8)  # time to do wrong
        assert read_ledger(tmp_path)["it"].counts == Counts()
        assert "a" not in till.items
        is_busy = False
        await bench.until(delivered=1)
        assert till.items.count("a") == 1


async def test_parked_events_that_filters_enlarge_are_resent_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in memory is bounded, whatever a filter makes of the events that it had failed on."""
    monkeypatch.setattr("relay.deliver.parked_replay.ENOUGH_BYTES", 300)
    bench = Bench(tmp_path, batch={"events": 100, "age": "0ms"})
    async with bench.running() as till:
        Items.fails = True
        await bench.send(*(["a", "b", "c"] for _ in range(9)))
        await bench.until(parked=9)
        Items.fails = False
        mark_parked(tmp_path, ParkedQuery())
        await bench.until(delivered=9)
        assert len(till.items) == 27
        assert len(till.batches) >= 3
        assert bench.parked() == []
