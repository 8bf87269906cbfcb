"""A live tap keeps what it may, counts the rest, and never makes the flow wait."""

import asyncio
import json
from typing import Any

from relay.admin.tail import EVENT_BYTES, HELD_BYTES, PORTION, Tap
from relay.api import Event, Kind
from relay.api.batch import Block
from relay.catalogue import Selection

OPEN, CLICK = (Kind("braze", f"users.messages.email.{name}") for name in ("Open", "Click"))


def block(*kinds: Kind, size: int = 2, first: int = 0) -> Block:
    body = b'"%s"' % (b"x" * (size - 2))
    return Block.of([Event(body, kind, first + number, 5.0) for number, kind in enumerate(kinds)])


async def taken(tap: Tap) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    while tap._news.is_set():
        lines += map(json.loads, (await tap.take()).splitlines())
    return lines


async def test_what_is_selected_comes_as_lines() -> None:
    tap = Tap(Selection(["*.Click"]))
    tap(block(OPEN))
    tap(block(OPEN, CLICK, first=7))
    assert await taken(tap) == [
        {"offset": 8, "received": 5.0, "source": "braze", "type": CLICK.type, "event": ""},
    ]


async def test_what_there_is_no_room_for_is_counted_and_told_once() -> None:
    tap = Tap(Selection([]))
    size = 1000
    for number in range(3):
        tap(block(*[OPEN] * 500, size=size, first=500 * number))
    lines = await taken(tap)
    assert lines[-1] == {"dropped": 1500 - len(lines) + 1}
    assert HELD_BYTES // (size + EVENT_BYTES) <= len(lines) - 1 <= HELD_BYTES // size
    assert [line["offset"] for line in lines[:-1]] == list(range(len(lines) - 1))
    tap(block(OPEN, first=9999))
    assert [line["offset"] for line in await taken(tap)] == [9999]


async def test_many_small_events_take_no_more_room_than_few_large_ones() -> None:
    tap = Tap(Selection([]))
    tap(block(*[OPEN] * 100_000, size=3, first=0))
    assert sum(map(len, tap._held)) <= HELD_BYTES // EVENT_BYTES


async def test_no_portion_is_large_and_a_tap_waits_for_news() -> None:
    tap = Tap(Selection([]))
    tap(block(*[OPEN] * 5000))
    assert len((await tap.take()).splitlines()) <= 2 * PORTION
    await taken(tap)
    waiting = asyncio.get_running_loop().create_task(tap.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    tap(block(OPEN))
    assert (await waiting).startswith(b'{"offset":0,')
