"""One measurement: a fresh daemon (or none), a destination, a sender; warm up, run, wait until all is delivered."""

import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from daemon import SOURCE_PATH, TOKEN, running
from figures import Case, milliseconds
from machine import Steal, loop_ms
from worker import Worker, working

WARM_UP_SECONDS: Final = 0.5
MAX_EVENTS: Final = 2_000_000
"""Per run: about 2 GB of journal."""


async def measure(case: Case, seconds: float, connectors: list[str], place: Path) -> dict[str, float]:
    """Run a case for so many seconds of sending. Raises what goes wrong on the way, TimeoutError among it."""
    port, loop, steal = free_port(), loop_ms(), Steal()
    async with working("destination.py", str(port)) as destination:
        if case.bare:
            figures = await _bare(case, seconds, destination, port)
        else:
            with TemporaryDirectory(prefix="relay-bench-", dir=place) as folder:
                figures = await _relay(case, seconds, connectors, destination, port, Path(folder))
    return figures | {"loop_ms": loop, "steal": steal.share()}


async def _bare(case: Case, seconds: float, destination: Worker, port: int) -> dict[str, float]:
    """The sender straight into the destination: what the two could do if relay cost nothing."""
    async with working("sender.py", f"127.0.0.1:{port}", "/bare", TOKEN, str(case.batch)) as sender:
        cpu = await destination.ask(do="cpu")
        sent = await _send(sender, case, 0, seconds)
        cpu = await destination.ask(do="cpu") - cpu
    (books,) = await destination.ask(do="account", paths=["/bare"], events=sent["events"])
    return {
        "accepted_per_s": sent["events"] / sent["seconds"],
        "sender_us": sent["cpu_s"] / sent["events"] * 1e6,
        "destination_us": cpu / sent["events"] * 1e6,
        "lost": books["lost"],
    }


async def _relay(
    case: Case, seconds: float, connectors: list[str], destination: Worker, port: int, folder: Path
) -> dict[str, float]:
    async with running(folder, connectors, port) as daemon:
        idle = daemon.memory()
        async with working("sender.py", daemon.address, SOURCE_PATH, TOKEN, str(case.batch)) as sender:
            warm = (await _send(sender, case, 0, WARM_UP_SECONDS))["events"]
            await daemon.settled(warm)
            cpu, destination_cpu = daemon.cpu(), await destination.ask(do="cpu")
            sent = await _send(sender, case, warm, seconds)
            await daemon.settled(warm + sent["events"])
            cpu, destination_cpu = daemon.cpu() - cpu, await destination.ask(do="cpu") - destination_cpu
            memory = {"idle_mib": idle, "peak_mib": daemon.memory("VmHWM")}
    paths = [f"/{name}" for name in connectors]
    books = await destination.ask(do="account", paths=paths, events=warm + sent["events"])
    figures = memory | _figures(sent, cpu, destination_cpu, books)
    return figures | (await _end_to_end(case, destination, paths[0], warm, sent) if case.rate else {})


def _figures(sent: dict[str, Any], cpu: float, destination_cpu: float, books: list[dict[str, Any]]) -> dict[str, float]:
    events = sent["events"]
    delivered_s = max(book["last"] for book in books) - sent["begin"]
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
        "events": events,
        "refused": sent["refused"],
        "lost": sum(book["lost"] for book in books),
        "duplicates": sum(book["duplicates"] for book in books),
        **milliseconds("ack", sent["ack_s"]),
    }


async def _send(sender: Worker, case: Case, first: int, seconds: float) -> Any:
    return await sender.ask(first=first, seconds=seconds, rate=case.rate, max_events=MAX_EVENTS)


async def _end_to_end(case: Case, destination: Worker, path: str, first: int, sent: dict[str, Any]) -> dict[str, float]:
    """From when an event was due to be sent until the destination had it."""
    arrived = await destination.ask(do="times", path=path, first=first, events=sent["events"])
    return milliseconds("end_to_end", [at - sent["due"][n // case.batch] for n, at in enumerate(arrived) if at])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
