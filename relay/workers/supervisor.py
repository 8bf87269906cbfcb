"""Several workers: starts them, has them listen on the same addresses, and starts those again that die.

Each worker is a relay of its own with its own journal; the kernel gives each of them its share of the connections
(SO_REUSEPORT). The sockets are made here and handed on, so that connections that come while a worker is away wait for
it; if that takes longer than a moment they are answered 503 from here. How it fails and recovers:

- A worker that dies is started again, at once and then ever later. What it accepted is on disk; the others go on.
- A worker that gives no sign of life for as long as the service manager would wait, or whose event loop hangs, is
  killed, and so started again.
- If the supervisor dies, the kernel stops the workers. A worker that says at the first start that it cannot start ends
  the whole start; later, or if it is killed, it is tried again.
- When there are fewer workers than before, those that are left over run without listening until they have delivered
  what they still have.
"""

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog

from relay import __version__
from relay.admin import Admin, Bound, runtime_folder
from relay.admin import bind as bind_admin
from relay.config import Config, ConfigError, find_unmade, mistakes_of
from relay.ingest import bind, close, describe_sockets
from relay.journal import lock
from relay.runtime import HANGUP, Load, Notify, StartError, Worker, cannot_listen, inherited, on_signal, unusable
from relay.state import list_worker_folders
from relay.stop import STOP, left
from relay.workers.control import JointView
from relay.workers.respawn import Supervised
from relay.workers.substitute import Substitute
from relay.workers.unfinished import has_work
from relay.workers.watchdog import JointPulse

log = structlog.stdlib.get_logger()


def is_needed(config: Config, state: Path) -> bool:
    """Whether more than this process is."""
    return config.runtime.workers > 1 or bool(leftover(state, config.runtime.workers))


def leftover(state: Path, workers: int) -> list[int]:
    """Workers that are no longer wanted but have something to do."""
    return [number for number, folder in list_worker_folders(state).items() if number >= workers and _has_work(folder)]


def _has_work(folder: Path) -> bool:
    try:
        return has_work(folder)
    except (OSError, sqlite3.Error) as error:
        advice = "what that worker has left is not delivered: see relay audit, and repair or restore its relay.db"
        log.error("a worker that is no longer wanted is left out", folder=str(folder), error=str(error), advice=advice)
        return False


async def supervise(config: Config, load: Load, state: Path, new_code: Callable[[], Sequence[str]]) -> None:
    """Run the workers until SIGTERM or SIGINT; `load` reads the configuration again, `new_code` names the plugins whose
    files have changed since. Raises StartError, ConfigError."""
    stop = asyncio.Event()
    STOP.watch(config.runtime.drain)
    on_signal(stop.set)
    if failures := find_unmade(config, state).failures:
        raise ConfigError(mistakes_of(failures))
    passed = inherited()
    sockets = _bound(config) if passed is None else [passed] * config.runtime.workers
    for_admins: Bound = (), ()
    try:
        for_admins = _bound_for_admins(config)  # before the workers start: what is in the way is told at once
        with _rendezvous(state, config) as folder:
            workers = _workers(config, state, sockets, str(folder), outlived=passed is not None)
            view = JointView(config, load, state, workers)
            admin = Admin(view, config.admin, config.metrics, bound=for_admins)
            await _run(config, view, admin, workers, sockets, stop, new_code)
    except* StartError as group:
        raise _first(group) from None
    finally:
        close([*sockets, *for_admins])
    log.info("relay stopped")


def _first(error: BaseException) -> BaseException:
    """One error of a group, whose parts may be groups."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@contextmanager
def _rendezvous(state: Path, config: Config) -> Iterator[Path]:
    """The folder of the workers' sockets, for this supervisor alone: beside the admin API's, as temporary folders are
    emptied from time to time. Raises StartError."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = runtime_folder(state) / "rendezvous"
        folder.mkdir(mode=0o700, exist_ok=True)
        held = lock(folder)
    except OSError as error:
        raise unusable(config, state, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _bound(config: Config) -> list[list[socket.socket]]:
    try:
        return bind(config.ingest.listen, config.runtime.workers)
    except OSError as error:
        raise cannot_listen(config, error) from error


def _bound_for_admins(config: Config) -> Bound:
    try:
        return bind_admin(config.admin, config.metrics)
    except OSError as error:
        raise cannot_listen(config, error) from error


def _workers(
    config: Config, state: Path, sockets: Sequence[Sequence[socket.socket]], rendezvous: str, *, outlived: bool
) -> list[Supervised]:
    number, journal = config.runtime.workers, str(config.journal.path)
    fds = [[one.fileno() for one in mine] for mine in sockets]
    left = leftover(state, number)
    return [
        *(Supervised(Worker(each, number, rendezvous, fds[each], outlived, journal)) for each in range(number)),
        *(Supervised(Worker(each, number, rendezvous, (), outlived, journal)) for each in left),
    ]


async def _run(
    config: Config,
    view: JointView,
    admin: Admin,
    workers: Sequence[Supervised],
    sockets: Sequence[Sequence[socket.socket]],
    stop: asyncio.Event,
    new_code: Callable[[], Sequence[str]],
) -> None:
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(each.run(lambda: view.config, new_code), name=f"worker {each.worker.number}")
            for each in workers
        ]
        substitute = Substitute(workers, sockets, lambda: view.config.ingest.tls)
        beside = [group.create_task(substitute.run(), name="answer for workers that are away")]
        notify = Notify()
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, lambda: group.create_task(view.reload(by=HANGUP), name="reload")
        )
        try:
            if await _are_ready(workers, stop):
                await substitute.look()  # nobody is to be refused any more
                async with _listening(admin, config):
                    await view.history.start(config.runtime.workers)
                    await view.alerts.change(config, view.alerts.made(config))
                    pulse = JointPulse(notify, view, workers)
                    beside.append(group.create_task(view.alerts.run(), name="alerts"))
                    beside.append(group.create_task(pulse.run(), name="signs of life"))
                    beside.append(group.create_task(admin.keep_socket(), name="keep the admin socket"))
                    _tell_start(config, describe_sockets(sockets[0], config.ingest), admin)
                    beside.append(group.create_task(view.history.run(), name="write the history"))
                    beside.append(group.create_task(view.history.look_around(), name="look around for the history"))
                    await stop.wait()
                    view.watch.stop()
                    if workers[0].worker.outlived:  # who connects from now on waits for the next relay
                        beside[0].cancel()
                    await _end(notify, workers, running)
                    await view.history.end()
            else:
                await _end(notify, workers, running)
        finally:
            for task in beside:
                task.cancel()


async def _are_ready(workers: Sequence[Supervised], stop: asyncio.Event) -> bool:
    """Wait until all workers are ready that take events in; False if `stop` comes before."""
    async with asyncio.TaskGroup() as group:
        wanted = [each for each in workers if not each.worker.only_drains]
        ready = [group.create_task(each.ready.wait(), name=f"worker {each.worker.number}: ready") for each in wanted]
        stopped = group.create_task(stop.wait(), name="stop")
        waiting = {*ready, stopped}
        while not stopped.done() and not all(task.done() for task in ready):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
    return not stop.is_set()


def _tell_start(config: Config, addresses: Sequence[str], admin: Admin) -> None:
    told = {"version": __version__, "listen": addresses, **admin.addresses}
    told |= {"sources": sorted(config.sources), "connectors": sorted(config.connectors)}
    log.info("relay runs", workers=config.runtime.workers, **told)


async def _end(notify: Notify, workers: Sequence[Supervised], running: Sequence[asyncio.Task[None]]) -> None:
    """Have the workers stop; those that do not in time are killed."""
    log.info("relay stops", drain_s=STOP.drain)
    await notify.stopping()
    for each in workers:
        each.stop()
    on_signal(lambda: _signal(workers, signal.SIGTERM))
    _, stuck = await asyncio.wait(running, timeout=left(STOP.closed))
    if stuck:
        log.error("workers do not stop, are killed", workers=len(stuck))
        _signal(workers, signal.SIGKILL)


@asynccontextmanager
async def _listening(admin: Admin, config: Config) -> AsyncIterator[None]:
    """Listen for what admins ask. Raises StartError."""
    try:
        await admin.start()
    except OSError as error:
        raise cannot_listen(config, error) from error
    try:
        yield
    finally:
        await admin.stop()


def _signal(workers: Sequence[Supervised], number: int) -> None:
    for each in workers:
        each.signal(number)
