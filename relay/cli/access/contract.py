"""What commands may ask of a state folder, and what they are answered."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from relay.api import User
from relay.inspect import Audit, Check, DumpPart, Receipt, Remains, ReplayCount, Stretch, Trace
from relay.state import Entry, FailingErasures, HistoryQuery, Parked, ParkedQuery, Replay


class Asked(NamedTuple):
    """What was asked for."""

    number: int
    runs: bool
    """Whether who is to do it runs; else it begins after the next start."""


class Resumed(NamedTuple):
    """What a resume has changed."""

    changed: bool
    """The connector was paused before."""
    retried: bool
    """The connector waited for its destination, and tries again at once."""


class RemovedConnectors(NamedTuple):
    """What is kept of connectors that are not configured."""

    pending: Mapping[str, int]
    """Of each how many events are pending."""
    failing_erasures: Sequence[FailingErasures]
    """Where erasures fail, at configured connectors as well."""


class StateAccess(Protocol):
    """What commands ask for one state folder. All of it raises click.ClickException, OSError, sqlite3.Error."""

    @property
    def runs(self) -> bool:
        """Whether a relay runs with the state folder."""

    def look_at_parked(self, which: ParkedQuery, *, bodies: bool = True) -> Iterator[Parked]:
        """The parked events of a selection, the oldest first."""

    def count_parked(self, which: ParkedQuery) -> int:
        """How many parked events a selection has."""

    def drop_parked(self, which: ParkedQuery) -> int:
        """Drop the parked events of a selection; return how many."""

    def mark_parked(self, which: ParkedQuery) -> int:
        """Have the parked events of a selection delivered again; return how many."""

    def replays(self) -> list[Replay]:
        """All replays."""

    def ask_replay(self, replay: Replay, worker: int = 0) -> Asked:
        """Ask for a replay out of one worker's journal."""

    def cancel_replay(self, number: int) -> bool:
        """Cancel a replay; False if it has ended before, or there is none."""

    def count_replay(self, asked: Stretch) -> ReplayCount:
        """What a replay would take."""

    def receipts(self) -> list[Receipt]:
        """The receipts of all erasures."""

    def ask_erasure(self, user: User) -> Asked:
        """Ask for a user to be erased."""

    def remains(self, user: User) -> Remains:
        """What there still is of a user."""

    def audit(self) -> Audit:
        """Whether anything has vanished."""

    def check_journal(self) -> Check:
        """Whether the journal is whole."""

    def dump_journal(self, part: DumpPart) -> Iterator[bytes]:
        """The events of a part of the journal as lines of NDJSON."""

    def trace(self, id: str) -> Trace:
        """Where an event is, and what becomes of it."""

    def history(self, query: HistoryQuery) -> Sequence[Entry]:
        """What happened, the newest last."""

    def pause(self, connector: str, until: float | None) -> bool:
        """Pause a connector, until a time (Unix seconds) or for good; False if it was paused already, as long."""

    def resume(self, connector: str) -> Resumed:
        """Have a connector go on."""

    def removed(self) -> RemovedConnectors:
        """What is kept of connectors that have run but are not configured."""

    def forget(self, connector: str) -> None:
        """Remove what is kept of a connector that is not configured."""
