"""Lanes over a real journal, to connectors and destinations that misbehave."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from relay.api import (
    DELIVERED,
    Batch,
    Block,
    Connector,
    Event,
    Filter,
    Kind,
    Outcome,
    Reject,
    Retry,
    Skipped,
    Unauthorized,
)
from relay.catalogue import Selection
from relay.config.model import Config, Configured
from relay.deliver import lane as lane_module
from relay.deliver import park as parking_module
from relay.deliver.fleet import Fleet
from relay.journal.journal import Journal
from relay.route import Route, Routed
from relay.state.database import StateDatabase
from relay.state.replays import FolderReplays
from relay.store import Counts, Cursor, Parked, ParkedQuery, Replay, Unavailable
from relay.store.log import JournalLimits
from relay.testing import make_event
from tests.parked import drop_parked, list_parked, mark_parked

BUSY = Retry("busy", after=0.001, hold_lane=False)
KIND = Kind("braze", "users.messages.email.Open")
Answer = Callable[[Batch], Sequence[Outcome] | None]


class Scripted(Connector, type="scripted"):
    """Answers as the test says; remembers what it was given."""

    batches: list[list[bytes]]
    answer: Answer

    async def open(self) -> None:
        self.batches, self.delivered = [], Counter[bytes]()
        self.most_at_once = self.at_once = 0
        self.answer = lambda batch: None

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(0)
            self.batches.append(batch.bodies())
            outcomes = self.answer(batch)
            taken = [body for n, body in enumerate(batch.bodies()) if outcomes is None or outcomes[n] is DELIVERED]
            self.delivered.update(taken)
            return outcomes
        finally:
            self.at_once -= 1


class Bench:
    """A journal, a state database and a fleet of one lane in a folder."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal", JournalLimits(1 << 30, 3600), 1 << 20)
        self.state = StateDatabase(folder)
        self.fleet = Fleet(self.journal, self.state, folder)
        quick = {"retry": {"first": "1ms", "max": "2ms"}, "batch": {"events": 10, "age": "0ms"}}
        made = Scripted.Settings.model_validate({"type": "scripted"} | quick | settings)
        self.config = Config(
            connectors={"it": Configured("it", Scripted, made)},  # type: ignore[dict-item,arg-type]
        )

    @property
    def connector(self) -> Scripted:
        connector = self.fleet.lanes[0].connector
        assert isinstance(connector, Scripted)
        return connector

    async def open(self) -> None:
        """Wait until the connectors are open."""
        async with asyncio.timeout(30):
            for lane in self.fleet.lanes:
                await lane.opener.wait_until_open()

    async def send(self, count: int) -> list[bytes]:
        bodies = [make_event(n=n) for n in range(count)]
        await self.journal.append([KIND] * count, bodies)
        return bodies

    async def until(self, condition: Callable[[], bool], within: float = 30) -> None:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.01)

    async def settled(self, within: float = 30) -> None:
        async with asyncio.timeout(within):
            while self.fleet.lanes[0].cursor.position < self.journal.head:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def bench(folder: Path, **settings: Any) -> AsyncIterator[Bench]:
    it = Bench(folder, settings)
    await it.fleet.open(it.config)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(it.fleet.run(), name="fleet")
        try:
            await it.open()
            yield it
        finally:
            it.fleet.stop()
            async with asyncio.timeout(30):
                await asyncio.wait([running])
    await it.journal.close()
    it.state.close()


async def test_all_is_delivered_once_in_batches_within_the_limits(tmp_path: Path) -> None:
    async with bench(tmp_path, concurrency=3) as it:
        bodies = await it.send(95)
        await it.settled()
        assert it.connector.delivered == Counter(bodies)
        assert max(map(len, it.connector.batches)) == 10
        assert it.connector.most_at_once <= 3
        assert it.fleet.lanes[0].cursor.counts.delivered == 95


async def test_events_that_wait_alone_take_no_share_of_the_rate_from_others(tmp_path: Path) -> None:
    async with bench(tmp_path, rate=10, concurrency=1) as it:
        tries = Counter[bytes]()

        def not_now(batch: Batch) -> list[Outcome]:
            tries.update(bodies := batch.bodies())
            return [DELIVERED if b"busy" not in body or tries[body] > 30 else BUSY for body in bodies]

        it.connector.answer = not_now
        await it.journal.append(
            [KIND] * 15, [make_event(busy=n) for n in range(10)] + [make_event(n=n) for n in range(5)]
        )
        await it.settled()  # 310 events would take half a minute
        assert it.connector.delivered.total() == 15


@pytest.mark.parametrize(("way", "concurrency"), [("skipped", 4), ("parked", 1), ("refused whole", 4)])
async def test_what_a_connector_settles_by_itself_costs_no_rate(tmp_path: Path, way: str, concurrency: int) -> None:
    """Looked at as well: events that wait alone (above), a replay's own rate (below), the breaker, which such an
    event must not close, and Heap's and Braze's own budgets, which count requests alone."""
    own = Skipped("no use for it") if way == "skipped" else Reject("no identity")
    async with bench(tmp_path, rate=2, concurrency=concurrency) as it:

        def by_itself(batch: Batch) -> list[Outcome]:
            bad = [b'"bad"' in body for body in batch.bodies()]
            if way == "refused whole" and all(bad):
                raise own  # type: ignore[misc]
            return [own if one else DELIVERED for one in bad]

        it.connector.answer = by_itself
        bodies = [make_event(bad=n) if n % 40 else make_event(n=n) for n in range(1, 401)]
        await it.journal.append([KIND] * 400, bodies)
        await it.settled(within=60)  # 400 events would take 200 seconds
        counts = it.fleet.lanes[0].cursor.counts
        assert (counts.delivered, counts.filtered + counts.parked) == (10, 390)


async def test_what_a_connector_settles_by_itself_costs_no_rate_of_a_replay(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.connector.answer = lambda batch: [Skipped("no use for it")] * len(batch)
        await it.send(400)
        await it.settled()
        FolderReplays(tmp_path).ask(Replay("it", Cursor(0, 0), 400, rate=2))  # 400 events would take 200 seconds
        await it.until(lambda: bool(it.fleet.replays))
        await it.until(lambda: not it.fleet.replays, within=60)
        assert sum(map(len, it.connector.batches)) == 800


async def test_the_rate_holds_for_what_is_sent_among_events_that_are_not(tmp_path: Path) -> None:
    async with bench(tmp_path, rate=20, concurrency=4) as it:
        it.connector.answer = lambda batch: [
            DELIVERED if b'"good"' in body else Skipped("no") for body in batch.bodies()
        ]
        bodies = [make_event(n=n) for n in range(100)] + [make_event(good=n) for n in range(60)]
        await it.journal.append([KIND] * len(bodies), random.Random(1).sample(bodies, len(bodies)))
        began = time.monotonic()
        await it.settled()
        assert time.monotonic() - began > 1, "60 at 20 a second, the first second's worth or two at once"


async def test_outcomes_without_a_request_do_not_close_the_breaker(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with bench(tmp_path, concurrency=2, batch={"events": 1}) as it:
            it.connector.answer = lambda batch: [
                Reject("no identity") if b'"bad"' in body else Retry("busy") for body in batch.bodies()
            ]
            await it.journal.append([KIND] * 21, [make_event(n=0), *(make_event(bad=n) for n in range(20))])
            await it.until(lambda: it.fleet.lanes[0].cursor.counts.parked == 20)
            trouble = it.fleet.lanes[0].destination.health.trouble
    assert trouble is not None
    assert trouble.over is None
    assert "deliveries work again" not in [line["event"] for line in logs]


async def test_what_a_lane_does_not_want_is_counted_though_it_sleeps_through_it(tmp_path: Path) -> None:
    other = Kind("braze", "users.messages.sms.Send")
    async with bench(tmp_path, events=["email"]) as it:
        wanted = []
        for number in range(40):
            await it.journal.append([other] * 3, [b"{}"] * 3)
            wanted += await it.send(1 + number % 2)
        await it.settled()
        assert it.connector.delivered == Counter(wanted)
        counts = it.fleet.lanes[0].cursor.counts
        assert (counts.delivered, counts.unselected, counts.total) == (60, 120, it.journal.head)


class Odd(Filter, type="odd"):
    """Keeps every other event."""

    def apply(self, event: Event) -> Event | None:
        return event if event.properties["n"] % 2 else None


async def test_a_filter_gets_every_event_of_a_large_block(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.fleet.lanes[0]._route = Route(Selection(["*"]), [Odd("odd", Odd.Settings.model_validate({"type": "odd"}))])
        bodies = await it.send(999)
        await it.settled()
        assert it.connector.delivered == Counter(bodies[1::2])
        assert it.fleet.lanes[0].cursor.counts == Counts(delivered=499, filtered=500)


async def test_a_poison_event_is_found_by_halves_and_parked_alone(tmp_path: Path) -> None:
    async with bench(tmp_path, batch={"events": 1000, "age": "0ms"}) as it:
        poison = make_event(poison=True)

        def refuse(batch: Batch) -> None:
            if poison in batch.bodies():
                raise Reject("HTTP 400: poison")

        it.connector.answer = refuse
        bodies = [make_event(n=n) for n in range(1000)]
        bodies[617] = poison
        await it.journal.append([KIND] * 1000, bodies)
        await it.settled()
        assert it.connector.delivered == Counter(body for body in bodies if body != poison)
        assert len(it.connector.batches) <= 1 + 2 * 10
        assert it.fleet.lanes[0].cursor.counts.parked == 1
    (one,) = list_parked(tmp_path)
    assert (one.connector, one.offset, one.cause, one.reason, one.body) == (
        "it",
        617,
        "refused",
        "HTTP 400: poison",
        poison,
    )


async def test_outcomes_per_event_are_each_kept(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        tries: Counter[int] = Counter()

        def each(batch: Batch) -> list[Outcome]:
            def one(n: int) -> Outcome:
                tries[n] += 1
                if n == 3:
                    return Reject("not you")
                return Retry("later") if n % 2 and tries[n] < 4 else DELIVERED

            return [one(event.properties["n"]) for event in batch]

        it.connector.answer = each
        bodies = await it.send(8)
        await it.settled()
        assert it.connector.delivered == Counter(body for n, body in enumerate(bodies) if n != 3)
        assert [tries[n] for n in range(8)] == [1, 4, 1, 1, 1, 4, 1, 4]
        counts = it.fleet.lanes[0].cursor.counts
        assert (counts.delivered, counts.parked) == (7, 1)


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        (["no", "no"], {"events": 2, "reason": "no"}),
        (["no", "never", "no", "not"], {"events": 4, "reason": "no", "for_other_reasons": 2}),
    ],
)
async def test_that_events_are_parked_for_several_reasons_is_told(
    tmp_path: Path, reasons: list[str], told: dict[str, Any]
) -> None:
    with capture_logs() as logs:
        async with bench(tmp_path, batch={"events": len(reasons), "age": "1s"}) as it:
            it.connector.answer = lambda batch: [Reject(reason) for reason in reasons]
            await it.send(len(reasons))
            await it.settled()
    (line,) = [line for line in logs if line["event"] == "event parked"]
    assert {key: line[key] for key in ("events", "reason", "for_other_reasons") if key in line} == told


@pytest.mark.parametrize("trouble", [Retry("busy"), Unauthorized("HTTP 401"), ZeroDivisionError("bug"), TimeoutError()])
async def test_whatever_is_not_a_refusal_is_tried_until_it_works(tmp_path: Path, trouble: Exception) -> None:
    async with bench(tmp_path) as it:
        left = 5

        def fail(batch: Batch) -> None:
            nonlocal left
            left -= 1
            if left > 0:
                raise trouble

        it.connector.answer = fail
        bodies = await it.send(10)
        await it.settled()
        assert it.connector.delivered == Counter(bodies)
        looks_for_the_event = isinstance(trouble, ZeroDivisionError)
        assert len(it.connector.batches) == (7 if looks_for_the_event else 5)


@pytest.mark.parametrize(("trouble", "least"), [(Retry("busy", after=0.3), 0.3), (Unauthorized("HTTP 401"), 0.0)])
async def test_a_destination_that_asks_for_peace_gets_it_from_all_batches(
    tmp_path: Path, trouble: Exception, least: float
) -> None:
    async with bench(tmp_path, concurrency=4) as it:
        times: list[float] = []

        def once(batch: Batch) -> None:
            times.append(asyncio.get_running_loop().time())
            if len(times) == 1:
                raise trouble

        it.connector.answer = once
        await it.send(10)
        async with asyncio.timeout(30):
            while not times:
                await asyncio.sleep(0.001)
        await it.send(30)
        await it.settled()
        assert it.connector.delivered.total() == 40
        assert min(times[1:]) - times[0] >= least


async def test_a_delivery_without_an_answer_times_out_and_is_retried(tmp_path: Path) -> None:
    async with bench(tmp_path, timeout="20ms") as it:
        real, hung = it.connector.deliver, []

        async def hang_once(batch: Batch) -> Sequence[Outcome] | None:
            if not hung:
                hung.append(batch)
                await asyncio.get_running_loop().create_future()
            return await real(batch)

        it.connector.deliver = hang_once  # type: ignore[method-assign]
        bodies = await it.send(3)
        await it.settled()
        assert it.connector.delivered == Counter(bodies)
        assert len(hung) == 1


@pytest.mark.promise(6)
async def test_no_more_than_the_window_would_be_sent_again_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, window=50, concurrency=8) as it:
        saved = asyncio.Event()
        real = it.state.save

        async def slow_save(*args: Any) -> None:
            await saved.wait()
            await real(*args)

        monkeypatch.setattr(it.state, "save", slow_save)
        bodies = await it.send(500)
        async with asyncio.timeout(30):
            while it.connector.delivered.total() < 50:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert it.connector.delivered.total() == 50
        saved.set()
        await it.settled()
        assert it.connector.delivered == Counter(bodies)


async def test_what_was_settled_out_of_order_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        stuck: list[bytes] = []

        def stick(batch: Batch) -> None:
            if batch.bodies()[0] in stuck:
                raise Retry("stuck")

        it.connector.answer = stick
        stuck += (await it.send(30))[10:11]
        async with asyncio.timeout(30):
            while it.fleet.lanes[0].cursor.ahead != [(20, 30)]:
                await asyncio.sleep(0.001)
    async with bench(tmp_path) as it:
        await it.settled()
        assert it.connector.delivered.total() == 10
        assert it.connector.batches[0][0] == stuck[0]
        assert it.fleet.lanes[0].cursor.counts.delivered == 30


def stuck(batch: Batch) -> None:
    raise Retry("stuck")


@pytest.mark.promise(2)
async def test_events_that_have_left_the_journal_count_as_expired(tmp_path: Path) -> None:
    for count in (10, 5):
        async with bench(tmp_path) as it:
            it.connector.answer = stuck
            bodies = await it.send(count)
    min((tmp_path / "journal").glob("*.log")).unlink()
    async with bench(tmp_path) as it:
        await it.settled()
        assert it.connector.delivered == Counter(bodies)
        counts = it.fleet.lanes[0].cursor.counts
        assert (counts.expired, counts.delivered) == (10, 5)


@pytest.mark.promise(2)
async def test_events_that_cannot_be_read_are_counted_as_damaged_and_told_once(tmp_path: Path) -> None:
    """Beside events that have left the journal, and a file that somebody removes while relay runs."""
    sent = []
    for count in (10, 8, 6, 4):
        async with bench(tmp_path) as it:
            it.connector.answer = stuck
            sent.append(await it.send(count))
    gone, damaged, removed, _ = sorted((tmp_path / "journal").glob("*.log"))
    gone.unlink()
    damaged.write_bytes(bytes([*damaged.read_bytes()[:-1], 0]))
    with capture_logs() as lines:
        async with bench(tmp_path) as it:
            removed.unlink()
            await it.settled()
            assert it.connector.delivered == Counter(sent[3])
            assert it.fleet.lanes[0].cursor.counts == Counts(delivered=4, expired=10, damaged=14)
    told = [(line["event"], line["offset"], line["events"]) for line in lines if "connector" in line]
    assert told == [("events expired", 0, 10), ("events are damaged", 10, 14)]


async def test_a_journal_younger_than_its_cursor_is_read_from_its_head_on(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(10)
        await it.settled()
    for segment in (tmp_path / "journal").glob("*.log"):
        segment.unlink()
    async with bench(tmp_path) as it:
        bodies = await it.send(3)
        await it.settled()
        assert it.connector.delivered == Counter(bodies)


async def test_a_lane_that_fails_starts_again_and_the_others_do_not_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "RESTART_S", 0.01)
    async with bench(tmp_path) as it:
        failures = iter([True, True, False])

        class FailsTwice(Route):
            def __call__(self, block: Block, *, part: bool = False) -> Routed:
                if next(failures, False):
                    raise RuntimeError("a bug of ours")
                return super().__call__(block)

        it.fleet.lanes[0]._route = FailsTwice(Selection(["*"]))
        bodies = await it.send(5)
        await it.settled()
        assert it.connector.delivered == Counter(bodies)


async def test_events_that_fail_too_long_are_parked_only_if_configured(tmp_path: Path) -> None:
    async with bench(tmp_path, retry={"first": "1ms", "max": "5ms", "give_up_after": "50ms"}) as it:
        it.connector.answer = stuck
        bodies = await it.send(3)
        await it.settled()
        assert it.fleet.lanes[0].cursor.counts.parked == 3
        assert len(it.connector.batches) > 1
    assert [(one.cause, one.reason, one.body) for one in list_parked(tmp_path)] == [
        ("gave_up", "stuck", b) for b in bodies
    ]
    assert list_parked(tmp_path)[0].attempts > 1


async def test_a_batch_too_large_is_split_by_bytes(tmp_path: Path) -> None:
    async with bench(tmp_path, batch={"events": 100, "age": "0ms"}) as it:

        def small_only(batch: Batch) -> None:
            if batch.size > 3000:
                raise Reject("HTTP 413", too_large=True)

        it.connector.answer = small_only
        bodies = [make_event(filling="x" * (2000 if n == 9 else 10)) for n in range(10)]
        bodies.append(make_event(filling="y" * 9000))
        await it.journal.append([KIND] * len(bodies), bodies)
        await it.settled()
        assert it.connector.delivered == Counter(bodies[:-1])
        assert len(it.connector.batches) <= 5
    assert [(one.cause, one.body) for one in list_parked(tmp_path)] == [("too_large", bodies[-1])]


async def test_a_dead_destination_is_tried_by_one_batch_at_a_time(tmp_path: Path) -> None:
    async with bench(tmp_path, concurrency=8, retry={"first": "20ms", "max": "20ms"}) as it:
        it.connector.answer = stuck
        await it.send(80)
        async with asyncio.timeout(30):
            while len(it.connector.batches) < 20:
                await asyncio.sleep(0.001)
        it.connector.most_at_once = 0
        async with asyncio.timeout(30):
            while len(it.connector.batches) < 26:
                await asyncio.sleep(0.001)
        assert it.connector.most_at_once == 1
        it.connector.answer = lambda batch: None
        await it.settled()
        assert it.connector.delivered.total() == 80


async def test_what_was_parked_right_before_a_crash_is_not_parked_and_delivered(tmp_path: Path) -> None:
    def refuse(batch: Batch) -> None:
        raise Reject("not today")

    async with bench(tmp_path) as it:
        saved = await it.state.load_cursor("it")
        assert saved is not None
        it.connector.answer = refuse
        await it.send(2)
        await it.settled()
    assert len(list_parked(tmp_path)) == 2
    state = StateDatabase(tmp_path)
    await state.save({"it": saved}, 2)  # the crash came before the cursor was saved
    state.close()
    async with bench(tmp_path) as it:
        await it.settled()
        assert it.connector.delivered.total() == 2
    assert list_parked(tmp_path) == []


@pytest.mark.parametrize(("start", "arrives"), [("now", 2), ("oldest", 5), ("2000-01-01", 5), ("2100-01-01T00:00Z", 2)])
async def test_a_new_connector_begins_where_it_is_told(tmp_path: Path, start: str, arrives: int) -> None:
    journal = Journal(tmp_path / "journal", JournalLimits(1 << 30, 3600), 0)
    await journal.append([KIND] * 3, [make_event() for _ in range(3)])
    await journal.close()
    async with bench(tmp_path, **{"from": start}) as it:
        await it.send(2)
        await it.settled()
        assert it.connector.delivered.total() == arrives
        ledger = it.fleet.lanes[0].cursor.make_ledger(it.journal.head)
        assert (ledger.accepted, ledger.pending) == (arrives, 0)


def by_key(it: Bench) -> dict[str, list[int]]:
    """What was delivered, by user, in the order of its arrival."""
    found: dict[str, list[int]] = {}
    for body in it.connector.delivered:
        properties = orjson.loads(body)["properties"]
        found.setdefault(properties["who"], []).append(properties["n"])
    return found


async def send_by_key(it: Bench, users: Sequence[str]) -> None:
    await it.journal.append([KIND] * len(users), [make_event(n=n, who=user) for n, user in enumerate(users)])


@pytest.mark.promise(10)
async def test_events_of_one_key_stay_in_order_and_others_go_on(tmp_path: Path) -> None:
    async with bench(tmp_path, order_by="properties.who", concurrency=4) as it:
        stuck, chance = True, random.Random(7)

        def each(batch: Batch) -> list[Outcome]:
            """Retries some, and with them those of the same user that follow; one user's never get through for now."""
            late = {"slow"} if stuck else set[str]()
            for event in batch:
                late |= {event.properties["who"]} if chance.random() < 0.2 else set()
            return [Retry("later") if event.properties["who"] in late else DELIVERED for event in batch]

        it.connector.answer = each
        users = ["slow" if n % 50 == 0 else f"user-{n % 7}" for n in range(400)]
        await send_by_key(it, users)
        async with asyncio.timeout(60):
            while it.connector.delivered.total() < 392:
                await asyncio.sleep(0.001)
        assert "slow" not in by_key(it)
        stuck = False
        await it.settled()
        assert it.fleet.lanes[0].cursor.counts == Counts(delivered=400)
        assert all(numbers == sorted(numbers) for numbers in by_key(it).values())
        assert set(it.connector.delivered.values()) == {1}


async def test_what_comes_behind_a_parked_event_is_parked_and_follows_it(tmp_path: Path) -> None:
    async with bench(tmp_path, order_by="properties.who", after_parked="park") as it:

        def refuse(batch: Batch) -> None:
            if any(event.properties["n"] == 3 for event in batch):
                raise Reject("HTTP 400")

        it.connector.answer = refuse
        await send_by_key(it, [f"user-{n % 3}" for n in range(30)])
        await it.settled()
        assert by_key(it) == {"user-0": [0], "user-1": [*range(1, 30, 3)], "user-2": [*range(2, 30, 3)]}
        assert [one.cause for one in list_parked(tmp_path)] == ["refused"] + ["order"] * 8
        it.connector.answer = lambda batch: None
        mark_parked(tmp_path, ParkedQuery(cause="refused"))
        async with asyncio.timeout(30):
            while list_parked(tmp_path):
                await asyncio.sleep(0.01)
        assert by_key(it)["user-0"] == [*range(0, 30, 3)]
        assert it.fleet.lanes[0].cursor.counts == Counts(delivered=30)
        await it.journal.append([KIND], [make_event(n=30, who="user-0")])
        async with asyncio.timeout(30):
            while by_key(it)["user-0"][-1] != 30:  # perhaps parked, too, and then let go at once
                await asyncio.sleep(0.01)


async def test_keys_of_parked_events_outlast_a_restart_and_are_free_after_a_drop(tmp_path: Path) -> None:
    settings = {"order_by": "properties.who", "after_parked": "park"}
    async with bench(tmp_path, **settings) as it:

        def refuse(batch: Batch) -> None:
            raise Reject("HTTP 400")

        it.connector.answer = refuse
        await send_by_key(it, ["user"])
        await it.settled()
    async with bench(tmp_path, **settings) as it:
        await it.journal.append([KIND] * 2, [make_event(n=1, who="user"), make_event(n=2, who="other")])
        await it.settled()
        assert by_key(it) == {"other": [2]}
        drop_parked(tmp_path, ParkedQuery(cause="refused"))
        async with asyncio.timeout(30):
            while list_parked(tmp_path):
                await asyncio.sleep(0.01)
        assert by_key(it) == {"other": [2], "user": [1]}


async def test_none_overtakes_an_event_that_waits_to_be_parked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking_module, "AGAIN_S", 0.01)
    async with bench(tmp_path, order_by="properties.who", after_parked="park") as it:
        park, is_full = it.state.park, True

        async def full(found: Sequence[Parked]) -> None:
            if is_full and found[0].offset == 1:
                raise Unavailable("disk I/O error")
            await park(found)

        def refuse(batch: Batch) -> None:
            if batch[0].properties["n"] == 0:
                raise Reject("HTTP 400")

        monkeypatch.setattr(it.state, "park", full)
        it.connector.answer = refuse
        await send_by_key(it, ["user", "user"])
        await it.until(lambda: len(list_parked(tmp_path)) == 1)
        drop_parked(tmp_path, ParkedQuery(cause="refused"))
        ordered = it.fleet.lanes[0]._ordered
        assert ordered is not None
        await it.until(lambda: not ordered.order._parked)
        await it.journal.append([KIND] * 2, [make_event(n=2, who="user"), make_event(n=3, who="other")])
        await it.until(lambda: "other" in by_key(it))
        assert "user" not in by_key(it)
        is_full = False
        await it.until(lambda: by_key(it).get("user", [])[-1:] == [2])
        assert by_key(it)["user"] == [1, 2]


async def test_rejected_and_abandoned_events_of_several_blocks_are_parked(tmp_path: Path) -> None:
    retry = {"first": "1ms", "max": "2ms", "give_up_after": "1ms"}
    async with bench(tmp_path, retry=retry, batch={"events": 6, "age": "1s"}, order_by="properties.n") as it:

        def each(batch: Batch) -> list[Outcome]:
            time.sleep(0.002)  # longer than it may be tried
            ends = {0: Retry("later"), 1: Retry("later"), 5: Reject("no")}
            return [ends.get(event.properties["n"], DELIVERED) for event in batch]

        it.connector.answer = each
        for first in (0, 3):
            await it.journal.append([KIND] * 3, [make_event(n=n) for n in range(first, first + 3)])
        await it.settled()
        assert len(it.connector.batches[0]) == 6
        assert it.fleet.lanes[0].cursor.counts == Counts(delivered=3, parked=3)
        causes = sorted((one.offset or 0, one.cause) for one in list_parked(tmp_path))
        assert causes == [(0, "gave_up"), (1, "gave_up"), (5, "refused")]
