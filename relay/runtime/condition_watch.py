"""Checks the conditions of relay again and again, and passes what has begun and ended to listeners."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from msgspec import Struct, field
from msgspec.structs import replace

from relay.status import Condition, Status, find_conditions

PATIENCE_S: Final = 60.0
log = structlog.stdlib.get_logger()


class ConditionSnapshot(Struct, frozen=True):
    """The conditions at one moment, compared with the moment before."""

    status: Status
    conditions: Sequence[Condition]
    begun: Sequence[Condition]
    """Conditions that are new."""
    ended: Sequence[Condition]
    """Conditions that are over, as they were last."""

    @property
    def now(self) -> float:
        """The moment, in Unix seconds."""
        return self.status.now


class ConditionWatch(Struct):
    """Compares the conditions with the ones before, and calls the listeners."""

    listeners: list[Callable[[ConditionSnapshot], None]] = field(default_factory=list)
    """Functions called in the event loop. They must not block."""
    every: float = 2.0
    """Seconds between two checks."""
    _last: dict[tuple[str, str], Condition] = field(default_factory=dict)

    def stop(self) -> None:
        """Call no listener any more: conditions that end with relay are not over."""
        self.listeners = []

    def forget(self) -> None:
        """Forget the conditions: another process checks them from now on."""
        self._last = {}

    def check(self, status: Status) -> ConditionSnapshot:
        """Check a status, and call the listeners. A bug of a listener is logged."""
        now = {one.key: one for one in find_conditions(status)}
        idle = {f"connector {lane.connector}" for lane in status.lanes if lane.state == "idle"}
        for key, before in self._last.items():
            if key in now:
                now[key] = replace(now[key], since=min(now[key].since, before.since))
            elif before.subject in idle:  # nobody runs it, as when the database is away: it is not well again
                now[key] = before
        begun = [one for key, one in now.items() if key not in self._last]
        ended = [one for key, one in self._last.items() if key not in now]
        look, self._last = ConditionSnapshot(status, [*now.values()], begun, ended), now
        for listener in self.listeners:
            try:
                listener(look)
            except Exception as bug:
                log.error("problems cannot be reported", exc_info=bug)
        return look

    async def run(self, status: Callable[[], Awaitable[Status | None]]) -> None:
        """Check the status again and again until cancelled. None: there is nothing to check."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    seen = await status()
                if seen is not None:
                    self.check(seen)
            except Exception as bug:  # what cannot be looked at now ends nothing
                log.error("what is wrong cannot be looked at", exc_info=bug)
            await asyncio.sleep(self.every)
