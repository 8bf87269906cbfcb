"""The suite of all connectors for `postgres`: a real server, behind a wire that fails as a test says."""

import asyncio
import struct
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("asyncpg", reason="the connector takes the package currents-relay[postgres]")

from relay.api import Secret
from relay.testing import AnyConnectorSuite, SuiteDestination, find_ids
from relay_plugins.postgres.connector import Postgres
from relay_plugins.postgres.table import make_table
from tests.postgres import start_shared_server
from tests.postgres.server import find_port

SLOW_S = 0.1
CODES = {"unavailable": b"57P03", "unauthorized": b"28P01"}
"""What the server says to a login: it is starting up, or the password is wrong."""
_tables = count(1)


class Table(SuiteDestination):
    """A table of the shared server, and a port of its own that leads there."""

    def __init__(self) -> None:
        self._server, self._name = start_shared_server(), f"suite_{next(_tables)}"
        self._server.execute(make_table(self._name))
        self._port, self._failure = find_port(), ""
        self.address = (self._port, self._name)
        self._listener: asyncio.Server | None = None
        self._open = set[asyncio.StreamWriter]()
        self._work = set[asyncio.Task[Any]]()

    async def __aenter__(self) -> "Table":
        await self.recover()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._hang_up()
        self._server.execute(f"DROP TABLE {self._name}")

    async def arrived(self) -> list[str]:
        rows = self._server.execute(f"SELECT event::text FROM {self._name}")
        return [found for (text,) in rows for found in find_ids(str(text).encode())]

    async def fail_with(self, failure: str) -> None:
        self._failure = failure
        if failure != "slow":
            await self._hang_up()
        if failure not in ("refused", "slow"):
            await self._listen()

    async def recover(self) -> None:
        if self._failure not in ("", "slow"):
            await self._hang_up()
        self._failure = ""
        if self._listener is None:
            await self._listen()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in [*self._open]:
            writer.transport.abort()
        if others := self._work - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(writer)
        self._work.add(task)
        try:
            if self._failure in ("", "slow"):
                await self._connect(reader, writer)
            elif self._failure == "hanging":
                await reader.read()
            else:
                await reader.read(1 << 16)
                if code := CODES.get(self._failure):
                    said = b"SFATAL\0C" + code + b"\0Mnot now\0\0"
                    writer.write(b"E" + struct.pack("!i", len(said) + 4) + said)
        finally:
            writer.close()
            self._open.discard(writer)
            self._work.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server.port)
        self._open.add(to_server)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, to_server), name="to the server")
                group.create_task(self._copy(from_server, writer), name="from the server")
        finally:
            to_server.close()
            self._open.discard(to_server)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(1 << 16):
                if self._failure == "slow":
                    await asyncio.sleep(SLOW_S)
                writer.write(piece)
                await writer.drain()
        writer.close()


class TestPostgres(AnyConnectorSuite):
    lacks: ClassVar = {"nul": "PostgreSQL stores no NUL character in a text"}

    def destination(self, folder: Path) -> Table:
        return Table()

    def make(self, address: Any, token: Secret, folder: Path) -> Postgres:
        (port, table), dsn = address, token
        if not token.problem:
            file = folder / "dsn"
            file.write_text(f"postgresql://relay:{token.reveal()}@127.0.0.1:{port}/postgres?sslmode=disable")
            dsn = Secret("file", str(file))
        return Postgres("lake", Postgres.Settings(type="postgres", dsn=dsn, table=table), folder=folder)
