"""A cable between one relay and the servers, which a test cuts: packets get lost, and nobody is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Self

from tests.postgres.server import find_port

PIECE = 1 << 16


class Cable:
    """Connects ports of its own with the ports of servers, in the same order."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = {find_port(): port for port in ports}
        self._whole = asyncio.Event()
        self._whole.set()
        self._connections = set[asyncio.StreamWriter]()

    @property
    def ports(self) -> list[int]:
        """The ports to connect to."""
        return [*self._ports]

    @classmethod
    @asynccontextmanager
    async def plug(cls, ports: list[int]) -> AsyncIterator[Self]:
        """Connect for the body."""
        cable = cls(ports)
        async with AsyncExitStack() as stack:
            for own, port in cable._ports.items():
                server = await asyncio.start_server(partial(cable._connect, port), "127.0.0.1", own)
                stack.callback(server.close)
            yield cable
            cable._whole.set()
            cable._hang_up()

    def cut(self) -> None:
        """Lose everything from now on. Connections stay open and silent."""
        self._whole.clear()

    def mend(self) -> None:
        """Close the connections of before, and work again."""
        self._hang_up()
        self._whole.set()

    def _hang_up(self) -> None:
        for connection in self._connections:
            connection.transport.abort()

    async def _connect(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            await self._whole.wait()
            from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        finally:
            self._connections.discard(writer)
        self._connections |= {writer, to_server}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, to_server), name="to the server")
                group.create_task(self._pump(from_server, writer), name="from the server")
        finally:
            self._connections -= {writer, to_server}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._whole.wait()
                writer.write(piece)
                await writer.drain()
        writer.close()
