"""What the admin API needs of the daemon that it shows."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from relay.api import Message
from relay.config import Config
from relay.state import AlertMessage, Entry, Forgotten
from relay.status import ReloadResult, Status


class Alerting(Protocol):
    """The alerts of the daemon."""

    async def test(self, name: str) -> AlertMessage:
        """Send a test; return what became of it. Raises LookupError, OSError (that is not known yet)."""

    def shown(self) -> Mapping[str, Message]:
        """What each would tell now of what is wrong. Raises OSError right after the start."""


class Control(Protocol):
    """The daemon, as far as its admins see it: one process, or several workers as one."""

    @property
    def folder(self) -> Path:
        """The state folder."""

    @property
    def config(self) -> Config:
        """The configuration that is in force."""

    @property
    def alerts(self) -> Alerting:
        """Who tells people."""

    async def status(self) -> Status:
        """How everything is now."""

    def note(self, entry: Entry) -> None:
        """Have an entry be written into the history soon. Never waits."""

    async def reload(self, *, dry_run: bool = False, by: str = "") -> ReloadResult:
        """Go over to the configuration as it is on disk now; a second one waits its turn. `dry_run`: only see whether
        that can be done. `by`: who asks, as they say."""

    def tap(self, at: str, entries: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Lines of NDJSON of the events that pass at "ingest", or at a connector behind its filters. Raises
        LookupError."""

    async def forget(self, connector: str) -> Forgotten:
        """Let go of all that is kept of a connector that is not configured. Raises LookupError, ValueError (it is),
        OSError, sqlite3.Error."""

    async def pause(self, connector: str, until: float | None) -> bool:
        """Have a connector hold its events, until a time (Unix seconds) or until it is resumed; False if it does so
        already, as long. Returns when that is heeded.

        Raises LookupError, OSError (it is not heeded yet), sqlite3.Error."""

    async def resume(self, connector: str) -> bool:
        """Have a connector go on; False if it was not paused. Returns when that is heeded.

        Raises LookupError, OSError (it is not heeded yet), sqlite3.Error."""

    async def try_now(self, connector: str) -> bool:
        """Have a connector that waits for its destination try again at once; False if it does not wait. Raises
        LookupError, OSError (a worker does not answer)."""
