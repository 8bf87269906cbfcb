"""A door in front of each broker of a cluster. It wants a login, speaks TLS, and fails as a test says.

The mock of brokers has neither logins nor TLS. A door answers the requests of a login itself, and hands on all
others. In answers it puts doors in place of brokers, so that a client finds its way through them.
"""

import asyncio
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Literal

from tests.kafka.login import MECHANISMS, Login
from tests.postgres.server import find_port

SLOW_S: Final = 0.1
PRODUCE, HANDSHAKE, VERSIONS, AUTHENTICATE = 0, 17, 18, 36
SAID: Final = b"Authentication failed: invalid credentials"
REFUSAL: Final = struct.pack(">hh", 58, len(SAID)) + SAID + struct.pack(">i", 0)
OFFER: Final = struct.pack(">i", len(MECHANISMS)) + b"".join(
    struct.pack(">h", len(one)) + one.encode() for one in MECHANISMS
)
HOST: Final = b"127.0.0.1"

Failure = Literal["", "refused", "slow", "hanging", "cut", "unauthorized"]


class Doors:
    """Doors in front of all brokers, with ports that stay the same."""

    def __init__(
        self, brokers: Sequence[str], password: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        """`password`: of the user `relay`; None: no login. `context`: of a server of TLS."""
        self._brokers = [int(broker.rpartition(":")[2]) for broker in brokers]
        self._ports = [find_port() for _ in brokers]
        self.servers = [f"127.0.0.1:{port}" for port in self._ports]
        self._password, self._context = password, context
        self.failure: Failure = ""
        self._listeners = list[asyncio.Server]()
        self._open = set[asyncio.StreamWriter]()
        self._work = set[asyncio.Task[None]]()

    async def __aenter__(self) -> "Doors":
        await self.fail_with("")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._hang_up()

    async def fail_with(self, failure: Failure) -> None:
        """Fail in this way from now on, also on open connections; "": be well."""
        if self.failure not in ("", "slow") or failure not in ("", "slow"):
            await self._hang_up()
        self.failure = failure
        if failure != "refused" and not self._listeners:
            for number, port in enumerate(self._ports):
                self._listeners.append(await self._listen(number, port))

    async def _listen(self, number: int, port: int) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._work.add(task)
            self._open.add(writer)
            try:
                with suppress(OSError, EOFError):
                    await self._serve(self._brokers[number], reader, writer)
            finally:
                writer.close()
                self._open.discard(writer)
                self._work.discard(task)

        return await asyncio.start_server(serve, "127.0.0.1", port, ssl=self._context)

    async def _hang_up(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for writer in [*self._open]:
            writer.transport.abort()
        if self._work:
            await asyncio.wait({*self._work})

    async def _serve(self, broker: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", broker)
        self._open.add(to_broker)
        asked = set[int]()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hand_back(from_broker, writer, asked), name="answers")
                await self._hand_on(reader, writer, to_broker, asked)
                to_broker.close()
        except* (OSError, EOFError):
            pass
        finally:
            to_broker.close()
            self._open.discard(to_broker)

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, broker: asyncio.StreamWriter, asked: set[int]
    ) -> None:
        """Hand on requests. `asked` gets those for versions, whose answers are changed."""
        known, login = self._password is None, Login("PLAIN", "")
        while True:
            frame = await read_frame(reader)
            api, _, correlation, named = struct.unpack_from(">hhih", frame)
            if self.failure == "hanging":
                continue
            if self.failure == "cut":
                return
            content = frame[10 + named :]
            if api == HANDSHAKE:
                mechanism = content[2:].decode()
                login = Login(mechanism, self._password or "")
                write_frame(writer, struct.pack(">ih", correlation, 0 if mechanism in MECHANISMS else 33) + OFFER)
            elif api == AUTHENTICATE:
                said = login.answer(content[4:]) if self.failure != "unauthorized" else None
                known = login.is_known and said is not None
                answer = REFUSAL if said is None else struct.pack(">hhi", 0, -1, len(said)) + said
                write_frame(writer, struct.pack(">i", correlation) + answer)
            elif api == VERSIONS or known:
                if api == VERSIONS:
                    asked.add(correlation)
                if self.failure == "slow" and api == PRODUCE:
                    await asyncio.sleep(SLOW_S)
                write_frame(broker, frame)
            else:
                return

    async def _hand_back(self, broker: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: set[int]) -> None:
        try:
            while True:
                frame = await read_frame(broker)
                (correlation,) = struct.unpack_from(">i", frame)
                if correlation in asked:
                    asked.discard(correlation)
                    frame = _add_login(frame)
                for real, own in zip(self._brokers, self._ports, strict=True):
                    frame = frame.replace(HOST + struct.pack(">i", real), HOST + struct.pack(">i", own))
                write_frame(writer, frame)
        finally:
            writer.close()


def _add_login(frame: bytes) -> bytes:
    """Add the requests of a login to an answer on versions."""
    head, (number,), rest = frame[:6], struct.unpack_from(">i", frame, 6), frame[10:]
    own = struct.pack(">hhhhhh", HANDSHAKE, 0, 1, AUTHENTICATE, 0, 0)
    return head + struct.pack(">i", number + 2) + own + rest


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Read a request or an answer."""
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def write_frame(writer: asyncio.StreamWriter, frame: bytes) -> None:
    """Write a request or an answer."""
    writer.write(struct.pack(">i", len(frame)) + frame)
