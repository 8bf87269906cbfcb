"""One of several worker processes: its parameters, and its share of the configuration."""

import json
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from relay.api import Plugin, Settings
from relay.config import AdminSettings, Config, Configured, JournalSettings, MetricsSettings, Text
from relay.parent import end_with_parent
from relay.socket_path import address_of

FAILURE: Final = b"X_RELAY_CANNOT_START="
"""The prefix of a worker's message that says why it cannot start."""
FAILURE_BYTES: Final = 3000
P = TypeVar("P", bound=Plugin)
S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Worker:
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
    conf: int = -1
    """The descriptor of the memory file with the configuration in force, as `write_to_memory` writes it."""

    @classmethod
    def read(cls, text: str) -> "Worker":
        """Parse what `str` wrote."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self))

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
        serves admins and sends alerts.
        """
        sources = {} if self.only_drains else config.sources
        return replace(
            config,
            ingest=config.ingest.model_copy(update={"listen": ()}),
            journal=config.journal.take_place(JournalSettings.read(self.journal)),
            runtime=config.runtime.model_copy(update={"workers": self.of}),
            admin=AdminSettings(),
            metrics=MetricsSettings(),
            alerts={},
            sources={name: _replace(one, rate=one.settings.rate / self.of) for name, one in sources.items()},
            connectors={
                name: _replace(one, concurrency=max(1, one.settings.concurrency // self.of))
                for name, one in config.connectors.items()
            },
        )


def make_connector_folder(state: Path, number: int) -> Path:
    """Return the folder where relative paths in the settings of a worker's connectors begin. `state`: the state
    folder."""
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
