"""Who waits for the journal to grow, and for which events: nobody is woken for what nobody there wants.

A commit costs a look per kind of its events and a wake-up per waiter who wants one of them, however many others there
are. One with more kinds than TYPES_REMEMBERED wakes all without a look. The others are told every QUIET_S at most how
far the journal has come with events that they do not want.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from relay.api import Block

QUIET_S: Final = 0.3
TYPES_REMEMBERED: Final = 4096
Wants = Callable[[str], bool]
"""Whether events of this type are wanted."""


class Waiter:
    """One who waits, time and again, for events of the types that it wants."""

    def __init__(self, wants: Wants) -> None:
        self.wants = wants
        self._future: asyncio.Future[int] | None = None

    async def wait(self) -> int:
        """Wait until the journal has grown; return the offset up to which it was only by what is not wanted here."""
        self._future = asyncio.get_running_loop().create_future()
        try:
            return await self._future
        finally:
            self._future = None

    def wake(self, offset: int) -> None:
        """End a wait, if there is one."""
        if self._future is not None and not self._future.done():
            self._future.set_result(offset)


class Waiting:
    """All who wait for one journal."""

    def __init__(self) -> None:
        self._waiters: set[Waiter] = set()
        self._wanting: dict[str, frozenset[Waiter]] = {}
        self._head = 0
        self._timer: asyncio.TimerHandle | None = None

    def join(self, wants: Wants) -> Waiter:
        """Take part."""
        waiter = Waiter(wants)
        self._waiters.add(waiter)
        self._wanting.clear()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Take part no longer."""
        self._waiters.discard(waiter)
        self._wanting.clear()

    def grown(self, block: Block) -> None:
        """The journal has grown by this block."""
        is_asked = len(block.kinds) <= TYPES_REMEMBERED  # to ask for more would hold up the loop
        woken = set() if is_asked else set(self._waiters)
        for kind in block.kinds:
            if len(woken) == len(self._waiters):
                break
            woken |= self._who_wants(kind.type)
        for waiter in woken:
            waiter.wake(block.offsets[0])
        self._head = block.offsets[-1] + 1
        if self._timer is None and len(woken) < len(self._waiters):
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._wake_all)

    def _who_wants(self, type: str) -> frozenset[Waiter]:
        found = self._wanting.get(type)
        if found is None:
            if len(self._wanting) >= TYPES_REMEMBERED:
                self._wanting.clear()
            found = self._wanting[type] = frozenset(waiter for waiter in self._waiters if waiter.wants(type))
        return found

    def _wake_all(self) -> None:
        self._timer = None
        for waiter in self._waiters:
            waiter.wake(self._head)

    def close(self) -> None:
        """Nothing comes any more."""
        if self._timer is not None:
            self._timer.cancel()
