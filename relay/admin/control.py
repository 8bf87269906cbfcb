"""What the admin API needs of the daemon that it shows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from relay.admin.status import Status
from relay.api import Block
from relay.journal.audit import Audit

Taps = set[Callable[[Block], object]]


class Reload(Protocol):
    """The outcome of a reload."""

    @property
    def ok(self) -> bool:
        """Whether the new configuration is in force; if not, the old one is."""

    @property
    def said(self) -> Sequence[str]:
        """What has changed, or every mistake."""


class Control(Protocol):
    """The daemon, as far as its admins see it."""

    @property
    def folder(self) -> Path:
        """The state folder."""

    async def status(self) -> Status:
        """How everything is now."""

    async def reload(self) -> Reload:
        """Go over to the configuration as it is on disk now; a second one waits its turn."""

    async def audit(self) -> Audit:
        """Prove that nothing has vanished; this reads the whole journal. Raises OSError, sqlite3.Error."""

    def taps(self, at: str) -> Taps:
        """The taps of "ingest", or of a connector behind its filters. Raises LookupError."""

    def position(self, connector: str) -> int:
        """The offset below which the connector has all events settled. Raises LookupError."""

    def is_held(self, connector: str) -> bool:
        """Whether an admin has the connector paused. Raises LookupError."""
