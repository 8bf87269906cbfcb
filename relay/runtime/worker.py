"""One of several worker processes: whether there are any, its parameters, and its share of the configuration."""

import json
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog
from msgspec import Struct, structs

from relay.api import Connector, ConnectorSettings, Plugin, Settings
from relay.config import AdminSettings, Config, Configured, JournalSettings, MetricsSettings, Text
from relay.parent import end_with_parent
from relay.socket_path import address_of
from relay.store import Store, Unavailable

log = structlog.stdlib.get_logger()

FAILURE: Final = b"X_RELAY_CANNOT_START="
"""The prefix of a worker's message that says why it cannot start."""
FAILURE_BYTES: Final = 3000
P = TypeVar("P", bound=Plugin)
S = TypeVar("S", bound=Settings)


class Worker(Struct, frozen=True):
    """A worker. The first worker, number 0, keeps the events that must be in one journal."""

    number: int
    of: int
    """The number of workers. A worker with this number or a higher one only delivers what it still has."""
    rendezvous: str
    """The folder of the workers' sockets."""
    fds: Sequence[int]
    """The sockets to listen on."""
    outlived: bool
    """Whether the sockets stay open when relay stops."""
    journal: str
    """The settings of the journal as at the start of relay. A change of its place takes a restart of relay."""
    shared_partitions: int = 0
    """The number of partitions that all processes share. 0: this worker has its own."""
    conf: int = -1
    """The descriptor of the memory file with the configuration in force, as `write_to_memory` writes it."""

    @classmethod
    def read(cls, text: str) -> "Worker":
        """Parse what `str` wrote."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(structs.asdict(self))

    def read_texts(self) -> list[Text]:
        """Read the configuration in force at this worker's start, whatever is on disk by now. Works once."""
        with os.fdopen(self.conf, "rb") as file:
            return msgspec.json.decode(file.read(), type=list[Text])

    @property
    def only_drains(self) -> bool:
        """Whether the worker takes nothing in, and ends when everything is delivered."""
        return self.number >= self.of

    @property
    def first(self) -> Path:
        """The socket of the first worker for events from the others."""
        return Path(self.rendezvous) / "first.sock"

    @property
    def notify(self) -> Path:
        """The socket of the supervisor for signs of life."""
        return Path(self.rendezvous) / f"notify-{self.number}.sock"

    def report_failure(self, failure: str) -> bool:
        """Report to the supervisor why this process cannot start; return False if nobody listens."""
        message = FAILURE + " ".join(failure.split()).encode()[:FAILURE_BYTES]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, suppress(OSError):
            out.setblocking(False)
            with address_of(self.notify) as address:
                out.sendto(message, address)
            return True
        return False

    @property
    def admin(self) -> Path:
        """The socket at which the supervisor asks for the status."""
        return Path(self.rendezvous) / f"admin-{self.number}.sock"

    def divide(self, config: Config) -> Config:
        """Return this worker's share of a configuration.

        The workers together keep each connector's `concurrency` and each source's `rate`. Only the supervisor listens,
        serves admins and sends alerts. Partitions that all processes share have their parts of connectors' limits.
        """
        sources = {} if self.only_drains else config.sources
        connectors = config.connectors if self.shared_partitions else _divide_concurrency(config, self.of)
        return replace(
            config,
            ingest=config.ingest.model_copy(update={"listen": ()}),
            journal=config.journal.take_place(JournalSettings.read(self.journal)),
            runtime=config.runtime.model_copy(update={"workers": self.of}),
            admin=AdminSettings(),
            metrics=MetricsSettings(),
            alerts={},
            sources={name: _replace(one, rate=one.settings.rate / self.of) for name, one in sources.items()},
            connectors=connectors,
        )


def divide_by_partitions(config: Config, partitions: int) -> Config:
    """Return the part of a configuration that is one partition's, of those that all processes share; 0: all of it.

    The partitions together keep each connector's `rate` and `concurrency`, and the limits of bytes.
    """
    if not partitions:
        return config
    journal, parked = config.journal, config.parked
    limits = {"max_size": journal.max_size // partitions, "memory": journal.memory // partitions}
    return replace(
        config,
        journal=journal.model_copy(update=limits),
        parked=parked.model_copy(update={"max_size": parked.max_size // partitions}),
        connectors={
            name: _replace(one, rate=one.settings.rate / partitions)
            for name, one in _divide_concurrency(config, partitions).items()
        },
    )


def _divide_concurrency(config: Config, parts: int) -> dict[str, Configured[Connector, ConnectorSettings]]:
    """Return the connectors with their parts of `concurrency`, at least 1."""
    return {
        name: _replace(one, concurrency=max(1, one.settings.concurrency // parts))
        for name, one in config.connectors.items()
    }


def make_connector_folder(state: Path, number: int) -> Path:
    """Return the folder where relative paths in the settings of a worker's connectors begin, if each worker has a
    journal of its own. `state`: the state folder."""
    return state / "workers" / str(number) if number else state


@contextmanager
def write_to_memory(texts: Sequence[Text]) -> Iterator[int]:
    """Write a configuration to a memory file for a worker to inherit; yield its descriptor. Raises OSError."""
    with os.fdopen(os.memfd_create("conf.d"), "w+b") as file:
        file.write(msgspec.json.encode(texts))
        file.seek(0)
        yield file.fileno()


def _replace(one: Configured[P, S], **settings: float) -> Configured[P, S]:
    return replace(one, settings=one.settings.model_copy(update=settings))


def follow_parent() -> None:
    """Stop this process when its parent ends, however that happens, and ignore SIGHUP: the parent handles it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_with_parent()


def needs_workers(config: Config, store: Store) -> bool:
    """Return whether more than this process has to run. Raises Unavailable."""
    return config.runtime.workers > 1 or bool(find_leftover(store, config.runtime.workers))


def find_leftover(store: Store, workers: int) -> list[int]:
    """Return the surplus workers that still have something to do. Shared partitions need no worker of their number."""
    found: list[int] = []
    if store.shared_partitions:
        return found
    for partition in store.view_all():
        try:
            if partition.number >= workers and partition.has_work():
                found.append(partition.number)
        except Unavailable as error:
            advice = "what that worker has left is not delivered: see relay audit, and repair or restore its relay.db"
            told = {"folder": partition.place, "error": str(error), "advice": advice}
            log.error("a worker that is no longer wanted is left out", **told)
    return found
