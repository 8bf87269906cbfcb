"""The demo: the stand-in of Braze sends to a relay with the shipped conf.d, which delivers to files and to Heap.

At the end the demo compares the ledgers of relay with the events that were sent and the events that arrived.
"""

import asyncio
import secrets
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import orjson

from relay.config import JournalSettings
from relay.engine import open_store
from relay.sandbox.braze.reactions import CurrentsSwitches
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.daemon import (
    DemoConsole,
    DemoFolder,
    SandboxError,
    add_console,
    prepare,
    run_console,
    run_relay,
    watch,
)
from relay.sandbox.heap.side_doors import make_webhook_doors
from relay.sandbox.heap.webhook import HeapWebhook
from relay.sandbox.report import ReportedLane, Result, format_progress
from relay.sandbox.shapes import list_types, make_event
from relay.store import Ledger, ParkedQuery, Store, Unavailable, merge_ledgers

UNREADABLE: Final = (b'"this is no event"',)
"""Bodies that are sent among the events, to show the outcome of an unreadable event."""
BREATH_EVENTS: Final = 100
"""Events between two breaks for the event loop, at most."""
LINGER_RATE: Final = 20.0
"""Events per second while the console is there to look at them."""
SEND_SECONDS: Final = 120.0
"""Longest time for sending, beyond the time that the rate takes by itself."""
QUICK: Final = CurrentsSwitches(age=0.2, retry_first=0.2, retry_max=5.0)
SETTLE_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A demo: its folder, its events, and a callback for live counts."""

    folder: Path
    """An existing, empty folder. The demo writes nothing elsewhere."""
    events: int
    rate: float = 0.0
    """Events per second at most; 0: no limit."""
    show: Callable[[str], None]
    """Called with one line of counts every `interval` seconds."""
    interval: float = 1.0
    command: Sequence[str] = (sys.executable, "-m", "relay")
    """The command that runs relay."""
    linger: Callable[[Result, DemoConsole], None] | None = None
    """Called with the result when a console runs. The demo then goes on with `LINGER_RATE` until SIGINT or SIGTERM.
    None: there is no console, and the demo ends with the result."""

    async def run(self) -> Result:
        """Run the demo. Raises SandboxError if it does not get to its end, and CancelledError after SIGTERM or SIGHUP:
        relay ends with the demo."""
        if task := asyncio.current_task():
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        token = secrets.token_urlsafe(16)
        heap = HeapWebhook(token=token)
        heap.doors = make_webhook_doors(heap)
        async with heap:
            place = await asyncio.to_thread(prepare, self.folder, token, heap.url)
            console = await asyncio.to_thread(add_console, place, heap.url) if self.linger else None
            braze = CurrentsSender(place.make_url("/currents"), token=token, switches=QUICK)
            async with run_relay(place, self.command) as process, braze:
                statuses = await braze.probe()
                if not all(status is not None and 200 <= status < 300 for status in statuses):
                    raise SandboxError(f"relay answered Braze's credential probes with {statuses}")
                await self._send(place, process, braze)
                if self.linger and console:
                    result = await asyncio.to_thread(_make_result, place, braze, heap)
                    async with run_console(place, console, self.command):
                        await _send_until_stopped(place, process, braze, partial(self.linger, result, console))
                    return result
            return await asyncio.to_thread(_make_result, place, braze, heap)

    async def _send(self, place: DemoFolder, process: Process, braze: CurrentsSender) -> None:
        """Send all events and wait until relay has settled them, with live counts. Raises SandboxError."""
        seconds = SEND_SECONDS + (self.events / self.rate if self.rate else 0)
        try:
            async with asyncio.TaskGroup() as group:
                aside = (
                    group.create_task(self._show(place, braze), name="live counts"),
                    group.create_task(watch(place, process), name="watch relay"),
                )
                try:
                    await asyncio.wait_for(braze.send(_make_events(self.events, self.rate, UNREADABLE)), seconds)
                except TimeoutError:
                    raise SandboxError(f"{braze.counts} is all that could be sent in {seconds:g} s") from None
                if braze.stopped:
                    raise SandboxError(f"Braze would have stopped the Current: {braze.stopped}")
                await _wait_until_settled(place, braze)
                for task in aside:
                    task.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _show(self, place: DemoFolder, braze: CurrentsSender) -> None:
        while True:
            self.show(format_progress(braze.counts, await asyncio.to_thread(_read_ledgers, place.state)))
            await asyncio.sleep(self.interval)


async def _send_until_stopped(
    place: DemoFolder, process: Process, braze: CurrentsSender, say: Callable[[], None]
) -> None:
    """Go on sending until SIGINT, SIGTERM or SIGHUP, after a call of `say`. Raises SandboxError."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    say()
    try:
        async with asyncio.TaskGroup() as group:
            aside = (
                group.create_task(braze.send(_make_events(sys.maxsize, LINGER_RATE)), name="events to look at"),
                group.create_task(watch(place, process), name="watch relay"),
            )
            await stop.wait()
            for task in aside:
                task.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _make_events(count: int, rate: float, first: Sequence[bytes] = ()) -> AsyncIterator[tuple[str, bytes]]:
    """Make events of every type in turn, after the first bodies."""
    rng, kinds, start = Random(), list_types(), time.monotonic()
    breath = max(1, min(BREATH_EVENTS, int(rate))) if rate else BREATH_EVENTS
    for body in first:
        yield kinds[0], body
    for number in range(count):
        if number % breath == 0:
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()) if rate else 0)
        kind = kinds[number % len(kinds)]
        yield kind, orjson.dumps(make_event(kind, rng, time.time()))


async def _wait_until_settled(place: DemoFolder, braze: CurrentsSender) -> None:
    """Wait until the ledgers of relay have every event and no event is pending, at most SETTLE_SECONDS."""
    readable = braze.counts.accepted - len(UNREADABLE)
    with suppress(TimeoutError):  # the table shows what is pending
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                ledgers = await asyncio.to_thread(_read_ledgers, place.state)
                if ledgers and all(one.accepted >= readable and one.pending == 0 for one in ledgers.values()):
                    return
                await asyncio.sleep(POLL_SECONDS)


def _open_store(state: Path) -> Store:
    return open_store(state, JournalSettings())


def _read_ledgers(state: Path) -> dict[str, Ledger]:
    try:
        return merge_ledgers(_open_store(state).view().read_lanes())
    except Unavailable:
        return {}  # relay is just about to make the database


def _make_result(place: DemoFolder, braze: CurrentsSender, heap: HeapWebhook) -> Result:
    ids: set[str] = set()
    for path in (place.state / "archive").glob("*.ndjson"):
        with path.open("rb") as lines:
            ids.update(orjson.loads(line)["id"] for line in lines)
    arrived = {"archive": len(ids), "heap": len(heap.ids)}
    store = _open_store(place.state)
    ledgers = merge_ledgers(store.view().read_lanes())
    if missing := arrived.keys() - ledgers.keys():
        raise SandboxError(f"relay kept no books for {', '.join(sorted(missing))}; its log is {place.log}")
    return Result(
        sent=braze.counts.sent,
        accepted=braze.counts.accepted,
        unreadable=len(UNREADABLE),
        parked_at_source=sum(parked.connector is None for parked in store.parked.read(ParkedQuery())),
        lanes=[ReportedLane(name, ledgers[name], count) for name, count in arrived.items()],
    )
