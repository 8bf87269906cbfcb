"""All alerts of a configuration. Each has a task of its own beside the flow."""

import asyncio
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import structlog

from relay.alerts.compose import hide_answer, hide_answers
from relay.alerts.losses import Losses
from relay.alerts.sender import Sender, SendTimes
from relay.api import Alert, Message
from relay.config import Config, ConfigError, NotMade, make_alerts, make_mistakes
from relay.guests import is_same
from relay.status import AlertStatus, Condition, Status
from relay.store import AlertMessage, StoredAlerts, Tracks, Unavailable
from relay.threads import ADMIN

Kept = tuple[Tracks, list[AlertMessage]]
log = structlog.stdlib.get_logger()


class AlertSnapshot(Protocol):
    """The status, and what is wrong."""

    @property
    def status(self) -> Status:
        """The status."""

    @property
    def conditions(self) -> Sequence[Condition]:
        """The conditions."""


class Alerts:
    """Shows the conditions to each alert, and sends the messages of the alerts."""

    def __init__(self, stored: StoredAlerts, times: SendTimes | None = None) -> None:
        self._times = times or SendTimes()
        self._stored, self._host = stored, socket.gethostname()
        self._config = Config()
        self._senders: dict[str, Sender] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._seen: tuple[Sequence[Condition], Status] | None = None
        self._losses = Losses()
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        """Held while alerts check the conditions, and while they change."""

    def make_alerts(self, config: Config) -> dict[str, Alert]:
        """Make the new and changed alerts of a configuration. Raises ConfigError."""
        before = self._config.alerts
        renamed = config.runtime.name != self._config.runtime.name
        names = [name for name, one in config.alerts.items() if renamed or not is_same(one, before.get(name))]
        try:
            return make_alerts(config, names)
        except NotMade as error:
            raise ConfigError(make_mistakes(error.failures)) from None

    async def change(self, config: Config, made: Mapping[str, Alert]) -> None:
        """Switch to a configuration, with its new alerts in `made`.

        An alert continues where its namesake in the last relay was. Removed alerts are forgotten.
        """
        async with self._turn:
            removed = {*self._senders} - {*config.alerts}
            fresh = {*config.alerts} - {*self._senders}
            for name in removed:
                kept = await self._end_sender(name)
                if kept and (lost := sum(one.is_waiting for one in kept[1])):
                    why = "it was removed or switched off"
                    log.warning("messages of an alert are dropped", alert=name, messages=lost, reason=why)
            tracks, messages = await self._read_saved(fresh, {*config.alerts}) if fresh or removed else ({}, [])
            self._config = config
            for name, alert in made.items():
                saved = tracks.get(name, {}), [one for one in messages if one.alert == name]
                kept = await self._end_sender(name) or saved
                file, relay = config.alerts[name].file, config.runtime.name
                self._senders[name] = Sender(alert, file, relay, self._host, self._stored, *kept, self._times)
                self._start_sender(name)

    async def let_go(self) -> None:
        """End all alerts here, and keep what they remember: another process goes on with them."""
        async with self._turn:
            for name in [*self._senders]:
                await self._end_sender(name)
            self._config, self._seen = Config(), None

    async def _read_saved(
        self, names: Collection[str], kept: Collection[str]
    ) -> tuple[Mapping[str, Tracks], Sequence[AlertMessage]]:
        """Read the saved memory and messages of alerts; forget all alerts that are not `kept`."""
        try:
            await ADMIN.run(self._stored.forget, kept)
            return await ADMIN.run(self._stored.read, names)
        except Unavailable as error:
            log.error("what alerts remember cannot be read", error=str(error), advice="they may tell some of it again")
            return {}, []

    def take_snapshot(self, look: AlertSnapshot) -> None:
        """Take a snapshot of what is wrong."""
        found = [*map(hide_answer, look.conditions), *self._losses.find(look.status)]
        self._seen = found, hide_answers(look.status)
        self._news.set()

    async def run(self) -> None:
        """Show the snapshots to the alerts, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name in self._senders:
                self._start_sender(name)
            try:
                while True:
                    await self._news.wait()
                    self._news.clear()
                    await self._show_snapshot()
            finally:
                self._group = None
                for name in [*self._senders]:
                    await self._end_sender(name)

    async def _show_snapshot(self) -> None:
        if self._seen is None:
            return
        async with self._turn:
            for name, sender in self._senders.items():
                try:
                    await sender.check_conditions(*self._seen)
                except Exception as bug:  # it costs this look, and ends nothing
                    log.error("an alert cannot look at what is wrong", alert=name, exc_info=bug)

    def _start_sender(self, name: str) -> None:
        if self._group is not None:
            self._tasks[name] = self._group.create_task(self._senders[name].run(), name=f"alert {name}")

    async def _end_sender(self, name: str) -> Kept | None:
        """End an alert; return what its successor needs."""
        if task := self._tasks.pop(name, None):
            task.cancel()
            await asyncio.wait([task])
        if (sender := self._senders.pop(name, None)) is None:
            return None
        await sender.close()
        return sender.kept

    @property
    def statuses(self) -> list[AlertStatus]:
        """The status of each alert."""
        return [one.status for one in self._senders.values()]

    async def test(self, name: str) -> AlertMessage:
        """Send a test; return its message. Raises LookupError, and OSError without a result in time."""
        if name not in self._senders:
            known = ", ".join(sorted(self._senders)) or "none"
            raise LookupError(f"there is no alert {name}; there are: {known}")
        return await self._senders[name].test()

    def preview(self) -> dict[str, Message]:
        """Return the message that each alert would send now. Raises OSError right after the start."""
        if self._seen is None:
            raise OSError("relay has just started, and has not looked yet: ask again in a few seconds")
        return {name: one.preview(*self._seen) for name, one in self._senders.items()}
