"""An ingest listener of a test's own, and raw bytes to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from relay.api import Decoded, Request, Source
from relay.config.address import TcpAddress
from relay.config.model import IngestSettings
from relay.ingest.server import Ingest
from relay.journal.journal import Journal
from relay.state.database import StateDatabase
from relay.state.state_folder import FolderInbox
from relay.store.log import JournalLimits
from relay_plugins.currents import Currents

TOKEN = "sesame-open-77"
BODY = b'{"events":[{"event_type":"users.behaviors.CustomEvent","id":"1","user":{"email":"jane@customer.example"}}]}'
AUTHORIZED = b"POST /in HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"
GOOD = AUTHORIZED + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Buggy(Source):
    """Fails, and says what it failed on."""

    def decode(self, request: Request) -> Decoded:
        raise ZeroDivisionError(request.body)


class Relay:
    """A listener with small limits."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        (folder / "token").write_text(TOKEN)
        given = {"type": "currents", "path": "/in", "tokens": [{"file": str(folder / "token")}]}
        sources: list[Source] = [Currents("braze", Currents.Settings.model_validate(given))]
        sources.append(Buggy("buggy", Buggy.Settings.model_validate({"type": "buggy", "path": "/buggy"})))
        self.settings = IngestSettings(**({"listen": (TcpAddress("127.0.0.1", 0),)} | settings))
        self.journal, self.state = (
            Journal(folder / "journal", JournalLimits(1 << 30, 3600), 1 << 20),
            StateDatabase(folder),
        )
        self.ingest = Ingest(sources, self.settings, FolderInbox(self.journal, self.state))
        self.logs: list[Any] = []
        self.url = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that ends with the test."""
        if "unix:" in self.url:
            reader, writer = await asyncio.open_unix_connection(self.url.partition("unix:")[2])
        else:
            host, port = self.url.partition("//")[2].split(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
        self._writers.append(writer)
        return reader, writer

    async def stop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.ingest.stop()
        await self.journal.close()
        self.state.close()

    async def ask(self, *pieces: bytes) -> bytes:
        """Send these pieces one after the other, and read until relay hangs up, or has given the whole of an answer."""
        reader, writer = await self.connect()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)
            return await answer_of(reader)
        finally:
            writer.close()

    def told(self, event: str = "request refused") -> list[tuple[str, int, str]]:
        return [(one["client"], one["status"], one["reason"]) for one in self.logs if one["event"] == event]


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """One answer with its body, or what comes before the end."""
    async with asyncio.timeout(20):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as end:
            return end.partial
        except ConnectionError:
            return b""
        sizes = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await reader.readexactly(int(sizes[0]) if sizes else 0)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(20):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Relay]:
    relay = Relay(folder, **settings)
    with capture_logs() as relay.logs:
        (relay.url,) = await relay.ingest.start()
        try:
            yield relay
        finally:
            await relay.stop()
