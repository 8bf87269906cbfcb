"""How far a lane may go ahead: in events, and in the bytes of those that have no outcome."""

import asyncio

from relay.api import Batch, BatchSettings, Block, Event, Kind
from relay.deliver.batch.ordering import Order
from relay.deliver.window import EVENT_BYTES, Window, measure_memory
from relay.testing import make_event


async def admitted(window: Window, events: int, size: int) -> bool:
    try:
        async with asyncio.timeout(0.01):
            await window.admit(events, size)
    except TimeoutError:
        return False
    return True


async def test_bytes_are_free_again_once_settled_events_only_once_saved() -> None:
    saves: list[int] = []
    window = Window(10, 1000, lambda: saves.append(1))
    assert await admitted(window, 1, 5000)  # alone whatever its size
    assert not await admitted(window, 1, 1)
    window.settle(1, 5000)
    assert await admitted(window, 8, 900)
    assert not saves
    assert not await admitted(window, 2, 10)
    assert saves
    window.mark_saved(1)
    assert await admitted(window, 2, 10)
    assert not await admitted(window, 0, 200)
    window.reset()
    assert await admitted(window, 10, 1000)


def test_events_of_a_batch_and_one_by_one_take_the_same() -> None:
    events = [Event(make_event(n=n), Kind("s", "t"), n, 0.0) for n in range(5)]
    batch = Batch([Block.of(events[:2]), Block.of(events[2:])])
    assert measure_memory(batch) == measure_memory(events) == sum(len(one.body) for one in events) + 5 * EVENT_BYTES


def test_what_waits_is_kept_undecoded_and_asked_for_its_key_once() -> None:
    asked: list[int] = []

    def key(event: Event) -> str:
        asked.append(event.offset)
        return str(event.data["key"])

    order = Order(lambda events: [*map(key, events)], BatchSettings(), park=True)
    events = [Event(b'{"key": 1}', Kind("s", "t"), n, 0.0) for n in range(5)]
    assert [[one.offset for one in batch] for batch in order.admit(events).going] == [[0]]
    assert all(one._data is None for waiting in order._waiting.values() for one in waiting)
    for offset in range(4):
        freed = order.settle([(offset, 0)], parked=False)
        assert [[one.offset for one in batch] for batch in freed.going] == [[offset + 1]]
    assert asked == [0, 1, 2, 3, 4]


def test_a_batch_forgets_what_was_decoded_of_it() -> None:
    batch = Batch([Block.of([Event(b'{"id": "a"}', Kind("s", "t"), 0, 0.0)])])
    before = batch[0]
    assert before.id == "a"
    batch.let_go()
    assert batch[0] is not before
    assert batch[0].id == "a"
