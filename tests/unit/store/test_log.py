"""The promises of a log, on every engine."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, closing, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.api import ERASED, Block, Kind, OtherId, User
from relay.journal import compression
from relay.store import EventIds, JournalLimits, TooLarge, Unavailable, Wanted
from relay.testing import make_event
from tests.unit.store.log_engines import LIMITS, DatabaseLog, EmbeddedLog, LogEngine, make_engine

ENGINES = (
    "embedded",
    "embedded, from disk",
    "embedded, compressed",
    pytest.param("postgres", marks=pytest.mark.long),  # quicker: the next, and tests/unit/postgres/test_log.py
    "postgres, compressed, from the database, through a pooler",
    "toy",
)
KIND = Kind("braze", "users.messages.email.Open")
OTHER = Kind("shop", "order", "uuid", "ts")
SMALL = JournalLimits(max_size=16 << 20, retention=3600)
EXPIRING = JournalLimits(max_size=1 << 30, retention=0.0)
ANNA = Wanted({1: User("anna")})
Make = Callable[..., LogEngine]


@pytest.fixture(params=ENGINES)
async def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Makes logs on one engine, and closes them."""
    monkeypatch.setattr(compression, "LEAST_BYTES", 0)
    made: list[LogEngine] = []

    def make_log(limits: JournalLimits = LIMITS) -> LogEngine:
        made.append(make_engine(request.param, tmp_path / str(len(made)), limits))
        return made[-1]

    async with asyncio.timeout(60):
        yield make_log
        for engine in made:
            await engine.close()


@pytest.fixture
def engine(make: Make) -> LogEngine:
    return make()


async def append(engine: LogEngine, *bodies: bytes, kind: Kind = KIND) -> int:
    return await engine.log.append([kind] * len(bodies), list(bodies))


async def append_new(
    engine: LogEngine, ids: Sequence[str], subject: str | None = None, source: str = "braze"
) -> list[str]:
    """Append events with these ids; return the ids of those that were no duplicates."""
    bodies = [one.encode() for one in ids]
    by = EventIds(source, ids, 3600, subject)
    async with engine.log.append_new([KIND] * len(ids), bodies, by) as fresh:
        return [ids[place] for place in fresh]


async def read_all(engine: LogEngine, offset: int = 0) -> dict[int, tuple[str, bytes]]:
    """Read from an offset up to the head; return each event's kind as text, and its body."""
    found: dict[int, tuple[str, bytes]] = {}
    with closing(engine.log.open_reader()) as reader:
        while offset < engine.log.head:
            for block in await reader.read(offset):
                found |= {event.offset: (str(event.kind), event.body) for event in block.events()}
            offset = reader.offset
    return found


async def read_bodies(engine: LogEngine, offset: int = 0) -> dict[int, bytes]:
    return {at: body for at, (_, body) in (await read_all(engine, offset)).items()}


def body_of(user: str, **more: str) -> bytes:
    return make_event(user={"user_id": user} | more)


@pytest.mark.promise(4)
async def test_events_come_back_byte_for_byte_with_their_kinds(engine: LogEngine) -> None:
    assert await append(engine, b'{"a": 1}', b'{\n "b":2}') == 0
    assert await append(engine, b'{"c":3}', kind=OTHER) == 2
    expected = {
        0: (str(KIND), b'{"a": 1}'),
        1: (str(KIND), b'{\n "b":2}'),
        2: (str(OTHER), b'{"c":3}'),
    }
    assert await read_all(engine) == expected
    assert await read_all(engine, 2) == {2: expected[2]}
    assert engine.log.bytes == sum(len(body) for _, body in expected.values()) + 1  # a comma
    if isinstance(engine, EmbeddedLog | DatabaseLog):
        await engine.reopen()
        assert await read_all(engine) == expected


async def test_concurrent_appends_get_offsets_without_gap_or_repetition(engine: LogEngine) -> None:
    chance, sizes = random.Random(7), [*range(1, 6)] * 60
    chance.shuffle(sizes)

    async def send(number: int, size: int) -> dict[int, bytes]:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        bodies = [b'{"n":"%d-%d"}' % (number, place) for place in range(size)]
        return dict(enumerate(bodies, await append(engine, *bodies)))

    given = await asyncio.gather(*(send(number, size) for number, size in enumerate(sizes)))
    sent = {offset: body for one in given for offset, body in one.items()}
    assert sorted(sent) == [*range(sum(sizes))] == [*range(engine.log.head)]
    assert await read_bodies(engine) == sent


@pytest.mark.promise(1)
async def test_nothing_is_told_or_read_before_it_is_durable(engine: LogEngine) -> None:
    tapped: list[Block] = []
    engine.log.taps.add(tapped.append)
    async with asyncio.TaskGroup() as group, engine.hold() as begun:
        appending = group.create_task(append(engine, b"{}"))
        reading = group.create_task(engine.log.open_reader().read(0))
        skipping = group.create_task(engine.log.open_reader().skip(0))
        await begun.wait()
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert [one.done() for one in (appending, reading, skipping)] == [False] * 3
        assert (engine.log.head, await engine.log.find_received(0), tapped) == (0, None, [])
    assert (engine.log.head, appending.result(), skipping.result()) == (1, 0, 0)
    assert [block.bodies() for block in reading.result()] == [block.bodies() for block in tapped] == [[b"{}"]]


@pytest.mark.promise(1)
async def test_a_failed_append_leaves_nothing(engine: LogEngine) -> None:
    tapped: list[Block] = []
    await append(engine, b'{"first":1}')
    engine.log.taps.add(tapped.append)
    with engine.refuse():
        results = await asyncio.gather(*(append(engine, b'{"refused":1}') for _ in range(5)), return_exceptions=True)
    assert [(type(one), str(one)) for one in results] == [(Unavailable, engine.refusal)] * 5
    assert (engine.log.head, engine.log.refusing, engine.log.failing, tapped) == (1, engine.refusal, True, [])
    assert engine.log.failed > 0
    assert await append(engine, b'{"second":2}') == 1
    assert (engine.log.refusing, engine.log.failing) == (None, False)
    assert await read_bodies(engine) == {0: b'{"first":1}', 1: b'{"second":2}'}
    if isinstance(engine, EmbeddedLog | DatabaseLog):
        await engine.reopen()
        assert await read_bodies(engine) == {0: b'{"first":1}', 1: b'{"second":2}'}


async def test_a_sender_that_goes_away_takes_nobody_elses_answer_along(engine: LogEngine) -> None:
    async with asyncio.TaskGroup() as group, engine.hold():
        tasks = [group.create_task(append(engine, b'{"n":%d}' % number)) for number in range(6)]
        await asyncio.sleep(0)
        for gone in (0, 3):
            tasks[gone].cancel()
    found = await read_bodies(engine)
    answered = {number: task.result() for number, task in enumerate(tasks) if not task.cancelled()}
    assert answered.keys() == {1, 2, 4, 5}
    assert {found[offset] for offset in answered.values()} == {b'{"n":%d}' % number for number in answered}


async def test_events_that_can_never_fit_are_refused_for_good(make: Make) -> None:
    engine = make(SMALL)
    with pytest.raises(TooLarge, match=r"half of journal\.max_size"):
        await append(engine, b"y" * (9 << 20))
    with pytest.raises(TooLarge):
        engine.log.check_size([KIND], [b"y" * (9 << 20)])
    assert (engine.log.head, engine.log.failing) == (0, False)
    assert await append(engine, b"y" * (7 << 20)) == 0


async def test_a_reader_waits_for_wanted_events_and_misses_none(engine: LogEngine) -> None:
    reader, place, found = engine.log.open_reader(OTHER.type.__eq__), 0, list[int]()

    async def follow() -> None:
        nonlocal place
        while len(found) < 3:
            if (first := await reader.skip(place)) == place:
                blocks = await reader.read(place)
                found.extend(event.offset for block in blocks for event in block.events() if event.type == OTHER.type)
                first = reader.offset
            place = first

    async with asyncio.TaskGroup() as group:
        group.create_task(follow())
        for kind in (KIND, KIND, OTHER, KIND, OTHER, KIND, KIND, OTHER):
            await append(engine, b"{}", b"{}", kind=kind)
    assert found[:3] == [4, 5, 8]
    reader.close()


async def test_readers_have_places_of_their_own(engine: LogEngine) -> None:
    for number in range(10):
        engine.begin_part()
        await append(engine, b'{"n":%d}' % number, b"{}")
    slow, fast = engine.log.open_reader(), engine.log.open_reader()
    assert (await slow.read(0))[0].offsets[0] == 0
    while fast.offset < 20 or (fast.offset == engine.log.head and (await fast.read(3))[0].offsets[0] != 3):
        await fast.read(fast.offset)
    assert (await slow.read(7))[0].offsets[0] == 7
    assert len(await read_bodies(engine, 13)) == 7


async def test_a_read_before_the_oldest_event_starts_later_and_says_so(make: Make) -> None:
    engine = make(EXPIRING)
    for _ in range(4):
        await append(engine, b"{}", b"{}")
        engine.begin_part()
    reader = engine.log.open_reader()
    await reader.read(0)
    await engine.log.keep(4)
    assert engine.log.oldest == engine.log.trimmed == 4
    blocks = await reader.read(0)
    assert (blocks[0].offsets[0], reader.offset) == (4, blocks[-1].offsets[-1] + 1)
    assert [*await read_bodies(engine, 1)] == [4, 5, 6, 7]
    assert await engine.log.find_offset(0.0) == 4
    assert await engine.log.find_received(0) == blocks[0].received


async def test_needed_events_stay_and_others_leave_by_age(make: Make) -> None:
    engine = make(EXPIRING)
    for _ in range(5):
        await append(engine, b"{}")
        engine.begin_part()
    await engine.log.keep(3, replay_floor=1)
    assert engine.log.oldest == 1
    await engine.log.keep(3)
    assert (engine.log.oldest, [*await read_bodies(engine, 3)]) == (3, [3, 4])
    assert engine.log.measure_needed(0) == engine.log.size >= engine.log.measure_needed(4) > 0


async def test_a_full_log_refuses_and_goes_on_once_events_are_not_needed(make: Make) -> None:
    engine, body = make(SMALL), random.Random(1).randbytes(500_000)
    with suppress(Unavailable):
        while engine.log.head < 100:
            await append(engine, body)
    with pytest.raises(Unavailable, match="max_size"):
        await append(engine, body)
    head = engine.log.head
    assert 20 < head == len(await read_bodies(engine))
    assert (engine.log.oldest, engine.log.size <= SMALL.max_size) == (0, True)
    await engine.log.keep(head)
    assert await append(engine, body) == head
    assert 0 < engine.log.oldest < head  # only as much leaves as room is needed
    assert engine.log.size <= SMALL.max_size


async def test_full_logs_let_the_oldest_needed_events_go_if_so_configured(make: Make) -> None:
    engine, body = make(replace(SMALL, expire_oldest=True)), random.Random(1).randbytes(500_000)
    for number in range(60):
        assert await append(engine, body) == number
    assert 0 < engine.log.oldest == engine.log.trimmed


async def test_a_time_leads_to_the_first_event_received_then_or_later(
    engine: LogEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        engine.set_time(1000 + 10 * number, monkeypatch)
        if number % 4 == 0:
            engine.begin_part()
        await append(engine, b"{}", b"{}")
    for received, offset in [(0, 0), (1000, 0), (1001, 2), (1010, 2), (1035, 8), (1040, 8), (1110, 22), (1111, 24)]:
        assert await engine.log.find_offset(float(received)) == offset, received
    for offset, at in [(0, 1000), (1, 1000), (2, 1010), (9, 1040), (23, 1110), (24, None)]:
        assert await engine.log.find_received(offset) == at, offset


async def erase(engine: LogEngine, wanted: Wanted = ANNA, stop_after: int | None = None) -> tuple[set[int], set[int]]:
    """Erase users; return the offsets of events erased now and before. Stop within the stretch of that number."""
    erased, before = set[int](), set[int]()
    async with aclosing(engine.log.erase(wanted, engine.log.head)) as stretches:
        number = 0
        async for stretch in stretches:
            erased |= stretch.erased.keys()
            before |= {*stretch.before}
            assert all(offset < stretch.end for offset in (*stretch.erased, *stretch.before))
            if number == stop_after:
                break
            number += 1
    return erased, before


async def test_erasing_keeps_offset_and_bytes_of_every_other_event(engine: LogEngine) -> None:
    users = random.Random(3).choices(["anna", "bert", "carl"], k=40)
    bodies = [body_of(user) for user in users]
    for at in range(0, 40, 4):
        await append(engine, *bodies[at : at + 4])
        if at % 3 == 0:
            engine.begin_part()
    hers = {offset for offset, user in enumerate(users) if user == "anna"}
    reader = engine.log.open_reader()
    await reader.read(0)
    assert await erase(engine) == (hers, set())
    found = await read_all(engine)
    assert {offset for offset, (kind, _) in found.items() if kind == str(ERASED)} == hers
    assert {at: body for at, (_, body) in found.items()} == {
        at: b"{}" if at in hers else body for at, body in enumerate(bodies)
    }
    assert not engine.holds(b"anna")
    assert (await reader.read(min(hers)))[0].bodies()[0] == b"{}"
    assert await append(engine, bodies[0]) == 40
    assert await erase(engine, Wanted({1: User("nobody")})) == (set(), hers)
    if isinstance(engine, EmbeddedLog | DatabaseLog):
        await engine.reopen()
        assert engine.log.head == 41
        assert await read_all(engine) == found | {40: (str(KIND), bodies[0])}


async def test_readers_find_withheld_events_erased_and_every_other_event(engine: LogEngine) -> None:
    anna, bert = body_of("anna"), body_of("bert")
    await append(engine, anna, bert)
    engine.log.withhold(ANNA)
    await append(engine, bert, anna)
    assert await read_bodies(engine) == {0: b"{}", 1: bert, 2: bert, 3: b"{}"}
    engine.log.withhold(None)
    assert await read_bodies(engine) == {0: anna, 1: bert, 2: bert, 3: anna}


async def test_an_interrupted_erasure_goes_on_with_the_same_count(make: Make) -> None:
    for stop in range(4):
        engine = make()
        for user in ("anna", "bert", "anna", "anna"):
            await append(engine, body_of(user), body_of("bert"))
            engine.begin_part()
        erased, before = await erase(engine, stop_after=stop)
        assert (erased, before, engine.holds(b"anna")) == ({0, 4, 6} & {*range(2 * stop + 2)}, set(), True)
        again, before = await erase(engine)
        assert (again | before, again & before, before) == ({0, 4, 6}, set(), {0, 4, 6} & {*range(2 * stop)})
        assert not engine.holds(b"anna")


async def test_an_event_that_names_others_too_loses_only_the_user(engine: LogEngine) -> None:
    change = b'{"add":["a1","b1"],"remove":["c1"],"match":"external_id"}'
    await append(engine, change, kind=Kind("segments", "cohort.Change"))
    wanted = Wanted({1: User("anna", ("a1",)), 2: User("carl", ("c1",))})
    async with aclosing(engine.log.erase(wanted, 1)) as stretches:
        found = [(stretch.erased, stretch.changed) async for stretch in stretches]
    assert found == [({}, {0: frozenset({1, 2})})]
    assert await read_bodies(engine) == {0: b'{"add":["b1"],"remove":[],"match":"external_id"}'}


async def test_further_ids_are_read_from_all_events_below_the_head(engine: LogEngine) -> None:
    for user, one, device in [("anna", "a1", "phone"), ("bert", "b1", "watch"), ("anna", "a2", "tablet")]:
        await append(engine, body_of(user, external_user_id=one, device_id=device))
        engine.begin_part()
    head = engine.log.head
    await append(engine, body_of("anna", external_user_id="a3"))
    devices = (OtherId("device_id", "phone"), OtherId("device_id", "tablet"))
    assert await engine.log.find_more_ids(ANNA, head) == {1: User(None, ("a1", "a2"), devices)}


async def test_the_first_event_with_an_id_is_kept_and_others_are_not(engine: LogEngine) -> None:
    assert await append_new(engine, ["a", "b", "a", "c", "b"]) == ["a", "b", "c"]
    assert await append_new(engine, ["c", "d"]) == ["d"]
    assert await append_new(engine, ["a", "d"]) == []
    assert await append_new(engine, []) == []
    assert await append_new(engine, ["a"], source="other") == ["a"]
    assert [*(await read_bodies(engine)).values()] == [b"a", b"b", b"c", b"d", b"a"]
    await engine.log.forget_ids(["other"])
    assert await append_new(engine, ["a"]) == ["a"]
    assert await append_new(engine, ["a"], source="other") == []


async def test_requests_at_the_same_time_append_each_id_once(engine: LogEngine) -> None:
    chance, ids = random.Random(3), [str(number) for number in range(12)]
    wanted = [chance.sample(ids, 5) for _ in range(60)]
    taken = await asyncio.gather(*(append_new(engine, one) for one in wanted))
    assert sorted(one for part in taken for one in part) == sorted(ids)
    assert sorted(body.decode() for body in (await read_bodies(engine)).values()) == sorted(ids)


async def test_an_event_that_was_refused_is_no_duplicate_later(engine: LogEngine) -> None:
    with engine.refuse(), pytest.raises(Unavailable):
        await append_new(engine, ["a", "b"])
    assert await append_new(engine, ["b", "a"]) == ["b", "a"]


async def test_the_block_of_new_events_begins_when_they_are_durable(engine: LogEngine) -> None:
    async with engine.log.append_new([KIND] * 2, [b"a", b"b"], EventIds("braze", ["a", "b"], 3600)) as fresh:
        assert (engine.log.head, [*fresh]) == (2, [0, 1])
        assert await read_bodies(engine) == {0: b"a", 1: b"b"}


async def test_what_a_subject_comes_back_to_is_no_duplicate(engine: LogEngine) -> None:
    assert await append_new(engine, ["on"], "switch") == ["on"]
    assert await append_new(engine, ["on"], "switch") == []
    assert await append_new(engine, ["off"], "switch") == ["off"]
    assert await append_new(engine, ["on"], "switch") == ["on"]
    assert await append_new(engine, ["on"], "other switch") == ["on"]


async def test_ids_are_known_to_an_embedded_log_that_is_opened_again(tmp_path: Path) -> None:
    engine = EmbeddedLog(tmp_path, LIMITS, 0)
    assert await append_new(engine, ["a"]) == ["a"]
    await engine.reopen()
    assert await append_new(engine, ["a", "b"]) == ["b"]
    await engine.log.close()
