"""Reads the log of a partition from an offset: from memory if possible, else from the database."""

from collections.abc import Awaitable, Callable

from relay.api import Block
from relay.journal import Subscribers, Tail, TailReader
from relay.store import Wants

ReadStored = Callable[[int], Awaitable[tuple[list[Block], int]]]


class PostgresReader(TailReader):
    """A position of its own in the log of a partition."""

    def __init__(
        self,
        head: Callable[[], int],
        read_stored: ReadStored,
        tail: Tail,
        readers: set["PostgresReader"],
        waiting: Subscribers,
        wants: Wants,
    ) -> None:
        super().__init__(head, tail, waiting, wants)
        self._read, self._readers = read_stored, readers
        readers.add(self)

    async def _read_stored(self, offset: int) -> tuple[list[Block], int]:
        return await self._read(offset)

    async def _release(self) -> None:
        pass  # a read keeps nothing open

    def close(self) -> None:
        super().close()
        self._readers.discard(self)
