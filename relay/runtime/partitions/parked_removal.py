"""Removes parked events that are too old or too many. Only admins remove others."""

import asyncio
import time
from typing import Final

import structlog

from relay.store import Reason, State, Unavailable
from relay.words import format_time

EVERY_S: Final = 1.0
TELL_S: Final = 60.0
"""Seconds between two log messages for the same reason."""
IN_WORDS: Final[dict[Reason, str]] = {
    "retention": "older than parked.retention",
    "max_size": "more than parked.max_size; the oldest unreadable ones go first",
    "min_free": "the disk is nearly full, see journal.min_free; the oldest unreadable ones go",
}
log = structlog.stdlib.get_logger()


async def keep_removing_parked(state: State) -> None:
    """Remove what `state.parked_limits` do not allow, and shrink the file, until cancelled.

    Events that an admin wants replayed stay. In the ledger all of them stay parked.
    """
    told: dict[Reason, float] = {}
    try:
        while True:
            try:
                while await state.remove_parked() or await state.shrink():
                    pass
            except Unavailable as error:
                if not error.is_logged:
                    log.error("removing parked events failed, will be tried again", error=str(error))
            _log_removals(state, told)
            await asyncio.sleep(EVERY_S)
    finally:
        _log_removals(state, {})


def _log_removals(state: State, told: dict[Reason, float]) -> None:
    """Log removed events, those of each reason together. `told`: times of the last messages."""
    now = time.monotonic()
    for reason in [*state.removals]:
        if now - told.get(reason, -TELL_S) >= TELL_S:
            told[reason] = now
            removed = state.removals.pop(reason)
            log.warning(
                "parked events removed",
                events=removed.counts.total(),
                counts=dict(removed.counts),
                oldest=format_time(removed.oldest),
                reason=IN_WORDS[reason],
                always=True,
            )
