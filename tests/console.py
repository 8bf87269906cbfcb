"""Run a real console in a process of its own, and meet it as a browser without JavaScript does."""

import asyncio
import json
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from relay.console.security.rights import Right
from tests.daemon import Daemon
from tests.forks import Forked, Forks

USERS = {"lena": Right.LOOK, "sven": Right.STEER, "cleo": Right.CONFIGURE}
PROXY = "127.0.0.99"
"""The address of the trusted proxy."""


def write_users(daemon: Daemon, *names: str) -> None:
    rights = {name: str(USERS.get(name, Right.LOOK)) for name in names}
    text = '[console]\nlisten = "127.0.0.1:0"\nhosts = ["relay.example.com"]\nuser_header = "X-Remote-User"\n'
    text += f'trusted_proxies = ["{PROXY}"]\n'
    for name, may in rights.items():
        secret = daemon.state.parent / f"secret-{name}"
        secret.write_text(f"the secret of {name}\n")
        text += f'[console.user.{name}]\nsecret = {{ file = "{secret}" }}\nmay = "{may}"\n'
    daemon.configure("90-console", text)


class RunningConsole:
    """The console of a conf.d and a state folder."""

    def __init__(self, conf: Path, state: Path, forks: Forks) -> None:
        self._arguments = ["console", "--conf", str(conf), "--state", str(state)]
        self._forks = forks
        self.module = "relay"
        """What is run in its place."""
        self.logs: list[dict[str, Any]] = []
        self.stderr: list[str] = []
        self.url = ""
        self._process: Forked | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, stdout: Path | int = Path("/dev/null"), *more: str) -> None:
        """Start the console, and wait until it listens."""
        if isinstance(stdout, Path):
            with stdout.open("ab") as out:
                self._process = await self._forks.start([*self._arguments, *more], out.fileno(), self.module)
        else:
            self._process = await self._forks.start([*self._arguments, *more], stdout, self.module)
        self._reading = asyncio.get_running_loop().create_task(self._read_stderr(), name="stderr of the console")
        await self.until_logged("console runs")
        self.url = self.logged("console runs")[0]["listen"][0]

    async def _read_stderr(self) -> None:
        assert self._process is not None
        async for line in self._process.stderr:
            self.stderr.append(line.decode().rstrip())
            if line.startswith(b"{"):
                self.logs.append(json.loads(line))

    def logged(self, message: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines with a message and these fields."""
        wanted = {"message": message, **fields}.items()
        return [line for line in self.logs if all(line.get(name) == value for name, value in wanted)]

    async def until_logged(self, message: str, **fields: Any) -> None:
        assert self._process is not None
        async with asyncio.timeout(60):
            while not self.logged(message, **fields):
                assert self._process.returncode is None, "\n".join(self.stderr)
                await asyncio.sleep(0.02)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)

    async def stop(self) -> int:
        assert self._process is not None
        assert self._reading is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            code = await self._process.wait()
            await self._reading
        return code


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")

    @property
    def token(self) -> str:
        """The token in the forms of the page."""
        found = re.search(r'name="token" value="([^"]+)"', self.text)
        assert found, self.text
        return found[1]


@dataclass
class Browser:
    """A browser at an address of this machine, with cookies."""

    url: str
    address: str = "127.0.0.1"
    ssl: Any = True
    headers: dict[str, str] = field(default_factory=dict)
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(local_addr=(self.address, 0), ssl=self.ssl)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True))
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    async def ask(self, method: str, path: str, *, data: Any = None, **headers: str) -> Answer:
        """Send a request; follow no redirection. Of a live page only the head is read."""
        given = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        request = self.session.request(method, self.url + path, data=data, headers=given, allow_redirects=False)
        async with request as answer:
            is_live = answer.content_type == "text/event-stream"
            text = (
                "" if is_live else (await answer.read()).decode("utf-8", "surrogateescape")
            )  # an export has any bytes
            return Answer(answer.status, text, dict(answer.headers))

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, **{"Sec-Fetch-Site": "none", **headers})

    async def post(self, path: str, *, site: str | None = "same-origin", headers: Any = None, **form: str) -> Answer:
        """Send a form as a page of the console does."""
        fetched = {"Sec-Fetch-Site": site} if site else {}
        return await self.ask("POST", path, data=form, **{**fetched, **(headers or {})})

    async def sign_in(self, name: str, secret: str, back: str = "/") -> Answer:
        return await self.post("/sign-in", name=name, secret=secret, back=back)

    async def read_token(self) -> str:
        """Return the token of the session."""
        return (await self.get("/")).token


async def until_shown(browser: Browser, path: str, text: str) -> str:
    """Ask for a page until it has a text. A page may show a status of a second ago."""
    async with asyncio.timeout(30):
        while text not in (page := (await browser.get(path)).text):
            await asyncio.sleep(0.1)
    return page
