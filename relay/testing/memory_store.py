"""A connector's store in memory, for tests."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, takewhile

from relay.api import StoreReader
from relay.api.internal import check_write


class MemoryStore:
    """A store that keeps everything in memory: `connector.store = MemoryStore()`.

    It is a `relay.api.KeyValueStore`, and keeps its content when it is closed. `pairs` has the content.
    """

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}

    async def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that are in the store."""
        await asyncio.sleep(0)
        return {key: self.pairs[key] for key in keys if key in self.pairs}

    async def scan(self, prefix: bytes, *, after: bytes = b"", limit: int = 1000) -> list[tuple[bytes, bytes]]:
        """Return the first `limit` keys behind `after` that begin with `prefix`, with their values, in order."""
        await asyncio.sleep(0)
        keys = sorted(self.pairs)
        start = max(bisect_left(keys, prefix), bisect_right(keys, after))
        found = takewhile(lambda key: key.startswith(prefix), islice(keys, start, None))
        return [(key, self.pairs[key]) for key in islice(found, limit)]

    @property
    def reader(self) -> StoreReader:
        """The content as of now, for the tables of a connector: `Chat.tables[0].read(store.reader, TableQuery())`."""
        return _Reader(dict(sorted(self.pairs.items())))

    async def write(self, puts: Mapping[bytes, bytes] | None = None, deletes: Iterable[bytes] = ()) -> None:
        """Put and delete keys, all or nothing. Raises ValueError as a store of relay does."""
        puts, deletes = dict(puts or {}), [*deletes]
        check_write(puts, deletes)
        await asyncio.sleep(0)
        self.pairs |= puts
        for key in deletes:
            self.pairs.pop(key, None)

    async def purge(self) -> None:
        """Do nothing: nothing is in files."""

    async def close(self) -> None:
        """Do nothing: the content stays."""


class _Reader:
    def __init__(self, pairs: Mapping[bytes, bytes]) -> None:
        self._pairs = pairs

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return {key: self._pairs[key] for key in keys if key in self._pairs}

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return (pair for pair in self._pairs.items() if pair[0].startswith(prefix) and pair[0] > after)
