"""Group commit: one commit at a time, and all that arrives meanwhile forms the next group.

A commit lets its senders go on, and so their next requests come together. The next group waits for them, until
QUIET_PASSES passes of the event loop have brought no further batch. Without the wait, two groups would take turns, each
with half of the senders, and with twice as many commits. The wait never sleeps. After a group of one batch there is no
wait: nobody else sends.

A group fails as a whole. The commit of the next group is tried all the same.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import structlog

from relay.api import Kind
from relay.journal.failure import make_unavailable
from relay.journal.record import PER_EVENT, measure_record
from relay.journal.retention import find_largest_record
from relay.store import EventIds, JournalLimits, TooLarge, Unavailable

R = TypeVar("R")
GROUP_BYTES: Final = 8 << 20
"""Bytes of a group, at most, unless a single batch is larger."""
QUIET_PASSES: Final = 3
"""Passes of the event loop without a further batch until a group is committed. A request takes three passes from its
socket into its group."""
MOST_PASSES: Final = 20
"""Passes of the event loop until a group is committed, at most."""
REFUSING_S: Final = 30.0
"""Seconds after a failed commit until senders may try again."""
log = structlog.stdlib.get_logger()


@dataclass(slots=True, eq=False)
class Group:
    """The batches of one commit."""

    kinds: list[Kind] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    size: int = 0
    waiting: list[tuple[int, asyncio.Future[Any]]] = field(default_factory=list)
    """The future of each batch, and the place of its first event in the group."""
    ids: dict[int, EventIds] = field(default_factory=dict)
    """The ids of batches whose duplicates the engine leaves out at the commit, by the number of the batch."""

    def set_done(self, offset: int) -> None:
        """Tell all who wait that the group is durable from this offset on."""
        for place, future in self.waiting:
            if not future.done():
                future.set_result(offset + place)

    def set_failed(self, error: Exception) -> None:
        """Tell all who wait that nothing of the group is kept."""
        for _, future in self.waiting:
            if not future.done():
                future.set_exception(error)


class GroupCommit(Generic[R]):
    """The groups of one log, and how its last commit ended. Use it from one event loop."""

    def __init__(
        self,
        limits: JournalLimits,
        thread: Executor,
        write: Callable[[Group], R],
        publish: Callable[[Group, R], None],
        refusing_s: float = REFUSING_S,
    ) -> None:
        """`write` makes a group durable; it runs in `thread`. `publish` tells everybody; it runs in the event loop.

        `refusing_s`: seconds after a failed commit until senders may try again.
        """
        self._thread, self._write, self._publish, self._refusing_s = thread, write, publish, refusing_s
        self._groups: deque[Group] = deque()
        self._is_busy = False
        """Whether a group is being written or gathered."""
        self._quiet = 0
        """Passes of the loop since the last batch came."""
        self._is_shared = False
        """Whether the last group had several batches."""
        self._refused: tuple[str, float] | None = None
        self._is_logged = False
        """Whether the store itself says when the reason of the last failure begins and ends."""
        self._lacks_room = False
        """Whether the last check for room found none."""
        self.fenced = ""
        """Why nothing may be written any more; "": all may."""
        self.failed = 0
        """Failed commits since the start."""
        self.set_limits(limits)

    def set_limits(self, limits: JournalLimits) -> None:
        """Compute the size limits of appends from the limits of the log."""
        self._largest = find_largest_record(limits)
        self._surely_fits = self._largest // 4
        """Bytes that fit in, whatever the types."""
        self._group_bytes = min(GROUP_BYTES, self._largest // 4)

    def check_size(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        """Return about the bytes that these events take, without their table of types. Raises TooLarge if they can
        never fit."""
        size, most = sum(map(len, bodies)) + PER_EVENT * len(bodies), self._largest
        if size > self._surely_fits and measure_record(kinds, bodies) > most:
            raise TooLarge(f"the events take more than {most:,} bytes, half of journal.max_size: send fewer at a time")
        return size

    @property
    def refusing(self) -> str | None:
        """Why the last commit failed; None if it succeeded, or failed so long ago that senders may try again.

        Without that end a relay that is not ready would get no events, and so never become ready again.
        """
        if self.fenced:
            return self.fenced
        if self._refused is None or time.monotonic() > self._refused[1] + self._refusing_s:
            return None
        return self._refused[0]

    @property
    def failing(self) -> bool:
        """Whether the last commit failed, however long ago."""
        return self._refused is not None or bool(self.fenced)

    @property
    def is_busy(self) -> bool:
        """Whether a commit is under way, or waits."""
        return self._is_busy

    def check_fence(self) -> None:
        """Raise Unavailable if nothing may be written any more."""
        if self.fenced:
            raise Unavailable(self.fenced, "taken")

    def add(self, kinds: Sequence[Kind], bodies: Sequence[Any], ids: EventIds | None = None) -> asyncio.Future[Any]:
        """Add a batch to the next group; return the future of its commit. Raises Unavailable, TooLarge."""
        size = self.check_size(kinds, bodies)
        if self.fenced:
            self.check_fence()
        if not self._groups or self._groups[-1].size + size > self._group_bytes:
            self._groups.append(Group())
        group = self._groups[-1]
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if ids is not None:
            group.ids[len(group.waiting)] = ids
        group.waiting.append((len(group.bodies), future))
        group.kinds += kinds
        group.bodies += bodies
        group.size += size
        self._quiet = 0
        if not self._is_busy:
            self._is_busy = True
            self._gather(loop, 0)
        return future

    def _gather(self, loop: asyncio.AbstractEventLoop, passes: int) -> None:
        """Commit the next group, or wait for another pass of the loop. `passes`: how many there were."""
        if self._is_shared and self._quiet < QUIET_PASSES and passes < MOST_PASSES and len(self._groups) == 1:
            self._quiet += 1
            loop.call_soon(self._gather, loop, passes + 1)
        else:
            group = self._groups.popleft()
            self._is_shared = len(group.waiting) > 1
            self._thread.submit(self._commit, group, loop)

    def _commit(self, group: Group, loop: asyncio.AbstractEventLoop) -> None:
        """Make a group durable. Runs in the thread."""
        try:
            written = self._write(group)
        except Exception as error:
            loop.call_soon_threadsafe(self._fail, group, error)
        else:
            loop.call_soon_threadsafe(self._finish, group, written)

    def _finish(self, group: Group, written: R) -> None:
        if self._refused:
            if not self._is_logged:
                log.info("the journal takes events again")
            self._refused, self._lacks_room = None, False
        self._go_on()
        self._publish(group, written)

    def _fail(self, group: Group, error: Exception) -> None:
        unavailable = make_unavailable(error)
        self._refused, self._is_logged = (str(unavailable), time.monotonic()), unavailable.is_logged
        self._go_on()
        self.failed += 1
        group.set_failed(unavailable)
        if not isinstance(error, OSError):
            log.error("commit failed by a bug", exc_info=error)

    def _go_on(self) -> None:
        """Gather the next group, if there is one."""
        self._is_busy = bool(self._groups)
        if self._is_busy:
            self._quiet = 0
            self._gather(asyncio.get_running_loop(), 0)

    def note_lack(self, lack: str) -> None:
        """Refuse senders before they send, as the next commit will find no room; "" if it will."""
        if lack:
            if not self._lacks_room:
                log.error("the journal takes no events", reason=lack)
            self._refused = lack, time.monotonic()
        elif self._lacks_room:
            log.info("the journal has room again")
            self._refused = None
        self._lacks_room = bool(lack)
