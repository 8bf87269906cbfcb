"""What every engine promises of the log: the events of one partition, each at its offset for ever."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from msgspec import Struct, field

from relay.api import Block, Kind, User
from relay.histogram import Histogram
from relay.store.clock import Clock
from relay.store.damage import Damage
from relay.store.users import Wanted

Wants = Callable[[str], bool]
"""Whether events of this type are wanted."""


class JournalLimits(Struct, frozen=True):
    """Limits of the journal: `max_size` bytes on disk, delivered events for `retention` seconds."""

    max_size: int
    retention: float
    min_free: int = 0
    """Bytes that the journal leaves free on its file system; 0: no limit."""
    expire_oldest: bool = False
    """Whether needed events are removed when space is short."""
    compress: bool = False
    """Whether new events are compressed."""


class EventIds(Struct, frozen=True):
    """The ids of the events of a request, by which duplicates are found."""

    source: str
    """The source of the request. Ids of other sources are never duplicates."""
    ids: Sequence[str]
    """The id of each event."""
    window: float
    """Seconds within which a repeated id is a duplicate."""
    subject: str | None = None
    """What the events are about: an id counts only while it is among the latest of its subject."""


class ErasedStretch(Struct, frozen=True):
    """What a stretch of the log holds of the users to erase."""

    end: int
    """The offset behind the stretch."""
    erased: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """The users whose events are at these offsets."""
    changed: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """The users who are named, among others, at these offsets."""
    before: Collection[int] = ()
    """Offsets of events erased before."""


class Appender(Protocol):
    """Puts events into a log, or into the logs of several partitions. Use it from one event loop."""

    @property
    def clock(self) -> Clock:
        """The clock by which data expires."""

    @property
    def bytes(self) -> int:
        """Bytes of events appended since the start."""

    @property
    def failed(self) -> int:
        """Failed commits since the start."""

    @property
    def syncs(self) -> Histogram:
        """Seconds that each commit took to become durable."""

    @property
    def refusing(self) -> str | None:
        """Why the last commit failed; None if it succeeded, or failed so long ago that senders may try again."""

    @property
    def failing(self) -> bool:
        """Whether the last commit failed, however long ago."""

    @property
    def taps(self) -> set[Callable[[Block], object]]:
        """Functions that get each block once it is durable. They must be quick."""

    async def append(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        """Append events; return the offset of the first event once all are durable. Raises Unavailable, TooLarge.

        The events have consecutive offsets in their order. Of a failed append no event is kept, and the next append
        gets the offsets. A cancelled append may be kept.
        """

    def append_new(
        self, kinds: Sequence[Kind], bodies: Sequence[Any], by: EventIds
    ) -> AbstractAsyncContextManager[Sequence[int]]:
        """Append the events that are no duplicates; yield their places once they are durable. Raises Unavailable,
        TooLarge.

        A duplicate has the id of an event that is in the log already, or of an earlier event in `by`. Two appends at
        the same time never both append an id. The ids count as seen once the block has ended without an exception.
        After a crash, or an exception in the block, their duplicates may be appended.
        """

    async def forget_ids(self, but: Collection[str]) -> None:
        """Forget the ids of all sources but these."""

    def check_size(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        """Return about the bytes that these events take. Raises TooLarge if they can never fit."""


class LogReader(Protocol):
    """Reads the log on from an offset, in the order of offsets, while the log grows and its oldest events leave."""

    @property
    def offset(self) -> int:
        """The offset of the next read."""

    async def skip(self, offset: int) -> int:
        """Wait for an event at this offset; return the offset of the first event that may be wanted.

        Without such an event return the log's head.
        """

    async def read(self, offset: int) -> list[Block]:
        """Wait for events at this offset; return the next blocks, about a MiB. Raises Unavailable.

        Return durable events only, and each event byte for byte as it was appended. Skip events that have left the log
        or cannot be read: a block may start later than `offset`, or than the last block ended. If nothing up to the
        head is readable, return no block, and `offset` is the head.
        """

    def close(self) -> None:
        """Leave the log. Never blocks."""


class Log(Appender, Protocol):
    """The events of one partition. Use it from the event loop that opened it.

    Once a transaction of the partition's State has failed because another relay works with the partition, every write
    raises Unavailable with the reason "taken". `close` writes nothing then.
    """

    @property
    def identity(self) -> str:
        """The id of the log. A copy of the log has the same id."""

    @property
    def head(self) -> int:
        """The offset of the next event. Everything below is durable. Never decreases."""

    @property
    def oldest(self) -> int:
        """The oldest readable offset. Never decreases."""

    @property
    def trimmed(self) -> int:
        """The offset below which events have left the log for age or room. Gaps above it are damage."""

    @property
    def size(self) -> int:
        """Bytes that the log takes."""

    @property
    def capacity(self) -> int:
        """Bytes that the log may take."""

    @property
    def stored(self) -> int:
        """Bytes that the events appended since the start took of `capacity`."""

    @property
    def lost(self) -> int:
        """Unreadable events since the start: damaged, or removed by somebody."""

    @property
    def unsaved_damage(self) -> Sequence[Damage]:
        """Damage that is not saved yet. `drop_saved_damage` removes the saved entries."""

    def drop_saved_damage(self, number: int) -> None:
        """Drop the first `number` entries of `unsaved_damage`, which are saved now."""

    async def check_room(self) -> None:
        """Check whether the next commit will find room; set `refusing` if not. Raises Unavailable."""

    def set_fillers(self, fillers: Callable[[], str]) -> None:
        """Set the function that says what fills the disk. A thread calls it when the disk is full."""

    def set_limits(self, limits: JournalLimits, memory: int) -> None:
        """Use other limits from the next commit on. `memory`: bytes of recent events in memory."""

    async def keep(self, needed: int, replay_floor: int | None = None) -> None:
        """Keep the events from `needed` on. Older events may leave the log; those from `replay_floor` on only to make
        room."""

    def measure_needed(self, offset: int) -> int:
        """Return the bytes that the events from this offset on take."""

    def open_reader(self, wants: Wants = ...) -> LogReader:
        """Open a reader with a position of its own, at the head. Close it when done.

        A reader hears late of events whose types it does not want.
        """

    async def find_offset(self, received: float) -> int:
        """Find the offset of the first event received at this Unix time or later; the head without any. Raises
        Unavailable."""

    async def find_received(self, offset: int) -> float | None:
        """Find when the event at this offset, or the next event left, was received, in Unix seconds; None if
        unknown."""

    async def await_commit(self) -> None:
        """Wait until the commit under way has ended: for ever, if the disk hangs."""

    async def await_reads(self) -> None:
        """Wait until the present reads have ended: for ever, if the disk hangs."""

    async def find_more_ids(self, wanted: Wanted, head: int) -> dict[int, User]:
        """Find further ids of the users in all events below `head`, by the number of the erasure. Raises
        Unavailable."""

    def erase(self, wanted: Wanted, head: int) -> AsyncGenerator[ErasedStretch, None]:
        """Erase the users from all events below `head`, stretch by stretch, and from damaged copies. Raises
        Unavailable.

        Yield what a stretch holds of the users, and erase it only when the caller asks for the next stretch: the caller
        has saved the counts by then. A crash at any point leaves each stretch as it was, or erased. A repetition then
        finds what is left, and the offsets of the events erased before. An erased event leaves a tombstone at its
        offset. Every other event keeps its offset and bytes. Events appended at the same time may be erased, too.
        """

    def withhold(self, wanted: Wanted | None) -> None:
        """Let readers find these users' events erased from now on, as after `erase`. None: nobody's."""

    async def close(self) -> None:
        """Finish the commits under way, and close the log."""
