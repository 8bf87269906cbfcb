"""The subscribers of the journal. A commit wakes only the subscribers who want its events.

A commit costs a check per kind of its events, and a wake-up per subscriber who wants one of them. A commit with more
kinds than TYPES_REMEMBERED wakes all without a check. Every QUIET_S at most the other subscribers learn how far the
journal has come.
"""

import asyncio
from typing import Final

from relay.api import Block
from relay.store import Wants

QUIET_S: Final = 0.3
TYPES_REMEMBERED: Final = 4096


class Subscriber:
    """Waits again and again for events of the types that it wants."""

    def __init__(self, wants: Wants) -> None:
        self.wants = wants
        self._future: asyncio.Future[int] | None = None

    async def wait(self) -> int:
        """Wait until the journal grows; return the offset below which it has grown by unwanted events only."""
        self._future = asyncio.get_running_loop().create_future()
        try:
            return await self._future
        finally:
            self._future = None

    def wake(self, offset: int) -> None:
        """End a wait, if there is one."""
        if self._future is not None and not self._future.done():
            self._future.set_result(offset)


class Subscribers:
    """All subscribers of one journal."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._wanting: dict[str, frozenset[Subscriber]] = {}
        self._head = 0
        self._timer: asyncio.TimerHandle | None = None

    def join(self, wants: Wants) -> Subscriber:
        """Add a subscriber."""
        waiter = Subscriber(wants)
        self._subscribers.add(waiter)
        self._wanting.clear()
        return waiter

    def leave(self, waiter: Subscriber) -> None:
        """Remove a subscriber."""
        self._subscribers.discard(waiter)
        self._wanting.clear()

    def notify(self, block: Block) -> None:
        """Wake the subscribers for whom the journal has grown by this block."""
        is_asked = len(block.kinds) <= TYPES_REMEMBERED  # to ask for more would hold up the loop
        woken = set() if is_asked else set(self._subscribers)
        for kind in block.kinds:
            if len(woken) == len(self._subscribers):
                break
            wanting = self._wanting.get(kind.type)
            if wanting is None:
                if len(self._wanting) >= TYPES_REMEMBERED:
                    self._wanting.clear()
                wanting = frozenset(waiter for waiter in self._subscribers if waiter.wants(kind.type))
                self._wanting[kind.type] = wanting
            woken |= wanting
        for waiter in woken:
            waiter.wake(block.offsets[0])
        self._head = block.offsets[-1] + 1
        if self._timer is None and len(woken) < len(self._subscribers):
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._wake_all)

    def notify_jump(self, offset: int, head: int) -> None:
        """Wake all: the journal has grown from this offset up to `head` by what nobody has looked at."""
        for waiter in self._subscribers:
            waiter.wake(offset)
        self._head = head

    def _wake_all(self) -> None:
        self._timer = None
        for waiter in self._subscribers:
            waiter.wake(self._head)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
