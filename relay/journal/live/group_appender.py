"""Appends to a log by group commit, wherever an engine stores the events."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar, TypeVarTuple

from relay.api import Block, Kind
from relay.journal.live.group_commit import REFUSING_S, Group, GroupCommit
from relay.store import JournalLimits

R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class GroupAppender(ABC, Generic[R]):
    """Puts events into a log. Engines add how a group becomes durable. Use it from one event loop."""

    def __init__(self, limits: JournalLimits, thread_name: str, refusing_s: float = REFUSING_S) -> None:
        """Begin the writer's thread with this name. `refusing_s`: as for GroupCommit."""
        self._thread = ThreadPoolExecutor(1, thread_name)
        self._commits = GroupCommit(limits, self._thread, self._write_group, self._publish, refusing_s)
        self.bytes = 0
        """Bytes of events appended since the start."""
        self.taps: set[Callable[[Block], object]] = set()
        """Functions that get each block once it is durable. They must be quick."""

    @property
    def failed(self) -> int:
        """Failed commits since the start."""
        return self._commits.failed

    @property
    def refusing(self) -> str | None:
        """Why the last commit failed; None if it succeeded, or failed so long ago that senders may try again."""
        return self._commits.refusing

    @property
    def failing(self) -> bool:
        """Whether the last commit failed, however long ago."""
        return self._commits.failing

    @property
    def is_committing(self) -> bool:
        """Whether a commit is under way, or waits."""
        return self._commits.is_busy

    async def append(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        """Append events; return the offset of the first event once all are durable. Raises Unavailable, TooLarge."""
        offset: int = await self._commits.add(kinds, bodies)
        return offset

    def check_size(self, kinds: Sequence[Kind], bodies: Sequence[Any]) -> int:
        """Return about the bytes that these events take, without their table of types. Raises TooLarge if they can
        never fit."""
        return self._commits.check_size(kinds, bodies)

    def fence(self, reason: str) -> None:
        """Refuse every write from now on, because another process writes. `reason` is for admins."""
        self._commits.fenced = reason

    @abstractmethod
    def _write_group(self, group: Group) -> R:
        """Make a group durable. Runs in the writer's thread. Raises Unavailable, OSError."""

    @abstractmethod
    def _publish(self, group: Group, written: R) -> None:
        """Tell everybody of a group that is durable now."""

    async def _write(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do work in the writer's thread that writes. Raises Unavailable."""
        self._commits.check_fence()
        return await self._work(work, *arguments)

    @abstractmethod
    async def _work(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do work in the writer's thread. Raises Unavailable."""

    async def _finish_commits(self) -> None:
        """Wait until no commit is under way, and none waits."""
        while self.is_committing:
            await self._work(lambda: None)
