"""Puts events into one journal for the connectors and sources that need them there.

Where processes share the partitions, each process appends those events to partition 0. Otherwise the first worker has
them, and the other workers send them to it, as follows.

Connectors with an order or a rate, and sources that leave out duplicates, need to see all their events. With several
workers the first worker has those events in its journal, and the others send them to it.

Failure and recovery: a request is answered 2xx after the first worker reports its part on disk. While the first worker
is away or silent, senders get 503 and Retry-After, and send the whole request again. The failure of a worker or of its
connection stops no other worker: both ends wait for the next connection.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import structlog

from relay.api import Decoded, Source
from relay.catalogue import Selection
from relay.guests import find_reason
from relay.socket_path import address_of
from relay.stop import STOP
from relay.store import Unavailable
from relay.threads import ADMIN

T = TypeVar("T")

KEEP_S: Final = 5.0
"""Seconds that the first worker has to keep events. Then it counts as away."""
AGAIN_S: Final = 0.1
BIND_AGAIN_S: Final = 1.0
LENGTH: Final = struct.Struct("<I")
log = structlog.stdlib.get_logger()
LOST: Final = (OSError, EOFError, RuntimeError, msgspec.MsgspecError)
"""How a connection ends. uvloop raises RuntimeError for a write to a closed connection."""
AWAY: Final = "the first worker, which has to keep some of these events, is away for the moment"


class Handed(msgspec.Struct, array_like=True):
    """Events on their way to the first worker."""

    number: int
    source: str
    kinds: list[tuple[str, str, str]]
    """Type, id field, time field."""
    index: list[int]
    bodies: list[bytes]
    ids: Sequence[str] | None
    subject: str | None = None


class Kept(msgspec.Struct, array_like=True):
    """The first worker's answer."""

    number: int
    accepted: int
    """Events that were no duplicates."""
    refused: str = ""
    """Why the events could not be kept; "": they are on disk."""


def split(decoded: Decoded, wanted: Callable[[str], bool]) -> tuple[Decoded, Decoded]:
    """Split events into those that the first worker does not want, and those that it wants."""
    go = {kind for kind in {*decoded.kinds} if wanted(kind.type)}
    if not go:
        return decoded, _select(decoded, [])
    return (
        _select(decoded, [number for number, kind in enumerate(decoded.kinds) if kind not in go]),
        _select(decoded, [number for number, kind in enumerate(decoded.kinds) if kind in go]),
    )


def _select(decoded: Decoded, numbers: Sequence[int]) -> Decoded:
    ids = decoded.ids and [decoded.ids[number] for number in numbers]
    bodies = [decoded.bodies[n] for n in numbers]
    return Decoded([decoded.kinds[n] for n in numbers], bodies, (), ids, decoded.subject)


class FirstJournal:
    """The journal of the first worker or partition."""

    def __init__(self, selections: Sequence[Selection]) -> None:
        """`selections`: events that must be in this journal."""
        self.selections = selections

    def wants(self, type: str) -> bool:
        """Return whether events of this type must be in this journal."""
        return any(selection.wants(type) for selection in self.selections)


class FirstPartition(FirstJournal):
    """Partition 0, where processes share the partitions. Every process appends to it by itself."""


class First(FirstJournal):
    """The first worker, as the others see it."""

    def __init__(self, socket: Path, selections: Sequence[Selection]) -> None:
        """`selections`: events that must be in the first worker's journal."""
        super().__init__(selections)
        self._socket = socket
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Kept]] = {}
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    async def keep(self, source: str, decoded: Decoded) -> int:
        """Send events to the first worker; return how many were no duplicates. Raises Unavailable."""
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if self._writer is None:
                raise Unavailable(AWAY)
            table = {kind: place for place, kind in enumerate(dict.fromkeys(decoded.kinds))}
            kinds = [(kind.type, kind.id_field, kind.time_field) for kind in table]
            index, bodies = [table[kind] for kind in decoded.kinds], [bytes(body) for body in decoded.bodies]
            handed = Handed(number, source, kinds, index, bodies, decoded.ids, decoded.subject)
            self._writer.write(_encode(handed))
            async with asyncio.timeout(KEEP_S):
                await self._writer.drain()
                kept: Kept = await answer
        except LOST:
            raise Unavailable(AWAY) from None
        finally:
            del self._waiting[number]
        if kept.refused:
            raise Unavailable(kept.refused)
        return kept.accepted

    async def connect(self) -> None:
        """Wait until the first worker accepts a connection."""
        while self._writer is None:
            try:
                with address_of(self._socket) as address:
                    self._reader, self._writer = await asyncio.open_unix_connection(address)
            except OSError:
                await asyncio.sleep(AGAIN_S)

    async def run(self) -> None:
        """Receive the first worker's answers, and reconnect whenever it was away, until cancelled."""
        while True:
            await self.connect()
            try:
                while True:
                    kept = await _read(self._reader, Kept)
                    if (answer := self._waiting.get(kept.number)) and not answer.done():
                        answer.set_result(kept)
            except LOST as error:
                if not STOP.has_begun:  # else they all go
                    log.warning(
                        "the first worker is away", unanswered=len(self._waiting), reason=_describe_error(error)
                    )
            finally:
                if self._writer is not None:
                    self._writer.close()
                self._writer = None
                for answer in self._waiting.values():
                    if not answer.done():
                        answer.set_exception(ConnectionError(AWAY))


class Others:
    """The other workers, as the first one sees them."""

    def __init__(self, keep: Callable[[str, Decoded], Awaitable[int]], source: Callable[[str], Source]) -> None:
        """`keep` stores the events of a source; `source` returns the source of a name. Both raise LookupError."""
        self._keep, self._source = keep, source

    async def run(self, socket: Path) -> None:
        """Keep the events that other workers send, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._listen(socket, group)
                except OSError as error:
                    log.error("other workers cannot hand on events, tried again", socket=str(socket), reason=str(error))
                await asyncio.sleep(BIND_AGAIN_S)

    async def _listen(self, socket: Path, group: asyncio.TaskGroup) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    handed = await _read(reader, Handed)
                    group.create_task(self._answer(handed, writer), name="keep for another worker")
            except LOST as error:
                if not STOP.has_begun:
                    log.info("another worker is away", reason=_describe_error(error))
            finally:
                writer.close()

        await ADMIN.run(_clear_socket, socket)
        with address_of(socket) as address:
            server = await asyncio.start_unix_server(serve, address)
        async with server:
            while await ADMIN.run(socket.exists):  # noqa: ASYNC110  else somebody has removed it: it is made anew
                await asyncio.sleep(BIND_AGAIN_S)

    async def _answer(self, handed: Handed, writer: asyncio.StreamWriter) -> None:
        try:
            source = self._source(handed.source)
            known = [Source.kind(source, *fields) for fields in handed.kinds]  # a plugin may have another `kind`
            kinds = [known[place] for place in handed.index]
            decoded = Decoded(kinds, handed.bodies, (), handed.ids, handed.subject)
            kept = Kept(handed.number, await self._keep(handed.source, decoded))
        except Exception as error:
            kept = Kept(handed.number, 0, find_reason(error))
        with suppress(*LOST):  # who asked may be no more
            writer.write(_encode(kept))
            await writer.drain()


def _clear_socket(socket: Path) -> None:
    """Remove the last process's socket; make the folder if somebody has removed it."""
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    socket.unlink(missing_ok=True)


def _describe_error(error: Exception) -> str:
    return "it has closed the connection" if isinstance(error, EOFError) else str(error) or type(error).__name__


def _encode(message: Any) -> bytes:
    encoded = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(encoded)) + encoded


async def _read(reader: asyncio.StreamReader, kind: type[T]) -> T:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return msgspec.msgpack.decode(await reader.readexactly(length), type=kind)
