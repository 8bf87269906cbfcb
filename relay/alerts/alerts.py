"""All alerts of a configuration: each has a task of its own, beside the flow."""

import asyncio
import socket
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from relay.alerts.compose import without_answer, without_answers
from relay.alerts.losses import Losses
from relay.alerts.sender import Sender, SendTimes
from relay.api import Alert, Message
from relay.config import Config, ConfigError, NotMade, make_alerts, mistakes_of
from relay.guests import is_same
from relay.state import AlertMessage, Tracks, forget_alerts, read_alerts
from relay.status import AlertStatus, Condition, Status
from relay.threads import ADMIN

Kept = tuple[Tracks, list[AlertMessage]]
log = structlog.stdlib.get_logger()


class AlertSnapshot(Protocol):
    """What is wrong at a moment, and how everything is."""

    @property
    def status(self) -> Status:
        """How everything is."""

    @property
    def conditions(self) -> Sequence[Condition]:
        """All that is wrong."""


class Alerts:
    """Shows each of them what is wrong, and has them send what they make of it."""

    def __init__(self, folder: Path, times: SendTimes | None = None) -> None:
        """`folder`: the state folder."""
        self._times = times or SendTimes()
        self._folder, self._host = folder, socket.gethostname()
        self._config = Config()
        self._senders: dict[str, Sender] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._seen: tuple[Sequence[Condition], Status] | None = None
        self._losses = Losses()
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        """Held while alerts look at what is wrong, and while they change."""

    def made(self, config: Config) -> dict[str, Alert]:
        """The alerts that are new or other in a configuration, made anew. Raises ConfigError."""
        before = self._config.alerts
        renamed = config.runtime.name != self._config.runtime.name
        names = [name for name, one in config.alerts.items() if renamed or not is_same(one, before.get(name))]
        try:
            return make_alerts(config, names)
        except NotMade as error:
            raise ConfigError(mistakes_of(error.failures)) from None

    async def change(self, config: Config, made: Mapping[str, Alert]) -> None:
        """Go over to a configuration, of which `made` has what is new. An alert that is new goes on where one of its
        name was in the last relay; what is not there any more is forgotten."""
        async with self._turn:
            await self._change(config, made)

    async def _change(self, config: Config, made: Mapping[str, Alert]) -> None:
        gone = {*self._senders} - {*config.alerts}
        fresh = {*config.alerts} - {*self._senders}
        for name in gone:
            kept = await self._end(name)
            if kept and (lost := sum(one.is_waiting for one in kept[1])):
                why = "it was removed or switched off"
                log.warning("messages of an alert are dropped", alert=name, messages=lost, reason=why)
        tracks, messages = await self._read(fresh, {*config.alerts}) if fresh or gone else ({}, [])
        self._config = config
        for name, alert in made.items():
            kept = await self._end(name) or (tracks.get(name, {}), [one for one in messages if one.alert == name])
            file, relay = config.alerts[name].file, config.runtime.name
            self._senders[name] = Sender(alert, file, relay, self._host, self._folder, *kept, self._times)
            self._begin(name)

    async def _read(
        self, names: Collection[str], kept: Collection[str]
    ) -> tuple[Mapping[str, Tracks], Sequence[AlertMessage]]:
        """What the database has of alerts, without those that are no more."""
        try:
            await ADMIN.run(forget_alerts, self._folder, kept)
            return await ADMIN.run(read_alerts, self._folder, names)
        except (OSError, sqlite3.Error) as error:
            log.error("what alerts remember cannot be read", error=str(error), advice="they may tell some of it again")
            return {}, []

    def look(self, look: AlertSnapshot) -> None:
        """See what is wrong now."""
        found = [*map(without_answer, look.conditions), *self._losses.find(look.status)]
        self._seen = found, without_answers(look.status)
        self._news.set()

    async def run(self) -> None:
        """Show the alerts what is wrong, and have them send, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name in self._senders:
                self._begin(name)
            try:
                while True:
                    await self._news.wait()
                    self._news.clear()
                    await self._show()
            finally:
                self._group = None
                for name in [*self._senders]:
                    await self._end(name)

    async def _show(self) -> None:
        if self._seen is None:
            return
        async with self._turn:
            for name, sender in self._senders.items():
                try:
                    await sender.look(*self._seen)
                except Exception as bug:  # it costs this look, and ends nothing
                    log.error("an alert cannot look at what is wrong", alert=name, exc_info=bug)

    def _begin(self, name: str) -> None:
        if self._group is not None:
            self._tasks[name] = self._group.create_task(self._senders[name].run(), name=f"alert {name}")

    async def _end(self, name: str) -> Kept | None:
        """End an alert; return what it has for the next one of its name."""
        if task := self._tasks.pop(name, None):
            task.cancel()
            await asyncio.wait([task])
        if (sender := self._senders.pop(name, None)) is None:
            return None
        await sender.close()
        return sender.kept

    @property
    def statuses(self) -> list[AlertStatus]:
        """How each of them is."""
        return [one.status for one in self._senders.values()]

    async def test(self, name: str) -> AlertMessage:
        """Send a test; return what became of it. Raises LookupError, OSError (there is no answer yet)."""
        if name not in self._senders:
            known = ", ".join(sorted(self._senders)) or "none"
            raise LookupError(f"there is no alert {name}; there are: {known}")
        return await self._senders[name].test()

    def shown(self) -> dict[str, Message]:
        """What each would tell now of what is wrong. Raises OSError right after the start."""
        if self._seen is None:
            raise OSError("relay has just started, and has not looked yet: ask again in a few seconds")
        return {name: one.shown(*self._seen) for name, one in self._senders.items()}
