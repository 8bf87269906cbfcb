"""Leaves out the events of a source that came before, and only those of which the earlier one is on disk."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from relay.api import Decoded
from relay.state import Seen


class Duplicates:
    """What one source has taken lately, and what it is about to take: the ids of requests under way.

    A request claims its ids all at once, and only when no other request has one of them, so that nobody who holds some
    waits for more. Its claim ends when its events are on disk and noted, or are not to be: whoever waited looks then.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._claims: dict[str, asyncio.Future[None]] = {}

    @property
    def window(self) -> float:
        """Seconds in which an event that comes again is a duplicate."""
        return self._seen.window

    @window.setter
    def window(self, seconds: float) -> None:
        self._seen.window = seconds

    @asynccontextmanager
    async def without(self, decoded: Decoded) -> AsyncIterator[Decoded]:
        """The events that are no duplicates. When the block ends without an exception, they have to be on disk.

        It waits as long as the commits of other requests with one of these ids, or the subject, take. Nothing is left
        out without ids.
        """
        ids, subject = decoded.ids or (), decoded.subject
        wanted = ids if subject is None else [*ids, subject]
        while others := {self._claims[one] for one in wanted if one in self._claims}:
            await asyncio.wait(others)
        claim = asyncio.get_running_loop().create_future()
        mine = dict.fromkeys(wanted, claim)
        self._claims |= mine
        try:
            fresh = first_ones(decoded, await self._seen.find(ids, subject))
            if fresh.ids and subject is not None:
                await self._seen.supersede(subject)
            yield fresh
            if fresh.ids:
                await self._seen.note(fresh.ids, subject)
        finally:
            for one in mine:
                del self._claims[one]
            claim.set_result(None)

    async def close(self) -> None:
        """Let go of the files."""
        await self._seen.close()


def first_ones(decoded: Decoded, seen: Collection[str]) -> Decoded:
    """The events whose ids were not seen; of several with the same id the first."""
    ids = decoded.ids or ()
    taken, first = set(seen), []
    for place, one in enumerate(ids):
        if one not in taken:
            taken.add(one)
            first.append(place)
    if len(first) == len(ids):
        return decoded
    kinds, bodies = ([entries[place] for place in first] for entries in (decoded.kinds, decoded.bodies))
    return Decoded(kinds, bodies, decoded.unreadable, [ids[place] for place in first], decoded.subject)
