"""Leaves out events that a source has sent before, if the earlier event is on disk."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from relay.journal.seen_ids import Seen, forget_seen
from relay.threads import ADMIN


class RecentIds:
    """The recent ids of all sources."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        """`clock` returns Unix seconds and never jumps."""
        self._folder, self._clock = folder, clock
        self._sources: dict[str, Duplicates] = {}

    def find_source(self, name: str, window: float) -> "Duplicates":
        """Return the recent ids of a source, with the window from now on."""
        if name not in self._sources:
            self._sources[name] = Duplicates(Seen(self._folder, name, window, self._clock))
        found = self._sources[name]
        found.seen.window = window
        return found

    async def forget(self, but: Collection[str]) -> None:
        """Forget the ids of all sources but these."""
        for name in self._sources.keys() - {*but}:
            await self._sources.pop(name).seen.close()
        await ADMIN.run(forget_seen, self._folder, but)

    async def close(self) -> None:
        """Close the files."""
        for source in self._sources.values():
            await source.seen.close()


class Duplicates:
    """The ids that one source has sent lately, and the ids of requests under way.

    A request claims all its ids at once, and only while no other request has claimed any of them. So no request waits
    while it holds a claim. The claim ends when the request's events are on disk and noted, or have failed. Waiting
    requests check again then.
    """

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self._claims: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def leave_out(self, ids: Sequence[str], subject: str | None = None) -> AsyncIterator[Sequence[int]]:
        """Yield the places of the ids that are no duplicates. Their events must be on disk when the block ends without
        an exception.

        Waits for the commits of other requests with any of these ids or the subject.
        """
        wanted = ids if subject is None else [*ids, subject]
        while others := {self._claims[one] for one in wanted if one in self._claims}:
            await asyncio.wait(others)
        claim = asyncio.get_running_loop().create_future()
        mine = dict.fromkeys(wanted, claim)
        self._claims |= mine
        try:
            fresh = find_first(ids, await self.seen.find(ids, subject))
            if fresh and subject is not None:
                await self.seen.supersede(subject)
            yield fresh
            if fresh:
                await self.seen.note([ids[place] for place in fresh], subject)
        finally:
            for one in mine:
                del self._claims[one]
            claim.set_result(None)


def find_first(ids: Sequence[str], seen: Collection[str]) -> list[int]:
    """Return the places of the ids that are not in `seen`; of several same ids the first place."""
    taken, first = set(seen), []
    for place, one in enumerate(ids):
        if one not in taken:
            taken.add(one)
            first.append(place)
    return first
