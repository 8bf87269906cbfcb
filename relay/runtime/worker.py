"""One of several processes that do the work together: what it is told at its start, and what that changes."""

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
from relay.config import AdminSettings, Config, Configured, MetricsSettings, Text
from relay.parent import end_with_parent
from relay.socket_path import address_of

FAILURE: Final = b"X_RELAY_CANNOT_START="
"""How a message of a worker begins that says why it cannot start."""
FAILURE_BYTES: Final = 3000
P = TypeVar("P", bound=Plugin)
S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker; the first one, with the number 0, keeps what has to be in one journal."""

    number: int
    of: int
    """How many there are; one whose number is not below that only delivers what it still has."""
    rendezvous: str
    """The folder of the sockets by which they know each other."""
    fds: Sequence[int]
    """The sockets to listen on."""
    outlived: bool
    """Whether they stay open when relay stops."""
    journal: str
    """The setting `journal.path` as it was at the start of them all: it takes a restart of relay."""
    conf: int = -1
    """The descriptor of the file in memory that has the configuration in force, as `handed` writes it."""

    @classmethod
    def read(cls, text: str) -> "Worker":
        """What `str` wrote."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    def texts(self) -> list[Text]:
        """The configuration in force when it was started, whatever lies on disk by now; to be read once."""
        with os.fdopen(self.conf, "rb") as file:
            return msgspec.json.decode(file.read(), type=list[Text])

    @property
    def only_drains(self) -> bool:
        """Whether it takes nothing in, and ends when all it has is delivered."""
        return self.number >= self.of

    @property
    def first(self) -> Path:
        """The socket at which the first one takes what the others hand on."""
        return Path(self.rendezvous) / "first.sock"

    @property
    def notify(self) -> Path:
        """The socket at which its supervisor hears how it is."""
        return Path(self.rendezvous) / f"notify-{self.number}.sock"

    def tell(self, failure: str) -> bool:
        """Tell the supervisor why this process cannot start; False if nobody hears it."""
        message = FAILURE + " ".join(failure.split()).encode()[:FAILURE_BYTES]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, suppress(OSError):
            out.setblocking(False)
            with address_of(self.notify) as address:
                out.sendto(message, address)
            return True
        return False

    @property
    def admin(self) -> Path:
        """The socket at which its supervisor asks how it is."""
        return Path(self.rendezvous) / f"admin-{self.number}.sock"

    def share(self, config: Config) -> Config:
        """Its part of a configuration: all of them together keep to each connector's `concurrency` and each source's
        `rate`, and it is for the supervisor to listen, to talk to admins and to those whom alerts tell, and to know how
        many there are."""
        sources = {} if self.only_drains else config.sources
        return replace(
            config,
            ingest=config.ingest.model_copy(update={"listen": ()}),
            journal=config.journal.model_copy(update={"path": Path(self.journal)}),
            runtime=config.runtime.model_copy(update={"workers": self.of}),
            admin=AdminSettings(),
            metrics=MetricsSettings(),
            alerts={},
            sources={name: _with(one, rate=one.settings.rate / self.of) for name, one in sources.items()},
            connectors={
                name: _with(one, concurrency=max(1, one.settings.concurrency // self.of))
                for name, one in config.connectors.items()
            },
        )


@contextmanager
def handed(texts: Sequence[Text]) -> Iterator[int]:
    """A file in memory that has a configuration, for a worker's process to inherit. Raises OSError."""
    with os.fdopen(os.memfd_create("conf.d"), "w+b") as file:
        file.write(msgspec.json.encode(texts))
        file.seek(0)
        yield file.fileno()


def _with(one: Configured[P, S], **settings: float) -> Configured[P, S]:
    return replace(one, settings=one.settings.model_copy(update=settings))


def follow_parent() -> None:
    """Have this process stop when the one that started it is gone, however that ended, and leave it to that one to hear
    of a SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_with_parent()
