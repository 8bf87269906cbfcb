"""Wires everything together, in the order of the flow; takes it apart in the same order.

Start: journal, state, connectors and their lanes, and last the listener, so that nothing is accepted that could not be
kept. Stop: senders are told to come again, lanes finish what is under way, cursors are saved, the listener closes, the
journal is sealed. A second signal, or the end of the drain budget, cuts the deliveries short: what was not settled is
delivered after the next start.
"""

import asyncio
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from relay import __version__
from relay.config import Config, TlsError
from relay.deliver import Fleet
from relay.ingest import First, Ingest, Others
from relay.journal import Corrupt, Journal, Limits, State, tidy_parking
from relay.journal.folders import journal_folder, worker_folder
from relay.runtime.worker import Worker, tell_ready

LOOK_S: Final = 0.2
log = structlog.stdlib.get_logger()


class StartError(Exception):
    """The daemon cannot start, and why."""


async def run(config: Config, state_folder: Path, worker: Worker | None = None) -> None:
    """Run until SIGTERM or SIGINT, alone or as one of several workers. Raises StartError."""
    stop = asyncio.Event()
    on_signal(stop.set)
    number = worker.number if worker else 0
    async with _journal(config, state_folder, number) as (journal, state):
        fleet = Fleet(journal, state, state.folder, number)
        await _open(fleet, config)
        first = First(worker.first, fleet.alone) if worker and number else None
        sources = [source.plugin(source.name, source.settings) for source in config.sources.values()]
        ingest = Ingest(sources, config.ingest, journal, state, first)
        if first is not None:
            await first.connect()
        addresses = await _listen(ingest, worker)
        async with asyncio.TaskGroup() as group:
            lanes = group.create_task(fleet.run(), name="fleet")
            others = [
                group.create_task(tidy_parking(state, config.parked.retention), name="tidy parking"),
                group.create_task(ingest.watch_tls(), name="watch certificates"),
                *([group.create_task(_with_others(worker, ingest, first), name="other workers")] if worker else []),
            ]
            try:
                _tell_start(config, journal, addresses, worker)
                await _until(stop, fleet if worker and worker.only_drains else None)
                log.info("relay stops", drain_s=config.runtime.drain)
                ingest.drain()
                await _end(fleet, lanes, config.runtime.drain)
            finally:
                for task in others:
                    task.cancel()
                await ingest.stop()
    log.info("relay stopped")


async def _open(fleet: Fleet, config: Config) -> None:
    try:
        await fleet.open(config)
    except Exception as error:
        raise StartError(f"a connector cannot be opened: {type(error).__name__}: {error}") from error


async def _listen(ingest: Ingest, worker: Worker | None) -> list[str]:
    try:
        return await ingest.start(None if worker is None else [socket.socket(fileno=fd) for fd in worker.fds])
    except OSError as error:
        raise StartError(f"ingest.listen: {error}") from error
    except TlsError as error:
        raise StartError(str(error)) from error


async def _with_others(worker: Worker, ingest: Ingest, first: First | None) -> None:
    """Hand on what the first worker has to keep or, as the first one, take it."""
    await (first.run() if first else Others(ingest.keep).run(worker.first))


async def _until(stop: asyncio.Event, drained: Fleet | None) -> None:
    """Wait for the signal or, if that is all there is to do, for the end of the deliveries."""
    while not stop.is_set() and (drained is None or drained.pending):
        with suppress(TimeoutError):
            async with asyncio.timeout(None if drained is None else LOOK_S):
                await stop.wait()


@asynccontextmanager
async def _journal(config: Config, state_folder: Path, number: int) -> AsyncIterator[tuple[Journal, State]]:
    settings, folder = config.journal, worker_folder(state_folder, number)
    expire_oldest = settings.on_full == "expire_oldest"
    limits = Limits(settings.max_size, settings.retention, settings.min_free, expire_oldest)
    try:
        state = await asyncio.to_thread(State, folder, number)
        place = journal_folder(state_folder, settings.path, number)
        journal = await asyncio.to_thread(Journal, place, limits, settings.memory)
    except (OSError, sqlite3.Error, Corrupt) as error:
        raise StartError(f"the state folder {folder} cannot be used: {error}") from error
    try:
        yield journal, state
    finally:
        await journal.close()
        await asyncio.to_thread(state.close)


def _tell_start(config: Config, journal: Journal, addresses: list[str], worker: Worker | None) -> None:
    if worker is not None:
        tell_ready()
    log.info(
        "relay runs" if worker is None else "worker runs",
        **({} if worker is None else {"worker": worker.number}),
        version=__version__,
        listen=addresses,
        sources=sorted(config.sources),
        connectors=sorted(config.connectors),
        events_in_journal=journal.head - journal.oldest,
    )


async def _end(fleet: Fleet, lanes: asyncio.Task[None], budget: float) -> None:
    """Let the deliveries under way end within the budget; a second signal does not wait for them."""

    def cut_short(why: str) -> None:
        log.warning("deliveries under way are cut short and made again after the next start", reason=why)
        lanes.cancel()

    fleet.stop()
    on_signal(lambda: cut_short("another signal"))
    done, _ = await asyncio.wait([lanes], timeout=budget)
    if not done:
        cut_short("the drain budget is used up")


def on_signal(act: Callable[[], object]) -> None:
    """Act on SIGTERM and SIGINT, instead of what was to be done before."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)
