"""The demonstration: Braze's stand-in sends to a relay with the shipped conf.d, which delivers to files and to Heap's.

At the end the books of relay are compared with what really was sent and what really arrived.
"""

import asyncio
import secrets
import sqlite3
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import orjson

from relay.sandbox.braze.reactions import CurrentsSwitches
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.daemon import DemoFolder, SandboxError, prepare, running, watch
from relay.sandbox.heap.webhook import HeapWebhook
from relay.sandbox.report import ReportedLane, Result, progress
from relay.sandbox.shapes import make_event, types
from relay.state import Ledger, list_parked, read_ledger

UNREADABLE: Final = (b'"this is no event"',)
"""Sent amid the others, to show what becomes of such."""
BREATH_EVENTS: Final = 100
"""Events between two breaks for the event loop."""
SEND_SECONDS: Final = 120.0
"""For sending, beyond what the wished rate takes by itself."""
QUICK: Final = CurrentsSwitches(age=0.2, retry_first=0.2, retry_max=5.0)
SETTLE_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What to demonstrate, where, and how to show that it moves."""

    folder: Path
    """An existing, empty folder; all that comes about stays in it."""
    events: int
    rate: float = 0.0
    """Events per second at most; 0 is no limit."""
    show: Callable[[str], None]
    """Called with one line of counts every `interval` seconds."""
    interval: float = 1.0
    command: Sequence[str] = (sys.executable, "-m", "relay")
    """What is relay."""

    async def run(self) -> Result:
        """Run it. Raises SandboxError if it could not be run to its end."""
        token = secrets.token_urlsafe(16)
        async with HeapWebhook(token=token) as heap:
            place = await asyncio.to_thread(prepare, self.folder, token, heap.url)
            braze = CurrentsSender(place.url("/currents"), token=token, switches=QUICK)
            async with running(place, self.command) as process, braze:
                statuses = await braze.probe()
                if not all(status is not None and 200 <= status < 300 for status in statuses):
                    raise SandboxError(f"relay answered Braze's credential probes with {statuses}")
                await self._send(place, process, braze)
            return await asyncio.to_thread(_result, place, braze, heap)

    async def _send(self, place: DemoFolder, process: Process, braze: CurrentsSender) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                aside = (
                    group.create_task(self._show(place, braze), name="live counts"),
                    group.create_task(watch(place, process), name="watch relay"),
                )
                await _send_all(braze, self.events, self.rate)
                await _settle(place, braze)
                for task in aside:
                    task.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _show(self, place: DemoFolder, braze: CurrentsSender) -> None:
        while True:
            self.show(progress(braze.counts, await asyncio.to_thread(_books, place.state)))
            await asyncio.sleep(self.interval)


async def _send_all(braze: CurrentsSender, events: int, rate: float) -> None:
    seconds = SEND_SECONDS + (events / rate if rate else 0)
    try:
        async with asyncio.timeout(seconds):
            await braze.send(_events(events, rate))
    except TimeoutError:
        raise SandboxError(f"{braze.counts} is all that could be sent in {seconds:g} s") from None
    if braze.stopped:
        raise SandboxError(f"Braze would have stopped the Current: {braze.stopped}")


async def _events(count: int, rate: float) -> AsyncIterator[tuple[str, bytes]]:
    """Make events of every type in turn, and with the first of them the unreadable ones."""
    rng, kinds, start = Random(), types(), time.monotonic()
    for body in UNREADABLE:
        yield kinds[0], body
    for number in range(count):
        if number % BREATH_EVENTS == 0:
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()) if rate else 0)
        kind = kinds[number % len(kinds)]
        yield kind, orjson.dumps(make_event(kind, rng, time.time()))


async def _settle(place: DemoFolder, braze: CurrentsSender) -> None:
    """Wait until relay's books know of every event and none is pending."""
    readable = braze.counts.accepted - len(UNREADABLE)
    with suppress(TimeoutError):  # the table shows what is pending
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                books = await asyncio.to_thread(_books, place.state)
                if books and all(book.accepted >= readable and book.pending == 0 for book in books.values()):
                    return
                await asyncio.sleep(POLL_SECONDS)


def _books(state: Path) -> dict[str, Ledger]:
    try:
        return read_ledger(state)
    except (FileNotFoundError, sqlite3.OperationalError):
        return {}  # relay is just about to make the database


def _result(place: DemoFolder, braze: CurrentsSender, heap: HeapWebhook) -> Result:
    ids: set[str] = set()
    for path in (place.state / "archive").glob("*.ndjson"):
        with path.open("rb") as lines:
            ids.update(orjson.loads(line)["id"] for line in lines)
    arrived = {"archive": len(ids), "heap": len(heap.ids)}
    books = read_ledger(place.state)
    if missing := arrived.keys() - books.keys():
        raise SandboxError(f"relay kept no books for {', '.join(sorted(missing))}; its log is {place.log}")
    return Result(
        sent=braze.counts.sent,
        accepted=braze.counts.accepted,
        unreadable=len(UNREADABLE),
        parked_at_source=sum(one.connector is None for one in list_parked(place.state)),
        lanes=[ReportedLane(name, books[name], count) for name, count in arrived.items()],
    )
