"""Give commands to a real relay, and ask until the answer is good."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson

from relay.testing import Destination
from tests.daemon import Daemon


async def ask(daemon: Daemon, *command: str) -> Any:
    """Return the JSON of a command, or its error."""
    done = await daemon.run(*command, "--json")
    return orjson.loads(done.stdout) if done.stdout else done.stderr.decode().strip()


async def until_answer(daemon: Daemon, *command: str, good: Callable[[Any], bool]) -> Any:
    """Ask until the answer is good."""
    clock = asyncio.get_running_loop().time
    began = clock()
    while not good(found := await ask(daemon, *command)):
        passed = clock() - began
        assert passed < 60, f"last seen: {found}"
        await asyncio.sleep(min(max(passed / 10, 0.1), 0.25))  # each look costs CPU that relay needs
    return found


async def act(daemon: Daemon, *command: str) -> None:
    """Give a command that must succeed."""
    done = await daemon.run(*command)
    assert done.returncode == 0, done


async def ask_replay(daemon: Daemon, start: int, stop: int) -> int:
    """Request a replay from the admin API."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(daemon.state / "admin.sock"))) as session,
        session.post("http://relay/replays", json={"connector": "hook", "start": start, "stop": stop}) as answer,
    ):
        return int((await answer.json())["number"])


def numbers(hook: Destination) -> list[int]:
    """Return the number of each event that has arrived."""
    return [json.loads(request.body)["properties"]["n"] for request in hook.requests]
