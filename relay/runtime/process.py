"""The parts of a process: signals, inherited sockets, limits."""

import asyncio
import gc
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog

from relay.config import Config, TlsError
from relay.listen import ListenError
from relay.stop import STOP
from relay.store import JournalLimits, ParkedLimits, Store
from relay.systemd import take_inherited_sockets
from relay.words import describe_error

log = structlog.stdlib.get_logger()


class StartError(Exception):
    """Raised when the daemon cannot start, with the reason."""


@contextmanager
def explain_listen_errors(config: Config) -> Iterator[None]:
    """Raise StartError for a listener that cannot start, with the place of the setting that names its address."""
    try:
        yield
    except TlsError as error:
        raise StartError(str(error)) from error
    except ListenError as error:
        raise StartError(": ".join(filter(None, [config.written.get(error.key), str(error)]))) from error
    except OSError as error:
        raise StartError(f"the admin API cannot listen: {error}") from error


def on_signal(act: Callable[[], object]) -> None:
    """Handle SIGTERM and SIGINT by `act` from now on. The first signal begins the stop, even while a plugin blocks the
    loop."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)
        signal.signal(number, partial(_begin_stop, signal.getsignal(number)))


def _begin_stop(loops: Any, *signalled: Any) -> None:
    STOP.begin()
    loops(*signalled)


def take_inherited() -> list[socket.socket] | None:
    """Return the sockets passed by systemd; None without any. Raises StartError."""
    try:
        sockets = take_inherited_sockets()
    except ValueError as error:
        raise StartError(f"the sockets that were passed to relay: {error}") from error
    if sockets:
        log.info("sockets were passed to relay: ingest.listen is not used", sockets=len(sockets))
    return sockets or None


def make_folder_error(config: Config, store: Store, error: OSError) -> StartError:
    """Make the error for a state folder that cannot be used. Blocking."""
    why = filter(None, [describe_error(error), store.describe_full_disk(config.runtime.workers)])
    return StartError(f"the state folder {store.place} cannot be used: {'; '.join(why)}")


def make_limits(config: Config) -> JournalLimits:
    """Return the limits of the journal."""
    settings = config.journal
    expire_oldest = settings.on_full == "expire_oldest"
    compress = settings.compress == "zstd"
    return JournalLimits(settings.max_size, settings.retention, settings.min_free, expire_oldest, compress)


def make_parked_limits(config: Config) -> ParkedLimits:
    """Return the limits of parked events."""
    return ParkedLimits(config.parked.max_size, config.parked.retention, config.journal.min_free)


def freeze_objects() -> None:
    """Have the garbage collector skip all present objects: nearly all of them stay, and to find the others is slow.
    Enable the collector, which is disabled during the start."""
    gc.freeze()
    gc.enable()
