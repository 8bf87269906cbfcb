"""What a relay that stops does with those who are connected."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from relay.api import Source
from relay.config.model import IngestSettings
from relay.config.plugins.registry import Registry
from relay.ingest.server import LINGER_S, Ingest
from relay.journal.journal import Journal
from relay.state.database import StateDatabase
from relay.state.state_folder import FolderInbox
from relay.store.log import JournalLimits

REQUEST = b"POST /any HTTP/1.1\r\nHost: relay\r\nContent-Length: 2\r\n\r\n{}"


async def test_a_stop_answers_earlier_clients_of_a_passed_socket(
    tmp_path: Path,
) -> None:
    plugin: Any = Registry.discover(()).get_types("source")["json"]
    sources: list[Source] = [plugin("json", plugin.Settings.model_validate({"type": "json", "path": "/any"}))]
    journal, state = Journal(tmp_path / "journal", JournalLimits(1 << 30, 3600), 1 << 20), StateDatabase(tmp_path)
    ingest = Ingest(sources, IngestSettings(), FolderInbox(journal, state))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        await ingest.start([listener.dup()])
        before, writing = await asyncio.open_connection(*address)
        writing.write(b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
        assert await before.readuntil(b"}")
        await ingest.drain()
        async with asyncio.TaskGroup() as group:
            group.create_task(ingest.stop(), name="stop")
            await asyncio.sleep(LINGER_S / 5)
            writing.write(REQUEST)
            answer = await before.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in answer.lower()
        writing.close()

        _, writing = await asyncio.open_connection(*address)
        writing.write(REQUEST)
        listener.settimeout(30)
        accepted, _ = await asyncio.to_thread(listener.accept)
        accepted.settimeout(30)
        with accepted:
            assert await asyncio.to_thread(accepted.recv, 4) == b"POST"
        writing.close()
    await journal.close()
    state.close()
