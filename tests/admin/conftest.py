"""The admin API over a view that says what a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.admin.server import SOCKET, Admin
from relay.admin.tail import Tap, Taps
from relay.api import Connector, ConnectorSettings
from relay.catalogue import Selection
from relay.config.model import AdminSettings, Config, Configured, MetricsSettings
from relay.histogram import QUICK, SLOW, Histogram
from relay.state.database import State
from relay.state.forget import Forgotten, forget_connector
from relay.state.history import Entry
from relay.status.model import JournalStatus, LaneStatus, SourceStatus, Status

NOON = 1_800_000_000.0 - 1_800_000_000.0 % 86400 + 43200


def a_source(**given: Any) -> SourceStatus:
    """A source that takes events."""
    of = SourceStatus(
        source="braze", file="20-braze.toml", accepted=10, unreadable=0, duplicates=0, requests={"2xx": 1, "4xx": 0},
        last=NOON - 2, rate=5.0, refusing=None, ack=Histogram(QUICK),
    )  # fmt: skip
    return replace(of, **given)


def a_lane(**given: Any) -> LaneStatus:
    """A lane that works."""
    of = LaneStatus(
        connector="heap", type="heap", file="60-heap.toml", state="working", since=None,
        breaker="closed", next_try=0.0, accepted=10, outcomes={"delivered": 10, "parked": 0}, pending=0,
        oldest_pending=None, rate=5.0, drained_in=0.0, last_error=None, parked_now=0, parked=0,
        attempts={"delivered": 1}, attempt=Histogram(QUICK), end_to_end=Histogram(SLOW),
    )  # fmt: skip
    return replace(of, **given)


def a_status(**given: Any) -> Status:
    """A relay with one source and one lane, at noon."""
    journal = JournalStatus(
        oldest=0, head=10, size=100, needed=10, capacity=1000, full_in=None, refusing=None, bytes=900, failed=0,
        syncs=Histogram(QUICK),
    )  # fmt: skip
    of = Status(
        version="1", now=NOON, started=NOON - 3600, cpu=36.0, memory=1 << 20, sources=[a_source()], lanes=[a_lane()],
        journal=journal, parked=[],
    )  # fmt: skip
    return replace(of, **given)


CONFIG = Config(connectors={"heap": Configured("heap", Connector, ConnectorSettings(type="heap", rate=50.0))})
AT_10 = "REPLACE INTO cursor VALUES ('heap', 10, 0, 10, '[]', 10, 0, 0, 0, 0, 0, 0, 0)"


@dataclass
class Shown:
    """A daemon as far as the API sees it: one connector, `heap`, at offset 10."""

    folder: Path
    config: Config = CONFIG
    shown: Status = field(default_factory=a_status)
    passing: Taps = field(default_factory=set)
    held: set[float | None] = field(default_factory=set)
    waits: bool = False
    noted: list[Entry] = field(default_factory=list)

    def note(self, entry: Entry) -> None:
        self.noted.append(entry)

    async def status(self) -> Status:
        return self.shown

    @asynccontextmanager
    async def tap(self, at: str, entries: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        self._known("heap" if at == "ingest" else at)
        tap = Tap(Selection(entries))
        self.passing.add(tap)
        try:
            yield tap.portions()
        finally:
            self.passing.discard(tap)

    async def pause(self, connector: str, until: float | None) -> bool:
        self._known(connector)
        changed, self.held = until not in self.held, {until}
        return changed

    async def resume(self, connector: str) -> bool:
        self._known(connector)
        changed, self.held = bool(self.held), set()
        return changed

    async def try_now(self, connector: str) -> bool:
        self._known(connector)
        waited, self.waits = self.waits, False
        return waited

    async def forget(self, connector: str) -> Forgotten:
        if connector == "heap":
            raise ValueError("heap is configured")
        return forget_connector(self.folder, connector)

    def _known(self, connector: str) -> None:
        if connector != "heap":
            raise LookupError(f"no connector {connector} runs; there are: heap")


class Bench:
    """The API of a daemon that is only shown."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.state = State(folder)
        (folder / "journal").mkdir()
        self.state._transaction(lambda db: db.execute(AT_10))
        self.shown = Shown(folder)
        self.admin = Admin(self.shown, AdminSettings(**settings), MetricsSettings())
        self.socket = folder / SOCKET

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        """Ask by the socket: status, content, answer."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket))) as session,
            asyncio.timeout(30),
            session.request(method, "http://relay" + path, json=body, headers=headers) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type.endswith(("/json", "+json")) else text, answer


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    await bench.admin.start()
    yield bench
    await bench.admin.stop()
    bench.state.close()
