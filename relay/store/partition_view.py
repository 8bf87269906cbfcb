"""A partition and its log as a bystander reads them: the contract. Methods block, and raise Unavailable. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from relay.api import Block
from relay.store.attempts import Attempts
from relay.store.doubt import Doubt
from relay.store.ledger import LaneLedger, Range, SourceLedger
from relay.store.parked import Parked, ParkedTotal
from relay.store.replay import Replay

Condition = Literal["unread", "good", "open", "torn", "damaged", "gap"]
"""The condition of a part of a log. A torn end was never acknowledged."""
Passed: TypeAlias = Callable[[int], object]
"""Is called with the offset behind each block that was read."""


def ignore_position(position: int) -> None:
    """Do nothing."""


class CheckedPart(Struct, frozen=True, kw_only=True):
    """What was found in a part of a log. Times are Unix seconds."""

    path: str
    """Where the part is."""
    base: int
    """The offset of its first event."""
    condition: Condition
    end: int
    """The offset behind the last good event."""
    used: int
    """The byte behind the last good record."""
    behind: int
    """Bytes behind that record up to the last one that is not zero."""
    first: float | None
    """When its first event was received."""
    last: float | None
    lost: int
    """Events that an earlier repair could not save."""
    events: int
    said: str
    """Its condition in words."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing acknowledged is missing."""
        return self.condition in ("good", "open", "torn")


class UnreadPart(Struct, frozen=True):
    """A part in which a log keeps its events, unread."""

    name: str
    """As `LogView.read` names it."""
    base: int
    """The offset of its first event."""
    written: float
    """About when its last event was received, in Unix seconds; inf while it takes events."""
    stamp: str
    """Changes whenever its events change; "" while it takes events."""


class LogSurvey(Struct, frozen=True, kw_only=True):
    """What is there of a log, found by reading all of it."""

    parts: int
    """Parts in which the log keeps its events."""
    oldest: int
    """The oldest offset; 0 without any event."""
    kept: Sequence[Range]
    """The readable offsets, also those behind damage, ascending."""
    problems: Sequence[str]
    """A sentence for each damaged part."""


class LogView(Protocol):
    """One partition's events, read from outside, also while relay works. Blocking, and changes nothing."""

    @property
    def problems(self) -> Sequence[str]:
        """A sentence for each damaged part among those read so far."""

    def find_span(self) -> Range:
        """Find the oldest offset, and about the head, without reading events. Raises Unavailable."""

    def list_parts(self) -> Sequence[UnreadPart]:
        """List the parts of the log, the oldest first, without reading events. Raises Unavailable."""

    def read(self, start: int = 0, since: float = 0.0) -> Iterator[tuple[str, Block]]:
        """Yield the readable blocks from the one with offset `start` on, each with the name of its part of the log.

        Passes over damage. May leave out parts whose events all came before `since` (Unix seconds). Raises Unavailable.
        """

    def check(self, passed: Passed = ignore_position) -> list[CheckedPart]:
        """Read everything; return what was found in each part. Raises Unavailable."""

    def survey(self, passed: Passed = ignore_position) -> LogSurvey:
        """Read everything, up to the acknowledged head at least. Raises Unavailable."""


class PartitionView(Protocol):
    """One partition as a bystander reads it, also while a process works with it."""

    @property
    def number(self) -> int:
        """The number of the partition."""

    @property
    def place(self) -> str:
        """Where the partition is, for messages."""

    def is_in_use(self) -> bool:
        """Return whether a process works with the partition."""

    def find_process(self) -> int | None:
        """Return the process that works with the partition; None without any, or if it is unknown."""

    def has_state(self) -> bool:
        """Return whether the partition has cursors and ledgers. If not, only its events may be there."""

    def has_work(self) -> bool:
        """Return whether events, replays or erasures remain to be done. Assume so without cursors and ledgers."""

    def view_log(self) -> LogView:
        """Open the events for reading."""

    def read_acknowledged(self) -> int:
        """Return the offset below which all events are acknowledged; 0 if relay never ran."""

    def read_lanes(self) -> list[LaneLedger]:
        """Return the last saved ledger of each lane that ever ran, the one saved last first."""

    def read_lanes_if_any(self) -> list[LaneLedger]:
        """Return the same ledgers; none if relay never ran."""

    def read_sources(self) -> list[SourceLedger]:
        """Return the last saved ledger of each source by name, up to a minute old."""

    def read_parked_offsets(self) -> Mapping[str, Sequence[int]]:
        """Return the offsets at which lanes, not replays, have parked anything, by connector, ascending."""

    def read_parked_totals(self) -> list[ParkedTotal]:
        """Return the totals of parked events by source, connector and cause, with the removed events."""

    def find_parked_at(self, offsets: Sequence[int]) -> list[Parked]:
        """Return the events parked at these offsets, without their bodies, a thousand at most."""

    def find_attempts_at(self, offset: int) -> list[Attempts]:
        """Return the attempts at an event, the last one first."""

    def find_replays_over(self, offset: int) -> list[Replay]:
        """Return the replays with this offset in their range, the last one first."""

    def was_damaged(self, offset: int) -> bool:
        """Return whether an event was ever unreadable, accepted or not."""

    def find_doubts(self) -> list[Doubt]:
        """Return the doubts of the partition."""
