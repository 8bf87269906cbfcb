"""The interface of the daemon for the admin API."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from relay.api import Message
from relay.config import Config
from relay.status import ReloadResult, Status
from relay.store import AlertMessage, Entry, Forgotten, Store


class Alerting(Protocol):
    """The alerts of the daemon."""

    async def test(self, name: str) -> AlertMessage:
        """Send a test; return its result. Raises LookupError, and OSError while the result is unknown."""

    def preview(self) -> Mapping[str, Message]:
        """Return the message that each alert would send now. Raises OSError right after the start."""


class Control(Protocol):
    """The daemon for its admins: one process, or several workers as one."""

    @property
    def folder(self) -> Path:
        """The state folder."""

    @property
    def store(self) -> Store:
        """The store."""

    @property
    def config(self) -> Config:
        """The configuration in force."""

    @property
    def used(self) -> Config:
        """The configuration of the start, some of whose settings stay in force until a restart."""

    @property
    def alerts(self) -> Alerting:
        """The alerts."""

    async def status(self, *, own: bool = False) -> Status:
        """Return the status. `own`: without parked events, erasures and doubts, which are in the store."""

    def note(self, entry: Entry) -> None:
        """Write an entry into the history soon. Never waits."""

    async def reload(self, *, dry_run: bool = False, by: str = "") -> ReloadResult:
        """Switch to the configuration on disk. A second reload waits its turn.

        `dry_run`: only check whether the reload is possible. `by`: who asks.
        """

    def tap(self, at: str, entries: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Yield NDJSON of the events at "ingest", or at a connector behind its filters. Raises LookupError."""

    async def forget(self, connector: str) -> Forgotten:
        """Remove everything of an unconfigured connector.

        Raises LookupError, ValueError if the connector is configured, Unavailable.
        """

    async def pause(self, connector: str, until: float | None) -> bool:
        """Pause a connector until a time (Unix seconds) or until it is resumed; return False if it is paused as long
        already.

        Returns when the lane obeys. Raises LookupError, OSError if the lane does not obey in time, Unavailable.
        """

    async def resume(self, connector: str) -> bool:
        """Resume a connector; return False if it was not paused. Returns when the lane obeys.

        Raises LookupError, OSError if the lane does not obey in time, Unavailable.
        """

    async def try_now(self, connector: str) -> bool:
        """Make a waiting connector try again at once; return False if it does not wait.

        Raises LookupError, OSError if a worker does not answer.
        """
