"""State: what one partition knows beside its events, such as cursors, parked events, replays and pauses."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from relay.api import Connector, KeyValueStore
from relay.store.attempts import Attempts
from relay.store.cursor import Cursor
from relay.store.damage import Damage
from relay.store.erasure import Erasures
from relay.store.ledger import LaneLedger, SourceLedger
from relay.store.parked import Parked, ParkedLimits, Reason, Removals
from relay.store.pause import Pause
from relay.store.replay import Replay


class CutLines(Protocol):
    """The saved cuts of a lane, a line for each batch: which events go out together.

    Lines of bytes, each without a line feed, in their order. The lane alone knows what a line says.

    A line outlives the process. A power cut may lose lines, or damage them. All methods raise Unavailable.

    A write that has to wait for others returns a future, which ends when the lines outlive the process. Without a
    future they do so already. The future raises Unavailable.
    """

    where: str
    """The place of the lines, for log messages."""

    def load(self) -> list[bytes]:
        """Return all lines. A damaged line comes back empty. Blocking."""

    def append(self, line: bytes) -> asyncio.Future[None] | None:
        """Add a line behind those of the last `rewrite`. Quick."""

    def rewrite(self, lines: Sequence[bytes]) -> asyncio.Future[None] | None:
        """Put these lines in place of all before. Quick."""

    def close(self) -> None:
        """Let go of the lines. The next `rewrite` takes them up again."""

    def remove(self) -> None:
        """Remove all lines, once they are closed."""


class SourceState(Protocol):
    """What sources leave beside their events. Each method is one transaction, as those of `State`."""

    @property
    def busy_for(self) -> float:
        """Seconds that the present work has taken, including its wait for others; 0: idle."""

    async def park(self, parked: Sequence[Parked]) -> list[int]:
        """Park events; return their numbers, which are never given again. Parks nothing if it is cancelled."""

    async def unpark(self, numbers: Sequence[int]) -> None:
        """Delete the events just parked with these numbers."""

    async def read_sources(self) -> dict[str, SourceLedger]:
        """Return the last saved ledger of each source."""

    def save_sources(self, ledgers: Sequence[SourceLedger]) -> asyncio.Future[object]:
        """Save the sources' ledgers. Starts at once; await the result only to learn how it ends."""

    async def read_memories(self) -> dict[str, str]:
        """Return the saved memory of each source."""

    async def save_memory(self, source: str, memory: str) -> None:
        """Save a source's memory."""


class State(SourceState, Protocol):
    """What one partition knows beside its events. Use it from one event loop.

    - Each method is one transaction: all or nothing. What it changes is durable when it returns.
    - A method raises Unavailable and nothing else, and has changed nothing then. Another call may succeed.
    - A State that is opened later ends this one: every transaction raises Unavailable with the reason "taken" from then
      on, and so does every write to the log once a transaction has.
    - A method that is cancelled may change everything or nothing.
    - Admins change pauses, replays and parked events at any time, also of a partition at work: `changes` tells.
    """

    worker: int
    """The number of the partition, and of the worker that works with it."""
    parked_limits: ParkedLimits
    """The limits of parked events, from the next call on."""
    removals: dict[Reason, Removals]
    """Parked events that were removed beyond the limits. Whoever logs an entry takes it out."""
    save_s: float
    """Seconds between two saves of the cursors, unless a window is full."""

    @property
    def erasures(self) -> Erasures:
        """The requested erasures."""

    @property
    def now(self) -> int | None:
        """Where a connector without a cursor begins that begins "now"; None: at the log's head.

        While it is in doubt whether all connectors are known, that is the first event after the last known one. That
        event may have been for this connector.
        """

    @property
    def refusing(self) -> str | None:
        """Why the last transaction failed; None: it succeeded."""

    def make_plugin_store(self, connector: Connector) -> KeyValueStore:
        """Make the store of a connector, apart from all that is in this state. Blocks nobody, and raises nothing."""

    async def await_taken(self) -> str:
        """Wait until this process may deliver nothing more of the partition; return the reason.

        Another process works with the partition then, or may begin at any moment.
        """

    async def await_answer(self) -> None:
        """Wait until some request has ended, well or not: for ever, if the disk hangs."""

    async def changes(self) -> int:
        """Return a number that is another one when somebody else has written, or parked events were removed."""

    async def load_cursor(self, connector: str) -> Cursor | None:
        """Return the saved cursor of a connector; None if the connector never ran."""

    async def find_begun(self, connector: str) -> float | None:
        """Find when a connector began in any partition that all processes share, by the log's clock.

        None: it never ran, or each process has its own partition.
        """

    async def read_lane_ledgers(self) -> list[LaneLedger]:
        """Return the last saved ledger of each lane that ever ran, the one saved last first. Waits for no work under
        way."""

    async def save(
        self,
        cursors: Mapping[str, Cursor],
        head: int,
        delivered_again: Sequence[Parked] = (),
        replays: Mapping[int, Cursor] = MappingProxyType({}),
        attempts: Sequence[Attempts] = (),
        damage: Sequence[Damage] = (),
    ) -> None:
        """Save cursors with their counts, the progress of replays, attempts and damage, and delete delivered parked
        events.

        `head`: the log's head. A replay whose cursor has reached its stop is over. A parked event stays if it has
        failed since it was read (`read_marked`).
        """

    async def save_end(self, head: int) -> None:
        """Save that the log was closed with this head. Nothing is appended after it."""

    async def forget_attempts(self, oldest: int) -> None:
        """Delete the attempts at events below this offset, which have left the log, and the oldest of too many."""

    async def read_accepted(self) -> None:
        """Read what an admin has accepted meanwhile of the clock and the log."""

    async def read_pauses(self) -> dict[str, Pause]:
        """Return the pauses by connector."""

    async def follow_pauses(self) -> None:
        """Take over the pauses of the first partition in place of those here."""

    async def read_replays(self) -> list[Replay]:
        """Return the replays that run or wait, the last one first."""

    async def park(self, parked: Sequence[Parked]) -> list[int]:
        """Park events; return their numbers, which are never given again. Parks nothing if it is cancelled.

        An event that is parked already, the same part of it for the same connector, keeps its number and the time of
        its first failure, and its attempts add up. A request to replay it ends, unless it is younger than the failure.
        Other events may be removed to make room (`parked_limits`), in transactions before.
        """

    async def read_marked(
        self, connector: str, events: int, size: int, offsets: Sequence[int] | None = None
    ) -> list[Parked]:
        """Return parked events of a connector that are to be delivered again, in the log's order.

        Return at most `events` that fit into `size` bytes, but at least one; only at `offsets`, if given. Of each key
        only the first event is returned. The others, and events parked only for their order, follow later.
        """

    async def read_parked_places(self, connector: str, offsets: Sequence[int]) -> set[tuple[int, int]]:
        """Return offset and part of what a lane, not a replay, has parked of the events at these offsets."""

    async def read_parked_keys(self, connector: str, but: Sequence[int] = ()) -> set[str]:
        """Return the ordering keys of a connector's parked events, without the events of these numbers."""

    async def read_parked_in(self, connector: str, ranges: Sequence[tuple[int, int]]) -> list[Parked]:
        """Return what a lane, not a replay, has parked in these ranges, without the bodies."""

    async def remove_parked(self) -> bool:
        """Remove some parked events that are too old or too many (`parked_limits`); return whether any was."""

    async def shrink(self) -> bool:
        """Give some of the room of deleted data back; return False if little is left."""

    def open_cuts(self, connector: str, part: str = "") -> CutLines:
        """Return the saved cuts of a connector, or of another part of its work: a replay's number, or "again".

        Cuts are of this log. Never blocks.
        """

    async def remove_cuts_of_replays(self, but: Collection[int]) -> None:
        """Remove the saved cuts of all replays but these."""

    def close(self) -> None:
        """Finish the work under way and close. Every method raises Unavailable from then on. Blocking."""
