"""Wires everything together, in the order of the flow; takes it apart in the same order.

Start: journal, state, connectors and their lanes, and last the listener, so that nothing is accepted that could not be
kept; then systemd is told. Stop: senders are told to come again, lanes finish what is under way, cursors are saved, the
listener closes, the journal is sealed. A second signal, or the end of the drain budget, cuts the deliveries short: what
was not settled is delivered after the next start.
"""

import asyncio
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from relay import __version__
from relay.admin import Admin
from relay.config import Config, TlsError
from relay.deliver import Eraser, Fleet
from relay.ingest import Ingest
from relay.journal import Corrupt, Journal, Limits, State, tidy_parking
from relay.runtime.pulse import Pulse
from relay.runtime.systemd import Notify, inherited_sockets
from relay.runtime.view import View

log = structlog.stdlib.get_logger()


class StartError(Exception):
    """The daemon cannot start, and why."""


async def run(config: Config, folder: Path) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError."""
    stop = asyncio.Event()
    _on_signal(stop.set)
    notify = Notify()
    async with _journal(config, folder) as (journal, state):
        fleet = Fleet(journal, state, folder)
        sources = [source.plugin(source.name, source.settings) for source in config.sources.values()]
        ingest = Ingest(sources, config.ingest, journal, state)
        eraser = Eraser(fleet, journal, state, config.erasure)
        view = View(config, folder, fleet, ingest, journal)
        admin = Admin(view, config.admin, config.metrics)
        addresses = await _open(fleet, eraser, admin, ingest, config)
        pulse = Pulse(notify, journal, fleet)
        async with asyncio.TaskGroup() as group:
            lanes = group.create_task(fleet.run(), name="fleet")
            tidying = group.create_task(tidy_parking(state, config.parked.retention), name="tidy parking")
            watching = group.create_task(ingest.watch_tls(), name="watch certificates")
            beating = group.create_task(pulse.run(), name="signs of life")
            sampling = group.create_task(view.keep_sampling(), name="sample the counters")
            erasing = group.create_task(eraser.run(), name="erasures")
            try:
                _tell_start(config, journal, addresses, admin.addresses)
                await stop.wait()
                log.info("relay stops", drain_s=config.runtime.drain)
                await notify.stopping()
                await ingest.drain()
                erasing.cancel()
                await _end(fleet, lanes, config.runtime.drain)
            finally:
                tidying.cancel()
                watching.cancel()
                sampling.cancel()
                erasing.cancel()
                await ingest.stop()
                await admin.stop()
                beating.cancel()
    log.info("relay stopped")


async def _open(fleet: Fleet, eraser: Eraser, admin: Admin, ingest: Ingest, config: Config) -> list[str]:
    try:
        await fleet.open(config)
    except Exception as error:
        raise StartError(f"a connector cannot be opened: {type(error).__name__}: {error}") from error
    try:
        await eraser.open()
    except sqlite3.Error as error:
        raise StartError(f"the erasures in relay.db cannot be read: {error}") from error
    try:
        await admin.start()
    except OSError as error:
        raise StartError(f"the admin API cannot listen: {error}") from error
    try:
        return await ingest.start(_inherited())
    except OSError as error:
        raise StartError(f"ingest.listen: {error}") from error
    except TlsError as error:
        raise StartError(str(error)) from error


def _inherited() -> list[socket.socket]:
    try:
        inherited = inherited_sockets()
    except ValueError as error:
        raise StartError(f"the sockets that were passed to relay: {error}") from error
    if inherited:
        log.info("sockets were passed to relay: ingest.listen is not used", sockets=len(inherited))
    return inherited


@asynccontextmanager
async def _journal(config: Config, folder: Path) -> AsyncIterator[tuple[Journal, State]]:
    settings = config.journal
    expire_oldest = settings.on_full == "expire_oldest"
    limits = Limits(settings.max_size, settings.retention, settings.min_free, expire_oldest)
    try:
        state = await asyncio.to_thread(State, folder)
        journal = await asyncio.to_thread(Journal, folder / settings.path, limits, settings.memory)
    except (OSError, sqlite3.Error, Corrupt) as error:
        raise StartError(f"the state folder {folder} cannot be used: {error}") from error
    try:
        yield journal, state
    finally:
        await journal.close()
        await asyncio.to_thread(state.close)


def _tell_start(config: Config, journal: Journal, addresses: list[str], admin: list[str]) -> None:
    log.info(
        "relay runs",
        version=__version__,
        listen=addresses,
        admin=admin,
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
    _on_signal(lambda: cut_short("another signal"))
    done, _ = await asyncio.wait([lanes], timeout=budget)
    if not done:
        cut_short("the drain budget is used up")


def _on_signal(act: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)
