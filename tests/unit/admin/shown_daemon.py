"""The admin API over a view that says what a test wants."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from relay.admin.server import Admin
from relay.admin.tail import Tap
from relay.api import Connector, ConnectorSettings
from relay.catalogue import Selection
from relay.config.console.folder import ConfFolders
from relay.config.model import AdminSettings, Config, Configured, JournalSettings, MetricsSettings
from relay.deliver import Taps
from relay.engine import open_store
from relay.socket_path import SOCKET
from relay.state.database import StateDatabase
from relay.state.layout import DATABASE
from relay.status.model import Status
from relay.store import Entry, Forgotten, Store
from tests.unit.status.statuses import a_status

CONFIG = Config(connectors={"heap": Configured("heap", Connector, ConnectorSettings(type="heap", rate=50.0))})
AT_10 = "REPLACE INTO cursor VALUES ('heap', 10, 0, 10, '[]', 10, 0, 0, 0, 0, 0, 0, 0)"


@dataclass
class Shown:
    """A daemon as far as the API sees it: one connector, `heap`, at offset 10."""

    folder: Path
    config: Config = CONFIG
    used: Config = CONFIG
    shown: Status = field(default_factory=a_status)
    passing: Taps = field(default_factory=set)
    held: set[float | None] = field(default_factory=set)
    waits: bool = False
    noted: list[Entry] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return open_store(self.folder, JournalSettings())

    def note(self, entry: Entry) -> None:
        self.noted.append(entry)

    async def status(self, *, own: bool = False) -> Status:
        return self.shown

    @asynccontextmanager
    async def tap(self, at: str, entries: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        self._known("heap" if at == "ingest" else at)
        tap = Tap(Selection(entries))
        self.passing.add(tap)
        try:
            yield tap.take_portions()
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
        return self.store.forget(connector)

    def _known(self, connector: str) -> None:
        if connector != "heap":
            raise LookupError(f"no connector {connector} runs; there are: heap")


class Bench:
    """The API of a daemon that is only shown."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.state = StateDatabase(folder)
        (folder / "journal").mkdir()
        with closing(sqlite3.connect(folder / DATABASE)) as db, db:
            db.execute(AT_10)
        self.shown = Shown(folder, replace(CONFIG, folders=ConfFolders([folder / "conf.d"])))
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
