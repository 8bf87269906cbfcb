"""Looks at what is wrong again and again, beside the flow, and tells those who listen what has begun and ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from relay.status import Condition, Status, conditions

LOOK_S: Final = 2.0
PATIENCE_S: Final = 60.0
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class ConditionSnapshot:
    """One look at what is wrong, compared with the look before."""

    status: Status
    conditions: Sequence[Condition]
    begun: Sequence[Condition]
    """Those that the look before did not find."""
    ended: Sequence[Condition]
    """Those that only the look before found, as they were then."""

    @property
    def now(self) -> float:
        """When that was, in Unix seconds."""
        return self.status.now


@dataclass(slots=True)
class ConditionWatch:
    """Compares what is wrong with what was wrong before, and tells those who listen, at every look."""

    listeners: list[Callable[[ConditionSnapshot], None]] = field(default_factory=list)
    """Each is called in the event loop, and must not block."""
    _last: dict[tuple[str, str], Condition] = field(default_factory=dict)

    def stop(self) -> None:
        """Tell nothing any more: what ends with relay is not wrong."""
        self.listeners = []

    def look(self, status: Status) -> ConditionSnapshot:
        """Look at a status. A bug of a listener is logged, and ends nothing."""
        now = {one.key: self._lasting(one) for one in conditions(status)}
        begun = [one for key, one in now.items() if key not in self._last]
        ended = [one for key, one in self._last.items() if key not in now]
        look, self._last = ConditionSnapshot(status, [*now.values()], begun, ended), now
        for listener in self.listeners:
            try:
                listener(look)
            except Exception as bug:
                log.error("what is wrong cannot be told on", exc_info=bug)
        return look

    def _lasting(self, one: Condition) -> Condition:
        before = self._last.get(one.key)
        return one if before is None else replace(one, since=min(one.since, before.since))

    async def run(self, status: Callable[[], Awaitable[Status]]) -> None:
        """Look at the status every LOOK_S, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    seen = await status()
                self.look(seen)
            except Exception as bug:  # what cannot be looked at now ends nothing
                log.error("what is wrong cannot be looked at", exc_info=bug)
            await asyncio.sleep(LOOK_S)
