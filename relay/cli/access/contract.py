"""The interface of commands to a state folder."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relay.api import User
from relay.inspect import (
    UNTOLD,
    Audit,
    Check,
    DumpPart,
    JournalProgress,
    Receipt,
    Remains,
    ReplayCount,
    Stretch,
    Trace,
)
from relay.status import RemovedConnector
from relay.store import Entry, FailingErasures, HistoryQuery, Parked, ParkedQuery, Replay

if TYPE_CHECKING:  # one command needs it
    from relay.trial import Diff, DiffRequest


class Asked(NamedTuple):
    """The answer to a request."""

    number: int
    runs: bool
    """Whether the worker runs that has to do it; else it begins after the next start."""


class Resumed(NamedTuple):
    """What a resume has changed."""

    changed: bool
    """Whether the connector was paused."""
    retried: bool
    """Whether the connector waited for its destination, and tries again at once."""


class RemovedConnectors(NamedTuple):
    """What is kept of connectors that are not configured."""

    configured: Mapping[str, Sequence[str]]
    """The connectors that are configured, each with the nodes that have it, if nodes share the store."""
    removed: Mapping[str, RemovedConnector]
    """What is kept, by removed connector."""
    failing_erasures: Sequence[FailingErasures]
    """Failing erasures, at configured connectors as well."""


class StateAccess(Protocol):
    """The requests of commands for one state folder. All raise click.ClickException, ClientError, OSError."""

    @property
    def runs(self) -> bool:
        """Whether a relay runs with the state folder."""

    def name_part(self, worker: int) -> str:
        """Name a worker's part of the store for people."""

    def read_parked(self, which: ParkedQuery, *, bodies: bool = True) -> Iterator[Parked]:
        """Yield the selected parked events, the oldest first."""

    def count_parked(self, which: ParkedQuery) -> int:
        """Count the selected parked events."""

    def drop_parked(self, which: ParkedQuery) -> int:
        """Drop the parked events of a selection; return how many."""

    def mark_parked(self, which: ParkedQuery) -> int:
        """Request a replay of the selected parked events; return their number."""

    def list_replays(self) -> list[Replay]:
        """Return all replays."""

    def ask_replay(self, replay: Replay, worker: int = 0) -> Asked:
        """Request a replay from one worker's journal."""

    def cancel_replay(self, number: int) -> bool:
        """Cancel a replay; return False if it has ended before, or does not exist."""

    def count_replay(self, asked: Stretch, progress: JournalProgress = UNTOLD) -> ReplayCount:
        """Count the events of a replay."""

    def list_receipts(self) -> list[Receipt]:
        """Return the receipts of all erasures."""

    def ask_erasure(self, user: User) -> Asked:
        """Request the erasure of a user."""

    def find_remains(self, user: User, progress: JournalProgress = UNTOLD) -> Remains:
        """Find what remains of a user."""

    def audit(self, progress: JournalProgress = UNTOLD) -> Audit:
        """Audit whether anything has vanished."""

    def check_journal(self, progress: JournalProgress = UNTOLD) -> Check:
        """Check whether the journal is whole."""

    def dump_journal(self, part: DumpPart, progress: JournalProgress = UNTOLD) -> Iterator[bytes]:
        """Yield the events of a part of the journal as lines of NDJSON."""

    def trace(self, id: str, progress: JournalProgress = UNTOLD) -> Trace:
        """Trace an event: where it is, and what becomes of it."""

    def diff(self, asked: "DiffRequest", progress: JournalProgress = UNTOLD) -> "Diff":
        """Compare what a new configuration would have made of recorded events."""

    def read_history(self, query: HistoryQuery) -> Sequence[Entry]:
        """Return entries of the history, the newest last."""

    def pause(self, connector: str, until: float | None) -> bool:
        """Pause a connector until a time (Unix seconds) or without an end; return False if it is paused as long
        already."""

    def resume(self, connector: str) -> Resumed:
        """Resume a connector."""

    def find_removed(self) -> RemovedConnectors:
        """Find what is kept of connectors that have run but are not configured."""

    def forget(self, connector: str) -> None:
        """Remove what is kept of a connector that is not configured."""
