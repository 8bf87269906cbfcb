"""A relay and its console, whose users change conf.d in the browser."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from html import unescape
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from tests.console import USERS, Answer, Browser, RunningConsole, write_users
from tests.daemon import Daemon
from tests.forks import Forks

ADDRESSES = (f"127.0.2.{number}" for number in count(1))
NEW = '[connector.%s]\ntype = "http"\nurl = "%s"\n'
EDIT = "/files/edit"


class Place:
    """A relay and its console, with a signed in browser for each right."""

    def __init__(self, daemon: Daemon, console: RunningConsole, browsers: dict[str, Browser]) -> None:
        self.daemon, self.console, self.browsers = daemon, console, browsers

    @property
    def admin(self) -> Browser:
        """The browser of the user who may configure."""
        return self.browsers["cleo"]

    async def check(self, path: str, user: str = "cleo", **form: str) -> Answer:
        browser = self.browsers[user]
        return await browser.post(path, token=await browser.read_token(), act="check", **form)

    async def launch(self, path: str, checked: Answer, **form: str) -> Answer:
        """Launch what a page offers."""
        return await self.admin.post(path, token=checked.token, act="launch", seen=find_seen(checked), **form)

    async def put(self, name: str, text: str) -> Answer:
        """Launch the text of a file; return the page after it."""
        checked = await self.check(EDIT, name=name, text=text)
        launched = await self.launch(EDIT, checked, name=name, text=text)
        assert launched.status == 303, plain(launched)
        return await self.admin.get(launched.location)

    def read_files(self) -> dict[str, bytes]:
        conf = self.daemon.conf
        return {path.relative_to(conf).as_posix(): path.read_bytes() for path in conf.rglob("*") if path.is_file()}

    async def read_config(self) -> dict[str, Any]:
        """What relay has in force: the values of its settings, and "changed"."""
        connector = aiohttp.UnixConnector(str(self.daemon.state / "admin.sock"))
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://relay/config") as answer:
            found = await answer.json()
        return {one["key"]: one["value"] for one in found["settings"]} | {"changed": found["changed"]}


def find_seen(answer: Answer) -> str:
    found = re.search(r'name="seen" value="([^"]*)"', answer.text)
    assert found, plain(answer)
    return unescape(found[1])


def plain(answer: Answer) -> str:
    """Return what a page says."""
    main = answer.text.partition("<main")[2]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", main)))


@asynccontextmanager
async def sign_in(console: RunningConsole, name: str) -> AsyncIterator[Browser]:
    """Yield a browser of a user."""
    async with Browser(console.url, next(ADDRESSES)) as browser:
        assert (await browser.sign_in(name, f"the secret of {name}")).status == 303
        yield browser


@asynccontextmanager
async def run_place(
    daemon: Daemon, forks: Forks, state: Path | None = None, module: str = "relay"
) -> AsyncIterator[Place]:
    """Run relay and its console. `state`: the state folder of the console, if it is another one."""
    daemon.configure("10-source", '[source.braze]\ntype = "currents"\npath = "/currents"\n')
    daemon.configure("91-launch", "[console]\nlaunch = true\n")
    write_users(daemon, *USERS)
    console = RunningConsole(daemon.conf, state or daemon.state, forks)
    daemon.module = console.module = module
    async with AsyncExitStack() as stack:
        await daemon.start()
        await console.start()
        browsers = {name: await stack.enter_async_context(sign_in(console, name)) for name in USERS}
        yield Place(daemon, console, browsers)
        if console.is_running:
            assert await console.stop() == 0
        await daemon.kill()


@asynccontextmanager
async def stand_between(path: Path, relay: Path, happens: Callable[[], None]) -> AsyncIterator[None]:
    """Pass on what comes for the admin socket of a relay. `happens` is called before each request."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            stack.enter_context(suppress(OSError, TimeoutError, asyncio.IncompleteReadError))
            head = await reader.readuntil(b"\r\n\r\n")
            happens()
            theirs, ours = await asyncio.open_unix_connection(relay)
            stack.push_async_callback(ours.wait_closed)
            stack.callback(ours.close)
            length = re.search(rb"(?i)content-length: (\d+)", head)
            ours.write(head + (await reader.readexactly(int(length[1])) if length else b""))
            async with asyncio.timeout(60):
                writer.write(await theirs.read())

    path.parent.mkdir()
    async with await asyncio.start_unix_server(pass_on, path):
        yield
