"""A relay under load on a stage of its own: a sender, a stand-in of Heap, and somebody who gets alerts."""

import asyncio
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
import orjson

from relay.sandbox.heap.webhook import HeapWebhook
from relay.sandbox.shapes import make_event
from relay.testing import Destination
from tests.certificates import Authority
from tests.daemon import Daemon
from tests.forks import Forks

TYPE: Final = "users.messages.email.Open"
EVENTS: Final = 10
"""In each request of the load."""
EVERY_S: Final = 0.1
LOOK_S: Final = 0.1
PATIENCE_S: Final = 90.0
RELAY: Final = """
[source.braze]
type = "currents"
path = "/currents"
tokens = [{ file = "%(folder)s/braze-token" }]

[journal]
min_free = "1MiB"
%(journal)s

[metrics]
listen = "127.0.0.1:0"

[connector.archive]
type = "file"
path = "archive.ndjson"

[alert.ops]
type = "webhook"
url = "%(ops)s"
after = "1s"
"""
HEAP: Final = """
[connector.heap]
type = "heap"
endpoint = "%(heap)s"
token = { file = "%(folder)s/heap-token" }
%(heap_more)s
"""


class CannotBeShown(Exception):
    """This machine lacks something that a scene needs; the text says what."""


class Load:
    """Sends events all the time, as Braze does: what is not taken is sent again."""

    def __init__(self) -> None:
        self.token, self.filling = "braze-token", 0
        self.trusting: ssl.SSLContext | None = None
        self.answers: Counter[str] = Counter()
        self.refusal = ""
        """What the sender was told last instead of 2xx."""
        self._rng = Random(1)

    def body(self, events: int = EVENTS) -> bytes:
        """A request."""
        made = [make_event(TYPE, self._rng, time.time()) for _ in range(events)]
        for event in made if self.filling else ():
            event["properties"]["filling"] = "x" * self.filling
        return orjson.dumps({"events": made})

    async def send(self, url: str, body: bytes) -> str:
        """Send a request on a connection of its own; return the status, or what went wrong."""
        headers = {"Authorization": f"Bearer {self.token}"}
        connector = aiohttp.TCPConnector(force_close=True, ssl=self.trusting or True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.post(f"{url}/currents", data=body, headers=headers) as answer,
            ):
                status = str(answer.status)
                if answer.status != 202:
                    said = await answer.json(content_type=None)
                    later = answer.headers.get("Retry-After")
                    wait = f" (Retry-After: {later})" if later else ""
                    self.refusal = f"HTTP {status}{wait}: {said.get('detail', said)}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            status = self.refusal = str(error) or type(error).__name__
        self.answers[status] += 1
        return status

    async def run(self, daemon: Daemon) -> None:
        """Send for ever; a request that is refused comes again."""
        while True:
            body = self.body()
            while await self.send(daemon.url, body) != "202":
                await asyncio.sleep(EVERY_S * 5)
            await asyncio.sleep(EVERY_S)


class Stage:
    """What a scene plays with."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.folder, self.forks = folder, forks
        self.daemon = Daemon(folder, forks)
        for token in ("braze-token", "heap-token"):
            (folder / token).write_text(token)
        self.heap = HeapWebhook(token="heap-token")
        self.ops = Destination()
        self.load = Load()
        self.authority = Authority(folder)
        self.struck = 0.0
        """When the trouble, or its end, began, in monotonic seconds."""
        self.known_findings: set[str] = set()
        self._heap_up = AsyncExitStack()
        self._loading: asyncio.Task[None] | None = None
        self._logs = self._messages = 0
        self._ports = dict[str, str]()

    def configure(self, *, journal: str = "", heap: str = "") -> None:
        """Write conf.d: lines for `[journal]` and for the connector heap."""
        given = {
            "folder": self.folder,
            "ops": self.ops.url,
            "heap": self.heap.url,
            "journal": journal,
            "heap_more": heap,
        }
        self.daemon.configure("10-relay", RELAY % given)
        self.daemon.configure("60-heap", HEAP % given)

    async def start(self) -> None:
        """Start relay, and have a first event delivered."""
        await self.daemon.start()
        assert await self.load.send(self.daemon.url, self.load.body()) == "202", self.load.refusal
        if self.heap.url:
            await self.until(lambda: len(self.heap.ids) >= EVENTS)
        self.known_findings = {finding_text(one) for one in await self.findings()}

    def load_on(self) -> None:
        """Begin to send."""
        self._loading = asyncio.get_running_loop().create_task(self.load.run(self.daemon), name="load")

    async def load_off(self) -> None:
        """Send no more."""
        if self._loading is not None:
            self._loading.cancel()
            with suppress(asyncio.CancelledError):
                await self._loading
            self._loading = None

    def strike(self) -> None:
        """What is heard counts from now on."""
        self.struck = time.monotonic()
        self._logs, self._messages = len(self.daemon.logs), len(self.ops.requests)
        self.load.refusal = ""

    async def heap_comes(self) -> None:
        """Have the stand-in of Heap listen, where it did before if it did."""
        await self._heap_up.enter_async_context(self.heap)
        self.heap.listen = ("127.0.0.1", int(self.heap.url.rsplit(":", 1)[1].partition("/")[0]))

    async def heap_goes(self) -> None:
        """Have nobody listen there."""
        await self._heap_up.aclose()

    def switch(self, **switches: Any) -> None:
        """Set switches of the stand-in of Heap."""
        self.heap.switches = self.heap.switches.replace(**switches)

    async def relay(self, *words: str) -> tuple[int, str]:
        """Give a command; return its exit code and all that it writes."""
        path = self.folder / f"output-{time.monotonic_ns()}"
        with path.open("wb") as out:
            process = await self.forks.start([*words, "--state", str(self.daemon.state)], out.fileno())
        errors = await process.stderr.read()
        code = await process.wait()
        text = path.read_text() + errors.decode()
        path.unlink()
        return code, self.tidy(text)

    async def findings(self) -> list[dict[str, str]]:
        """What `relay doctor` finds, without what is well, and how quick this machine's disk is at the moment."""
        words = ("doctor", "--conf", str(self.daemon.conf), "--plugins", str(self.daemon.plugins), "--json")
        _, told = await self.relay(*words)
        return [one for one in orjson.loads(told)["findings"] if one["level"] != "ok" and one["about"] != "fdatasync"]

    def logged(self) -> list[dict[str, Any]]:
        """Lines of the log at level warning and above since the strike."""
        lines = self.daemon.logs[self._logs :]
        return [one for one in lines if one["level"] in ("warning", "error", "critical")]

    def logged_at_all(self) -> list[dict[str, Any]]:
        """All lines of the log since the strike."""
        return self.daemon.logs[self._logs :]

    def messages(self) -> list[dict[str, Any]]:
        """What alerts have sent since the strike."""
        return [orjson.loads(request.body) for request in self.ops.requests[self._messages :]]

    async def until(self, good: Callable[[], Any]) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not good():
                await asyncio.sleep(LOOK_S)

    def tidy(self, text: str) -> str:
        """A text as it would be where relay is installed: with its folders, and one address for each destination."""
        for found, usual in (
            (str(self.daemon.conf), "/etc/relay/conf.d"),
            (str(self.daemon.state), "/var/lib/relay"),
            (str(self.folder), "/etc/relay"),
            (address(self.heap.url), "127.0.0.1:9102"),
            (address(self.ops.url), "127.0.0.1:9103"),
            (address(self.daemon.url), "127.0.0.1:8080"),
        ):
            text = text.replace(found, usual) if found else text
        return text


def address(url: str) -> str:
    """Host and port of a URL."""
    return url.partition("://")[2].partition("/")[0]


def finding_text(one: dict[str, str]) -> str:
    """A finding of `relay doctor`, as it prints it, without its figures."""
    return "".join("#" if character.isdigit() else character for character in f"{one['about']}{one['said']}")


@asynccontextmanager
async def stage(folder: Path, forks: Forks, disk: Path | None = None) -> AsyncIterator[Stage]:
    """Set it up; take it down whatever has become of it. `disk`: where the state folder is to be."""
    made = Stage(folder, forks)
    made.daemon.state = (disk or folder) / "state"
    try:
        async with made.ops:
            await made.heap_comes()
            yield made
            await made.load_off()
    finally:
        await made.load_off()
        if made.daemon.is_running:
            await made.daemon.kill()
        await made.heap_goes()


@asynccontextmanager
async def small_disk(folder: Path, mebibytes: int) -> AsyncIterator[Path]:
    """A file system of its own. Raises CannotBeShown."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotBeShown(f"a tmpfs cannot be mounted here (that takes root): {error}") from None
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


Act = Callable[[Stage], Awaitable[None]]
