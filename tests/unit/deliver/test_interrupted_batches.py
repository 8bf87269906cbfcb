"""Batches that are cut short on their way go out again as they were, whatever cuts them short."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from relay.api import DELIVERED, Batch, Connector, Kind, Outcome, Reject, Retry
from relay.config.model import Config, Configured, JournalSettings
from relay.deliver.fleet import Fleet
from relay.engine import open_store
from relay.journal.journal import Journal
from relay.state.cuts import CutFile, make_cut_file
from relay.state.database import StateDatabase
from relay.state.ledger import read_ledger
from relay.state.replays import FolderReplays
from relay.store import Counts, Cursor, ParkedQuery, Replay, Unavailable
from relay.store.log import JournalLimits
from relay.testing import make_event
from tests.parked import list_parked, mark_parked

KIND = Kind("braze", "users.messages.email.Open")
Answer = Callable[[Batch], Awaitable[Sequence[Outcome] | None]]


class Taker(Connector, type="taker"):
    """Notes what it is given, and answers as the test says."""

    given: ClassVar[list[Batch]]
    answer: ClassVar[Answer]

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        self.given.append(batch)
        return await type(self).answer(batch)


async def take(batch: Batch) -> None:
    """Delivered."""


async def hang(batch: Batch) -> None:
    """On its way for as long as the test likes."""
    await asyncio.Event().wait()


class LateCuts(CutFile):
    """Cuts that are saved when the test says so."""

    writes: ClassVar[list[asyncio.Future[None]]]

    def append(self, line: bytes) -> asyncio.Future[None]:  # type: ignore[override]
        super().append(line)
        return self._begin()

    def rewrite(self, lines: Sequence[bytes]) -> asyncio.Future[None]:  # type: ignore[override]
        super().rewrite(lines)
        return self._begin()

    def _begin(self) -> asyncio.Future[None]:
        self.writes.append(asyncio.get_running_loop().create_future())
        return self.writes[-1]


class Bench:
    """A fleet of one lane in a folder, that can be cut short."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @asynccontextmanager
    async def running(self, answer: Answer, **settings: Any) -> AsyncIterator[Fleet]:
        """At the end what is on its way is cut short."""
        Taker.given, Taker.answer = [], staticmethod(answer)
        table = {"type": "taker", "retry": {"first": "1ms", "max": "2ms"}, "concurrency": 2, **settings}
        made = Configured("it", Taker, Taker.Settings.model_validate(table))
        self.journal = Journal(self.folder / "journal", JournalLimits(1 << 30, 3600), 1 << 20)
        self.state = StateDatabase(self.folder)
        fleet = Fleet(self.journal, self.state, self.folder)
        await fleet.open(Config(connectors={"it": made}))  # type: ignore[dict-item]
        running = asyncio.get_running_loop().create_task(fleet.run(), name="fleet")
        try:
            yield fleet
        finally:
            fleet.stop()
            running.cancel()
            await asyncio.wait([running], timeout=30)
            assert running.done()
            await self.journal.close()
            self.state.close()

    def crash(self) -> "Bench":
        """What is in the folder at this moment, as after kill -9."""
        self.journal._thread.submit(lambda: None).result()
        self.state.thread.call(lambda: None)
        following = self.folder.with_name(f"{self.folder.name} again")
        shutil.copytree(self.folder, following)
        return Bench(following)

    async def send(self, count: int, **properties: Any) -> None:
        await self.journal.append([KIND] * count, [make_event(n=n, **properties) for n in range(count)])


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def given() -> list[list[int]]:
    return [batch.offsets() for batch in Taker.given]


def ids() -> list[str]:
    return [batch.id for batch in Taker.given]


def hang_at(
    under_way: Sequence[int], refuse: int | None = None, again: Sequence[int] = (), later: int | None = None
) -> Answer:
    """Hang with this batch, refuse one with this event, and have some events tried again, one of them a lot later."""

    async def answer(batch: Batch) -> Sequence[Outcome] | None:
        offsets = batch.offsets()
        if offsets == under_way:
            await hang(batch)
        if refuse in offsets:
            raise Reject("HTTP 400: not liked")
        if again and len(offsets) > len(again):
            waits = dict.fromkeys(again) | {later: 60.0}
            return [Retry("busy", after=waits[one]) if one in waits else DELIVERED for one in offsets]
        return None

    return answer


@pytest.mark.promise(6)
@pytest.mark.parametrize("order", ["", "properties.n"])
@pytest.mark.parametrize("way", ["crash", "stop"])
@pytest.mark.parametrize(
    ("under_way", "moods"),
    [
        ([0, 1, 2, 3, 4], {}),
        ([5, 6], {"refuse": 9}),
        ([2, 5, 6], {"again": [2, 5, 6]}),
        ([2, 5], {"again": [2, 5], "later": 6}),
    ],
    ids=["whole", "a part of a half", "some of it", "some of it, and some later"],
)
async def test_what_is_cut_short_goes_out_again_under_its_key(
    tmp_path: Path, order: str, way: str, under_way: list[int], moods: dict[str, Any]
) -> None:
    """Looked at as well: lanes that keep an order, halves of refused batches, events that are tried again."""
    bench, whole = Bench(tmp_path / "state"), len(under_way) == 5
    size = 5 if whole else 10
    async with bench.running(hang_at(under_way, **moods), batch={"events": size}, order_by=order) as fleet:
        await bench.send(size)
        await until(lambda: under_way in given())
        lane, sent = fleet.lanes[0], ids()[given().index(under_way)]
        await fleet.save()
        following = bench.crash() if way == "crash" else bench
    bench = following
    async with bench.running(take, batch={"events": 1000, "age": "1s"}, order_by=order) as fleet:
        await bench.send(3)
        lane = fleet.lanes[0]
        await until(lambda: lane.cursor.position == bench.journal.head)
    if "again" in moods and way == "crash" and not order:  # nothing was saved: all goes, as it had gone first
        assert given()[0] == list(range(10))
    else:
        assert sent in ids()
    delivered = sorted(n for offsets in given() for n in offsets)
    assert delivered == sorted({*delivered}), "nothing goes twice"
    assert {*under_way, *range(size, size + 3)} <= {*delivered}


async def test_a_batch_waits_as_a_whole_for_an_earlier_one_that_goes_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent before a crash, and the crash came before the earlier one was saved as delivered."""
    monkeypatch.setattr("relay.state.database.SAVE_S", 3600.0)
    bench = Bench(tmp_path / "state")
    async with bench.running(hang_at([2, 3, 4]), order_by="properties.n") as fleet:
        await bench.send(2)
        await until(lambda: fleet.lanes[0].cursor.position == 2)
        await bench.send(3)
        await until(lambda: given() == [[0, 1], [2, 3, 4]])
        following = bench.crash()
    async with following.running(take, order_by="properties.n") as fleet:
        await until(lambda: fleet.lanes[0].cursor.position == 5)
        assert given() == [[0, 1], [2, 3, 4]]


async def test_a_lane_at_rest_a_reload_and_a_replay_cut_again_where_they_had_cut(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "state")
    async with bench.running(hang, batch={"events": 7}) as fleet:
        for _ in range(2):
            await bench.send(4)
            await until(lambda: sum(map(len, given())) == bench.journal.head)
        before = ids()

        async def nothing(connector: str) -> Counts:
            return Counts()

        await bench.send(4)
        Taker.given.clear()
        await fleet.rest_each_lane(nothing)
        await until(lambda: len(given()) == 2)
        assert ids() == before
        following = bench.crash()
    async with following.running(take, batch={"events": 7}) as fleet:
        await until(lambda: fleet.lanes[0].cursor.position == following.journal.head)
        await until(
            lambda: read_ledger(following.folder)["it"].pending == 0
        )  # saved, so that only the replay goes again
        assert ids()[:2] == before
        Taker.given.clear()
        Taker.answer = staticmethod(hang)
        FolderReplays(following.folder).ask(Replay("it", Cursor(1, 1), 12))
        await until(lambda: len(given()) == 2)
        sent, last = ids(), following.crash()
    wider = Bench(shutil.copytree(last.folder, tmp_path / "wider"))
    async with wider.running(take, batch={"events": 1000}) as fleet:
        await until(lambda: not fleet.replays)
        assert ids() == sent
    async with last.running(take, batch={"events": 3}) as fleet:
        await until(lambda: not fleet.replays)
        assert given()[0] != [1, 2, 3, 4, 5, 6, 7], "narrower limits hold for what goes out again"
        assert sorted(n for offsets in given() for n in offsets) == list(range(1, 12))
    assert len(sent) == 2


async def test_parked_events_that_are_on_their_way_again_go_in_the_same_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "state")

    async def refuse(batch: Batch) -> None:
        raise Reject("HTTP 400: not liked")

    async with bench.running(refuse, batch={"events": 1, "age": "0ms"}) as fleet:
        await bench.send(6)
        await until(lambda: fleet.lanes[0].cursor.position == 6)
    numbers = {one.offset: one.number for one in list_parked(bench.folder)}
    mark_parked(bench.folder, ParkedQuery(numbers=[numbers[n] for n in (2, 3, 5)]))
    async with bench.running(hang):
        await until(lambda: given() == [[2, 3, 5]])
        sent, following = ids(), bench.crash()
    mark_parked(following.folder, ParkedQuery())
    async with following.running(take):
        await until(lambda: not list_parked(following.folder))
        assert ids()[:1] == sent
        assert given() == [[2, 3, 5], [0, 1, 4]]


async def test_a_connector_that_is_forgotten_takes_its_cuts_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.running(hang):
        await bench.send(2)
        await until(given)
    file = make_cut_file(tmp_path, "it")
    assert file.exists()
    open_store(tmp_path, JournalSettings()).forget("it")
    assert not file.exists()


@pytest.mark.parametrize("way", ["crash", "stop"])
async def test_groups_are_resent_as_they_were_and_delivered_groups_are_not(tmp_path: Path, way: str) -> None:
    bench, kinds = Bench(tmp_path / "state"), [KIND, Kind("braze", "users.messages.sms.Send")]
    batch = {"events": 6, "group_by": ["type", "source"]}

    async def hang_with_one(batch: Batch) -> None:
        assert len({event.type for event in batch}) == 1
        if batch[0].type == KIND.type:
            await hang(batch)

    async with bench.running(hang_with_one, batch=batch):
        await bench.journal.append(kinds * 3, [make_event(n=n) for n in range(6)])
        await until(lambda: len(given()) == 2)
        sent, following = ids(), bench.crash() if way == "crash" else bench
    assert given() == [[0, 2, 4], [1, 3, 5]]
    async with following.running(take, batch=batch) as fleet:
        await following.send(1)
        await until(lambda: fleet.lanes[0].cursor.position == following.journal.head)
        assert fleet.lanes[0].cursor.counts == Counts(delivered=7)
        assert ids()[:-1] == (sent if way == "crash" else sent[:1])


async def test_parked_events_go_again_in_groups(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "state")

    async def refuse(batch: Batch) -> None:
        raise Reject("HTTP 400: not liked")

    async with bench.running(refuse) as fleet:
        await bench.journal.append([KIND, Kind("other", KIND.type)] * 2, [make_event(n=n) for n in range(4)])
        await until(lambda: fleet.lanes[0].cursor.position == 4)
    mark_parked(bench.folder, ParkedQuery())
    async with bench.running(take, batch={"group_by": "source"}):
        await until(lambda: not list_parked(bench.folder))
        assert given() == [[0, 2], [1, 3]]


@pytest.mark.parametrize("settings", [{}, {"order_by": "properties.n"}, {"batch": {"align": "10ms", "age": "1h"}}])
async def test_batches_that_are_larger_than_the_window_go_on(tmp_path: Path, settings: dict[str, Any]) -> None:
    bench = Bench(tmp_path / "state")
    batch = {"events": 50, "age": "20ms"} | settings.pop("batch", {})
    async with bench.running(take, batch=batch, window=7, **settings) as fleet:
        for _ in range(4):
            await bench.send(60)
        await until(lambda: fleet.lanes[0].cursor.counts.delivered == 240)
        assert max(map(len, given())) > 7


async def test_a_batch_goes_out_once_its_cut_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.state.database.CutFile", LateCuts)
    LateCuts.writes = []
    bench = Bench(tmp_path / "state")
    async with bench.running(take) as fleet:
        for number in range(2):
            await bench.send(1)
            await until(lambda: len(LateCuts.writes) == number + 1)  # noqa: B023
            await fleet.save()
            assert len(given()) == number
            LateCuts.writes[number].set_result(None)
            await until(lambda: fleet.lanes[0].cursor.position == number + 1)  # noqa: B023


async def test_a_batch_goes_out_when_its_cut_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("relay.state.database.CutFile", LateCuts)
    LateCuts.writes = []
    bench = Bench(tmp_path / "state")
    async with bench.running(take) as fleet:
        await bench.send(1)
        await until(lambda: LateCuts.writes)
        LateCuts.writes[0].set_exception(Unavailable("planted"))
        await bench.send(1)
        await until(lambda: fleet.lanes[0].cursor.position == 2)
    assert capsys.readouterr().out.count("cuts cannot be kept") == 1
