"""From one worker to the first: events of which all have to be in one journal.

Connectors that keep an order or a rate, and sources that leave out duplicates, need to see everything. With several
workers the first one has their events in its journal, and the others hand on what reaches them.

How it fails and recovers: a request is answered 2xx after the first worker says that its part is on disk there. While
the first worker is away, or if it goes away or falls silent on the way, senders get 503 and Retry-After for such
events, and send the whole request again: at least once, as after any 503. Whatever becomes of one worker, and of the
connection to it, ends nothing in another: both ends wait for the next connection.
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
from relay.guests import reason_of
from relay.journal import Unavailable
from relay.socket_path import address_of
from relay.stop import STOP
from relay.threads import ADMIN

T = TypeVar("T")

KEEP_S: Final = 5.0
"""A first worker that has not kept events by then is away, for their sender."""
AGAIN_S: Final = 0.1
BIND_AGAIN_S: Final = 1.0
LENGTH: Final = struct.Struct("<I")
log = structlog.stdlib.get_logger()
GONE: Final = (OSError, EOFError, RuntimeError, msgspec.MsgspecError)
"""How a connection ends: uvloop raises RuntimeError where one that is closed is written to."""
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
    """What became of them."""

    number: int
    accepted: int
    """Events that were no duplicates."""
    refused: str = ""
    """Why they could not be kept; empty: they are on disk."""


def split(decoded: Decoded, wanted: Callable[[str], bool]) -> tuple[Decoded, Decoded]:
    """The events whose type is not wanted by the first worker, and those whose type is."""
    go = {kind for kind in {*decoded.kinds} if wanted(kind.type)}
    if not go:
        return decoded, _part(decoded, [])
    return (
        _part(decoded, [number for number, kind in enumerate(decoded.kinds) if kind not in go]),
        _part(decoded, [number for number, kind in enumerate(decoded.kinds) if kind in go]),
    )


def _part(decoded: Decoded, numbers: Sequence[int]) -> Decoded:
    ids = decoded.ids and [decoded.ids[number] for number in numbers]
    bodies = [decoded.bodies[n] for n in numbers]
    return Decoded([decoded.kinds[n] for n in numbers], bodies, (), ids, decoded.subject)


class First:
    """The first worker, as the others see it."""

    def __init__(self, socket: Path, selections: Sequence[Selection]) -> None:
        """`selections`: what the connectors want of which all events have to be there."""
        self._socket, self.selections = socket, selections
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Kept]] = {}
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    def wants(self, type: str) -> bool:
        """Whether events of this type have to be in its journal."""
        return any(selection.wants(type) for selection in self.selections)

    async def keep(self, source: str, decoded: Decoded) -> int:
        """Have it keep events; return how many were no duplicates. Raises Unavailable."""
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if self._writer is None:
                raise Unavailable(AWAY)
            self._writer.write(_frame(_handed(number, source, decoded)))
            async with asyncio.timeout(KEEP_S):
                await self._writer.drain()
                kept: Kept = await answer
        except GONE:
            raise Unavailable(AWAY) from None
        finally:
            del self._waiting[number]
        if kept.refused:
            raise Unavailable(kept.refused)
        return kept.accepted

    async def connect(self) -> None:
        """Wait until it is there."""
        while self._writer is None:
            try:
                with address_of(self._socket) as address:
                    self._reader, self._writer = await asyncio.open_unix_connection(address)
            except OSError:
                await asyncio.sleep(AGAIN_S)

    async def run(self) -> None:
        """Hear its answers, and connect again when it has been away, until cancelled."""
        while True:
            await self.connect()
            try:
                while True:
                    kept = await _read(self._reader, Kept)
                    if (answer := self._waiting.get(kept.number)) and not answer.done():
                        answer.set_result(kept)
            except GONE as error:
                if not STOP.has_begun:  # else they all go
                    log.warning("the first worker is away", unanswered=len(self._waiting), reason=_said(error))
            finally:
                self._disconnect()

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionError(AWAY))


class Others:
    """The other workers, as the first one sees them."""

    def __init__(self, keep: Callable[[str, Decoded], Awaitable[int]], source: Callable[[str], Source]) -> None:
        """`keep`: keeps the events of the source with this name, which `source` gives; both raise LookupError."""
        self._keep, self._source = keep, source

    async def run(self, socket: Path) -> None:
        """Take what they hand on, until cancelled."""
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
            except GONE as error:
                if not STOP.has_begun:
                    log.info("another worker is away", reason=_said(error))
            finally:
                writer.close()

        await ADMIN.run(_make_room, socket)
        with address_of(socket) as address:
            server = await asyncio.start_unix_server(serve, address)
        async with server:
            while await ADMIN.run(socket.exists):  # noqa: ASYNC110  else somebody has removed it: it is made anew
                await asyncio.sleep(BIND_AGAIN_S)

    async def _answer(self, handed: Handed, writer: asyncio.StreamWriter) -> None:
        try:
            kept = Kept(handed.number, await self._keep(handed.source, self._decoded(handed)))
        except Exception as error:
            kept = Kept(handed.number, 0, reason_of(error))
        with suppress(*GONE):  # who asked may be no more
            writer.write(_frame(kept))
            await writer.drain()

    def _decoded(self, handed: Handed) -> Decoded:
        source = self._source(handed.source)
        known = [Source.kind(source, *fields) for fields in handed.kinds]  # a plugin may have another `kind`
        return Decoded([known[place] for place in handed.index], handed.bodies, (), handed.ids, handed.subject)


def _make_room(socket: Path) -> None:
    """Remove the socket of the process before; make the folder if somebody has removed that."""
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    socket.unlink(missing_ok=True)


def _said(error: Exception) -> str:
    return "it has closed the connection" if isinstance(error, EOFError) else str(error) or type(error).__name__


def _handed(number: int, source: str, decoded: Decoded) -> Handed:
    table = {kind: place for place, kind in enumerate(dict.fromkeys(decoded.kinds))}
    kinds = [(kind.type, kind.id_field, kind.time_field) for kind in table]
    index = [table[kind] for kind in decoded.kinds]
    bodies = [bytes(body) for body in decoded.bodies]
    return Handed(number, source, kinds, index, bodies, decoded.ids, decoded.subject)


def _frame(message: Any) -> bytes:
    encoded = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(encoded)) + encoded


async def _read(reader: asyncio.StreamReader, kind: type[T]) -> T:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return msgspec.msgpack.decode(await reader.readexactly(length), type=kind)
