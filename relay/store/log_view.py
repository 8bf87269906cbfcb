"""A log as a bystander reads it: the contract. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from relay.api import Block
from relay.store.ledger import Range

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
