"""A log as a bystander reads it: the contract. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from relay.api import Block
from relay.store.ledger import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSurvey:
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

    def read(self, start: int = 0, since: float = 0.0) -> Iterator[tuple[str, Block]]:
        """Yield the readable blocks from the one with offset `start` on, each with the name of its part of the log.

        Passes over damage. May leave out parts whose events all came before `since` (Unix seconds). Raises Unavailable.
        """

    def survey(self) -> LogSurvey:
        """Read everything, up to the acknowledged head at least. Raises Unavailable."""
