"""One measurement: a fresh daemon (or none), a destination, a sender; warm up, run, wait until all is delivered."""

import asyncio
import os
import socket
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cases import Case
from comparison import compared
from console import looked_at
from daemon import SOURCE_PATH, TOKEN, Daemon, running, until
from disk import sync_seconds
from figures import milliseconds
from machine import Noise, on_cpus
from references import REFERENCES
from worker import Worker, working

WARM_UP_SECONDS: Final = 0.5
WARM_UP_EVENTS: Final = 100_000
SMALL_WARM_UP: Final = 1000
"""Where the run itself is small, too; but each connection sends at least once."""
RELAY_CPU, *OTHER_CPUS = sorted(os.sched_getaffinity(0))


async def measure(case: Case, seconds: float, place: Path, retained: Path | None) -> dict[str, float]:
    """Run a case for so many seconds of sending. Raises what goes wrong on the way, TimeoutError among it."""
    port, noise = free_port(), Noise()
    load = on_cpus(OTHER_CPUS) if case.one_cpu else nullcontext()
    with TemporaryDirectory(prefix="relay-bench-", dir=place) as folder, load:
        sync = ("sync", f"{folder}/requests") if case.bare and case.rate else ()
        async with working("destination.py", str(port), *sync) as destination:
            if case.retained and retained is not None:
                _link(retained, Path(folder))
            run = _reference if case.reference else _bare if case.bare else _relay
            figures = await run(case, seconds, destination, port, Path(folder))
    return figures | noise.measured()


def _link(retained: Path, folder: Path) -> None:
    """Give the daemon an old journal; sealed segments are not written to, so links will do."""
    (folder / "state" / "journal").mkdir(parents=True)
    for path in retained.glob("*.log"):
        os.link(path, folder / "state" / "journal" / path.name)


async def _bare(case: Case, seconds: float, destination: Worker, port: int, folder: Path) -> dict[str, float]:
    """The sender straight into the destination: what the two could do if relay cost nothing. At a steady rate the
    destination syncs each request."""
    probe = await _disk(case, folder, seconds)
    async with _sender(case, f"127.0.0.1:{port}", "/bare") as sender:
        cpu = await destination.ask(do="cpu")
        sent = await _send(sender, case, 0, seconds, case.most)
        cpu = await destination.ask(do="cpu") - cpu
    (books,) = await destination.ask(do="account", paths=["/bare"], events=sent["events"])
    return {
        "accepted_per_s": sent["events"] / sent["seconds"],
        "sender_us": sent["cpu_s"] / sent["events"] * 1e6,
        "destination_us": cpu / sent["events"] * 1e6,
        "lost": books["lost"],
        **probe,
        **milliseconds("ack", sent["ack_s"]),
    }


async def _reference(case: Case, seconds: float, _: Worker, port: int, folder: Path) -> dict[str, float]:
    """The sender into a server that does nothing but HTTP."""
    port = free_port()
    async with REFERENCES[case.reference](folder, port) as cpu, _sender(case, f"127.0.0.1:{port}", "/bare") as sender:
        await _send(sender, case, 0, WARM_UP_SECONDS, WARM_UP_EVENTS)
        used = await cpu()
        sent = await _send(sender, case, 0, seconds, case.most)
        used = await cpu() - used
    return {
        "accepted_per_s": sent["events"] / sent["seconds"],
        "cpu_us": used / sent["events"] * 1e6,
        "sender_us": sent["cpu_s"] / sent["events"] * 1e6,
        **milliseconds("ack", sent["ack_s"]),
    }


def _sender(case: Case, address: str, path: str) -> AbstractAsyncContextManager[Worker]:
    return working("sender.py", address, path, TOKEN, str(case.batch), str(case.connections))


async def _relay(case: Case, seconds: float, destination: Worker, port: int, folder: Path) -> dict[str, float]:
    probe = await _disk(case, folder, seconds)
    async with AsyncExitStack() as stack:
        dsn = await asyncio.to_thread(_start_database, stack) if case.database else ""
        with on_cpus([RELAY_CPU]) if case.one_cpu else nullcontext():
            daemon = await stack.enter_async_context(running(folder, case.conf, port, case.workers, dsn))
        idle = daemon.memory()
        if case.looked_at:
            await stack.enter_async_context(looked_at(folder))
        if case.compared:
            await stack.enter_async_context(compared(folder))
        async with _sender(case, daemon.address, SOURCE_PATH) as sender:
            small = case.most < WARM_UP_EVENTS
            most = SMALL_WARM_UP if small else WARM_UP_EVENTS
            warm = (await _send(sender, case, 0, WARM_UP_SECONDS, most))["events"]
            await _settled(case, daemon, destination, warm)
            cpu, destination_cpu, size = daemon.cpu(), await destination.ask(do="cpu"), daemon.journal_bytes()
            sent = await _send(sender, case, warm, seconds, case.most)
            await _settled(case, daemon, destination, warm + sent["events"])
            cpu, destination_cpu = daemon.cpu() - cpu, await destination.ask(do="cpu") - destination_cpu
            disk = {"journal_bytes": (daemon.journal_bytes() - size) / sent["events"]}
            memory = {"idle_mb": idle, "peak_mb": daemon.memory("VmHWM"), "ready_s": daemon.ready_s}
    books = await destination.ask(do="account", paths=case.get_all, events=warm + sent["events"])
    figures = memory | disk | probe | _figures(sent, cpu, destination_cpu, books)
    return figures | (await _end_to_end(case, destination, warm, sent) if case.rate else {})


def _start_database(stack: AsyncExitStack) -> str:
    """Start a server with an empty table of events, until the end of the run; return the URL of its database."""
    sys.path.insert(0, str(Path(__file__).parents[2]))  # the servers are those of the tests
    from relay_plugins.postgres.table import make_table
    from tests.postgres.server import run_server

    server = stack.enter_context(run_server())
    server.execute(make_table("events"))
    return f"postgresql://relay@127.0.0.1:{server.port}/postgres"


async def _disk(case: Case, folder: Path, seconds: float) -> dict[str, float]:
    """What the same commits would take without relay, at most; nothing for a case without a steady rate."""
    if not case.rate:
        return {}
    event = 1000
    found = await asyncio.to_thread(sync_seconds, folder, case.batch * event, case.rate / case.batch, seconds)
    return milliseconds("disk", found)


async def _settled(case: Case, daemon: Daemon, destination: Worker, events: int) -> None:
    """By the books; workers have books of their own each, so with them by what has arrived."""

    async def has_arrived() -> bool:
        return int(await destination.ask(do="count", path=case.get_all[0])) >= events

    await (daemon.settled(events) if case.workers == 1 else until(has_arrived))


def _figures(sent: dict[str, Any], cpu: float, destination_cpu: float, books: list[dict[str, Any]]) -> dict[str, float]:
    events = sent["events"]
    last = max([book["last"] for book in books], default=sent["begin"] + sent["seconds"])
    delivered_s = last - sent["begin"]
    return {
        "accepted_per_s": events / sent["seconds"],
        "delivered_per_s": events / delivered_s,
        "cpu_us": cpu / events * 1e6,
        "cores": cpu / delivered_s,
        "sender_us": sent["cpu_s"] / events * 1e6,
        "sender_cores": sent["cpu_s"] / sent["seconds"],
        "destination_us": destination_cpu / events * 1e6,
        "destination_cores": destination_cpu / delivered_s,
        "event_bytes": sent["event_bytes"],
        "with_user_id": sent["with_user_id"],
        "events": events,
        "refused": sent["refused"],
        "lost": sum(book["lost"] for book in books),
        "duplicates": sum(book["duplicates"] for book in books),
        **milliseconds("ack", sent["ack_s"]),
    }


async def _send(sender: Worker, case: Case, first: int, seconds: float, most: int) -> Any:
    return await sender.ask(first=first, seconds=seconds, rate=case.rate, max_events=most)


async def _end_to_end(case: Case, destination: Worker, first: int, sent: dict[str, Any]) -> dict[str, float]:
    """From when an event was due to be sent until the destination had it."""
    arrived = await destination.ask(do="times", path=case.get_all[0], first=first, events=sent["events"])
    return milliseconds("end_to_end", [at - sent["due"][n // case.batch] for n, at in enumerate(arrived) if at])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
