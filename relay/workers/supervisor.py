"""The supervisor: starts several workers on the same addresses, and restarts dead ones.

Each worker is a relay with its own journal; the kernel gives each of them its share of the connections (SO_REUSEPORT).
The supervisor makes the sockets, so that connections wait while a worker is away for a moment. After that the
supervisor answers them 503. Failure and recovery:

- A worker that dies is restarted, at once and then with growing backoff. What it accepted is on disk; the others go on.
- A worker is killed and restarted if it is silent for as long as the service manager would wait, or if its event loop
  hangs.
- If the supervisor dies, the kernel stops the workers. A worker that reports at the first start that it cannot start
  ends the whole start. Later, or if it is killed, it is restarted.
- With fewer workers than before, the surplus workers run without listening until everything they have is delivered.
"""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog

from relay import __version__
from relay.admin import Admin, Bound, find_runtime_folder
from relay.admin import bind as bind_admin
from relay.config import Config, ConfigError, find_unmade, make_mistakes
from relay.journal import lock
from relay.listen import bind, close, describe_sockets
from relay.runtime import (
    HANGUP,
    Load,
    StartError,
    Worker,
    explain_listen_errors,
    find_leftover,
    freeze_objects,
    make_folder_error,
    on_signal,
    take_inherited,
)
from relay.stop import STOP, count_seconds_left
from relay.store import Store
from relay.systemd import Notify
from relay.workers.control import JointView
from relay.workers.respawn import Supervised
from relay.workers.substitute import Substitute
from relay.workers.watchdog import JointPulse

log = structlog.stdlib.get_logger()


async def supervise(
    config: Config, load: Load, store: Store, state: Path, new_code: Callable[[], Sequence[str]]
) -> None:
    """Run the workers until SIGTERM or SIGINT. Raises StartError, ConfigError.

    `load` reads the configuration again. `state`: the state folder. `new_code` names the plugins whose files have
    changed since the start.
    """
    stop = asyncio.Event()
    STOP.watch(config.runtime.drain)
    on_signal(stop.set)
    if failures := find_unmade(config, state).failures:
        raise ConfigError(make_mistakes(failures))
    passed = take_inherited()
    count = config.runtime.workers
    with explain_listen_errors(config):
        sockets = bind(config.ingest.listen, "ingest.listen", count) if passed is None else [passed] * count
    for_admins: Bound = (), ()
    try:
        with explain_listen_errors(config):  # before the workers start: what is in the way is told at once
            for_admins = bind_admin(config.admin, config.metrics)
        with _make_rendezvous(config, store, state) as folder:
            fds = {number: [one.fileno() for one in mine] for number, mine in enumerate(sockets)}
            fds |= {number: [] for number in find_leftover(store, count)}  # these only deliver what they have
            place, outlived, journal = str(folder), passed is not None, config.journal.write()
            parts = store.shared_partitions
            shares = [Worker(number, count, place, mine, outlived, journal, parts) for number, mine in fds.items()]
            workers = [Supervised(one) for one in shares]
            view = JointView(config, load, store, state, workers)
            admin = Admin(view, config.admin, config.metrics, bound=for_admins)
            freeze_objects()
            await _run_workers(config, view, admin, workers, sockets, stop, new_code)
    except* StartError as group:
        raise _find_first(group) from None
    finally:
        close([*sockets, *for_admins])
    log.info("relay stopped")


def _find_first(error: BaseException) -> BaseException:
    """Return the first error of nested groups."""
    return _find_first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@contextmanager
def _make_rendezvous(config: Config, store: Store, state: Path) -> Iterator[Path]:
    """Yield a folder for the workers' sockets, beside the admin socket: temporary folders are emptied at times.

    Raises StartError.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = find_runtime_folder(state) / "rendezvous"
        folder.mkdir(mode=0o700, exist_ok=True)
        held = lock(folder)
    except OSError as error:
        raise make_folder_error(config, store, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


async def _run_workers(
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
        answering = group.create_task(substitute.run(), name="answer for workers that are away")
        notify = Notify()
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, lambda: group.create_task(view.reload(by=HANGUP), name="reload")
        )
        try:
            if await _await_ready(workers, stop):
                await substitute.check()  # nobody is to be refused any more
                pulse = JointPulse(notify, view, workers)
                async with _serve(
                    config, view, admin, group, pulse, describe_sockets(sockets[0], tls=config.ingest.tls is not None)
                ):
                    await stop.wait()
                    view.watch.stop()
                    if workers[0].worker.outlived:  # who connects from now on waits for the next relay
                        answering.cancel()
                    await _end_workers(notify, workers, running)
                    await view.history.end()
            else:
                await _end_workers(notify, workers, running)
        finally:
            answering.cancel()


async def _await_ready(workers: Sequence[Supervised], stop: asyncio.Event) -> bool:
    """Wait until all listening workers are ready; return False if `stop` comes first."""
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


@asynccontextmanager
async def _serve(
    config: Config, view: JointView, admin: Admin, group: asyncio.TaskGroup, pulse: JointPulse, addresses: Sequence[str]
) -> AsyncIterator[None]:
    """Serve admins, write the history, send alerts and report signs of life. Raises StartError."""
    tasks: list[asyncio.Task[None]] = []
    with explain_listen_errors(config):
        await admin.start()
    try:
        await view.history.start(config.runtime.workers)
        await view.announcer.change(config, view.alerts.make_alerts(config))
        tasks.append(group.create_task(view.alerts.run(), name="alerts"))
        tasks.append(group.create_task(pulse.run(), name="signs of life"))
        tasks.append(group.create_task(admin.keep_socket(), name="keep the admin socket"))
        told = {"version": __version__, "listen": addresses, **admin.addresses}
        told |= {"sources": sorted(config.sources), "connectors": sorted(config.connectors)}
        log.info("relay runs", workers=config.runtime.workers, **told)
        tasks.append(group.create_task(view.history.run(), name="write the history"))
        tasks.append(group.create_task(view.history.keep_checking(), name="look around for the history"))
        yield
    finally:
        await admin.stop()
        for task in tasks:
            task.cancel()


async def _end_workers(notify: Notify, workers: Sequence[Supervised], running: Sequence[asyncio.Task[None]]) -> None:
    """Stop the workers, and kill those that take too long."""
    log.info("relay stops", drain_s=STOP.drain)
    await notify.report_stopping()
    for each in workers:
        each.stop()
    on_signal(lambda: _signal_workers(workers, signal.SIGTERM))
    _, stuck = await asyncio.wait(running, timeout=count_seconds_left(STOP.closed))
    if stuck:
        log.error("workers do not stop, are killed", workers=len(stuck))
        _signal_workers(workers, signal.SIGKILL)


def _signal_workers(workers: Sequence[Supervised], number: int) -> None:
    for each in workers:
        each.send_signal(number)
