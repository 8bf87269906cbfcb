"""A console with four live pages that are looked at, beside the daemon under test."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from daemon import STOP_SECONDS, TOKEN, find_address

CONSOLE: Final = '[console.user.bench]\nsecret = { env = "BENCHMARK_TOKEN" }\nmay = "steer"\n'
PAGES: Final = ("/live", "/connectors/main/live", "/events/live?at=ingest", "/events/live?at=main")
SAME_SITE: Final = {"Sec-Fetch-Site": "same-origin"}


@asynccontextmanager
async def looked_at(folder: Path) -> AsyncIterator[None]:
    """Run the console of a folder as `daemon.running` makes it, with PAGES open."""
    arguments = ["-m", "relay", "console", "--conf", f"{folder}/conf.d", "--state", f"{folder}/state"]
    environment = os.environ | {"BENCHMARK_TOKEN": TOKEN}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, "--listen", "127.0.0.1:0", stdout=DEVNULL, stderr=PIPE, env=environment
    )
    try:
        url = await find_address(process, "console runs")
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(url, cookie_jar=jar, timeout=aiohttp.ClientTimeout()) as browser:
            form = {"name": "bench", "secret": TOKEN, "back": "/"}
            async with browser.post("/sign-in", data=form, headers=SAME_SITE) as answer:
                answer.raise_for_status()
            async with asyncio.TaskGroup() as group:
                looking = [group.create_task(_look(browser, page), name=page) for page in PAGES]
                yield
                for one in looking:
                    one.cancel()
    finally:
        process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            await process.communicate()


async def _look(browser: aiohttp.ClientSession, page: str) -> None:
    """Read a live page as a browser does."""
    async with browser.get(page, headers={**SAME_SITE, "Accept": "text/event-stream"}) as live:
        live.raise_for_status()
        async for _ in live.content.iter_any():
            pass
    raise RuntimeError(f"the console has ended the live page {page}")
