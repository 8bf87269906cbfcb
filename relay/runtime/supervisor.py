"""Several workers: starts them, has them listen on the same addresses, and starts those again that die.

Each worker is a relay of its own with its own journal; the kernel gives each of them its share of the connections
(SO_REUSEPORT). The sockets are made here and handed on, so that connections that come while a worker is away wait for
it. How it fails and recovers:

- A worker that dies is started again, at once and then ever later. What it accepted is on disk; the others go on.
- A worker that gives no sign of life for as long as the service manager would wait is killed, and so started again.
- If the supervisor dies, the kernel stops the workers. A worker that cannot even start ends the whole start.
- When there are fewer workers than before, those that are left over run without listening until they have delivered
  what they still have.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import structlog

from relay import __version__
from relay.admin import Admin
from relay.config import Config, ConfigError, find_unmade
from relay.deliver import mistakes_of
from relay.ingest import bind, close, show
from relay.journal.folders import worker_folders
from relay.journal.leftover import has_work
from relay.runtime.daemon import Load
from relay.runtime.joint import JointView
from relay.runtime.joint_pulse import JointPulse
from relay.runtime.process import StartError, inherited, on_signal
from relay.runtime.supervised import Supervised
from relay.runtime.systemd import Notify
from relay.runtime.worker import Worker

STOP_MARGIN_S: Final = 15.0
"""Beyond the drain budget, until a worker that does not stop is killed."""
log = structlog.stdlib.get_logger()


def is_needed(config: Config, state: Path) -> bool:
    """Whether more than this process is."""
    return config.runtime.workers > 1 or bool(leftover(state, config.runtime.workers))


def leftover(state: Path, workers: int) -> list[int]:
    """Workers that are no longer wanted but have something to do."""
    return [number for number, folder in worker_folders(state).items() if number >= workers and has_work(folder)]


async def supervise(config: Config, load: Load, state: Path) -> None:
    """Run the workers until SIGTERM or SIGINT; `load` reads the configuration again. Raises StartError, ConfigError."""
    stop = asyncio.Event()
    on_signal(stop.set)
    if unmade := find_unmade(config, state):
        raise ConfigError(mistakes_of(unmade))
    passed = inherited()
    sockets = _bound(config) if passed is None else [passed] * config.runtime.workers
    try:
        with TemporaryDirectory(prefix="relay-") as rendezvous:
            workers = _workers(config, state, sockets, rendezvous, outlived=passed is not None)
            view = JointView(config, load, state, workers)
            await _run(config, view, workers, show(sockets[0], config.ingest), stop)
    except* StartError as group:
        raise group.exceptions[0] from None
    finally:
        close(sockets)
    log.info("relay stopped")


def _bound(config: Config) -> list[list[socket.socket]]:
    try:
        return bind(config.ingest.listen, config.runtime.workers)
    except OSError as error:
        raise StartError(f"ingest.listen: {error}") from error


def _workers(
    config: Config, state: Path, sockets: Sequence[Sequence[socket.socket]], rendezvous: str, *, outlived: bool
) -> list[Supervised]:
    number = config.runtime.workers
    fds = [[one.fileno() for one in mine] for mine in sockets]
    left = leftover(state, number)
    return [
        *(Supervised(Worker(each, number, rendezvous, fds[each], outlived)) for each in range(number)),
        *(Supervised(Worker(each, number, rendezvous, (), outlived)) for each in left),
    ]


async def _run(
    config: Config, view: JointView, workers: Sequence[Supervised], addresses: Sequence[str], stop: asyncio.Event
) -> None:
    notify = Notify()
    async with asyncio.TaskGroup() as group:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, lambda: group.create_task(view.reload(), name="reload")
        )
        running = [group.create_task(each.run(), name=f"worker {each.worker.number}") for each in workers]
        for each in workers:
            await each.ready.wait()
        async with _listening(Admin(view, config.admin, config.metrics)) as admin:
            beating = group.create_task(JointPulse(notify, view, workers).run(), name="signs of life")
            sources, connectors = sorted(config.sources), sorted(config.connectors)
            told = {"version": __version__, "listen": addresses, **admin.addresses}
            told |= {"sources": sources, "connectors": connectors}
            log.info("relay runs", workers=config.runtime.workers, **told)
            await stop.wait()
            drain = view.config.runtime.drain
            log.info("relay stops", drain_s=drain)
            await notify.stopping()
            await _stop(drain, workers, running)
            beating.cancel()


@asynccontextmanager
async def _listening(admin: Admin) -> AsyncIterator[Admin]:
    """Listen for what admins ask. Raises StartError."""
    try:
        await admin.start()
    except OSError as error:
        raise StartError(f"the admin API cannot listen: {error}") from error
    try:
        yield admin
    finally:
        await admin.stop()


async def _stop(drain: float, workers: Sequence[Supervised], running: Sequence[asyncio.Task[None]]) -> None:
    for each in workers:
        each.stop()
    on_signal(lambda: _signal(workers, signal.SIGTERM))
    _, stuck = await asyncio.wait(running, timeout=drain + STOP_MARGIN_S)
    if stuck:
        log.error("workers do not stop, are killed", workers=len(stuck))
        _signal(workers, signal.SIGKILL)


def _signal(workers: Sequence[Supervised], number: int) -> None:
    for each in workers:
        each.signal(number)
