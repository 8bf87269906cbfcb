"""`POST /diff` over the whole journal, again and again, beside the daemon under test."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

CHANGED: Final = 'filters = ["compared"]\n[filter.compared]\ntype = "redact"\nfields = ["user.user_id"]\n'
"""What the new configuration adds to its last connector."""


@asynccontextmanager
async def compared(folder: Path) -> AsyncIterator[None]:
    """Compare the events with a new configuration, whose filter changes each, until the end.

    The body begins when relay reads the journal.
    """
    reads, socket = asyncio.Event(), aiohttp.UnixConnector(f"{folder}/state/admin.sock")
    text = (folder / "conf.d" / "bench.toml").read_text() + CHANGED
    timeout = aiohttp.ClientTimeout()
    async with (
        aiohttp.ClientSession("http://relay", connector=socket, timeout=timeout) as session,
        asyncio.TaskGroup() as group,
    ):
        comparing = group.create_task(_compare(session, text, reads), name="POST /diff")
        await reads.wait()
        yield
        comparing.cancel()


async def _compare(session: aiohttp.ClientSession, text: str, reads: asyncio.Event) -> None:
    asked = {"files": {"bench.toml": text}, "since": 0.0}
    while True:
        async with session.post("/diff?progress=true", json=asked) as answer:
            answer.raise_for_status()
            last = b""
            async for line in answer.content:
                reads.set()
                last = line
        if not any(one["changed"]["events"] for one in json.loads(last)["connectors"]):
            raise RuntimeError("relay has found no difference")
