"""Saves the sources' counts. No request waits for it, and none fails with it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from relay.store import SourceLedger, SourceState

SAVE_S: Final = 1.0
"""Seconds between a change and its saving. A crash loses the counts of that time."""
log = structlog.stdlib.get_logger()


class SourceSaver:
    """Saves the ledgers of all sources a moment after a change, and at the end."""

    def __init__(self, state: SourceState, ledgers: Callable[[], Sequence[SourceLedger]]) -> None:
        self._state, self._ledgers = state, ledgers
        self._timer: asyncio.TimerHandle | None = None

    def save_soon(self) -> None:
        """Save the ledgers within SAVE_S."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SAVE_S, self._save)

    def _save(self) -> None:
        self._timer = None
        self._state.save_sources(self._ledgers()).add_done_callback(_log_failure)

    async def close(self) -> None:
        """Save for the last time."""
        if self._timer is not None:
            self._timer.cancel()
        saving = self._state.save_sources(self._ledgers())
        saving.add_done_callback(_log_failure)
        await asyncio.wait([saving])


def _log_failure(saving: asyncio.Future[object]) -> None:
    error = None if saving.cancelled() else saving.exception()
    if error is not None:
        advice = "what sources count is saved later; what they take is not affected"
        log.error("saving what sources count failed", error=str(error), advice=advice)
