"""Leaves out events that a source has sent before, if the earlier event is on disk."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from relay.api import Decoded
from relay.state import Seen


class Duplicates:
    """The ids that one source has sent lately, and the ids of requests under way.

    A request claims all its ids at once, and only while no other request has claimed any of them. So no request waits
    while it holds a claim. The claim ends when the request's events are on disk and noted, or have failed. Waiting
    requests check again then.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._claims: dict[str, asyncio.Future[None]] = {}

    @property
    def window(self) -> float:
        """Seconds within which a repeated event counts as a duplicate."""
        return self._seen.window

    @window.setter
    def window(self, seconds: float) -> None:
        self._seen.window = seconds

    @asynccontextmanager
    async def leave_out(self, decoded: Decoded) -> AsyncIterator[Decoded]:
        """Yield the events that are no duplicates. They must be on disk when the block ends without an exception.

        Waits for the commits of other requests with any of these ids or the subject. Leaves out nothing without ids.
        """
        ids, subject = decoded.ids or (), decoded.subject
        wanted = ids if subject is None else [*ids, subject]
        while others := {self._claims[one] for one in wanted if one in self._claims}:
            await asyncio.wait(others)
        claim = asyncio.get_running_loop().create_future()
        mine = dict.fromkeys(wanted, claim)
        self._claims |= mine
        try:
            fresh = keep_first(decoded, await self._seen.find(ids, subject))
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
        """Close the files."""
        await self._seen.close()


def keep_first(decoded: Decoded, seen: Collection[str]) -> Decoded:
    """Keep the events with ids that are not in `seen`; of several with the same id the first."""
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
