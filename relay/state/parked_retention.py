"""Lets go of parked events that are too old or too many. Other than that, only admins empty parking."""

import asyncio
import sqlite3
import time
from typing import Final

import structlog

from relay.state.database import State
from relay.state.parked import Reason
from relay.state.parked_limits import Removals
from relay.words import moment

EVERY_S: Final = 1.0
TELL_S: Final = 60.0
"""How often the log tells of each reason."""
IN_WORDS: Final[dict[Reason, str]] = {
    "retention": "older than parked.retention",
    "max_size": "more than parked.max_size; the oldest unreadable ones go first",
    "min_free": "the disk is nearly full, see journal.min_free; the oldest unreadable ones go",
}
log = structlog.stdlib.get_logger()


async def tidy_parking(state: State) -> None:
    """Remove what `state.parked_limits` do not allow, and give its space back, again and again until cancelled.

    Events that an admin wants replayed stay. In the ledger all of them stay parked."""
    told: dict[Reason, float] = {}
    try:
        while True:
            try:
                while await state.remove_parked() or await state.shrink():
                    pass
            except sqlite3.Error as error:
                log.error("removing parked events failed, will be tried again", error=str(error))
            _tell(state, told)
            await asyncio.sleep(EVERY_S)
    finally:
        _tell(state, {})


def _tell(state: State, told: dict[Reason, float]) -> None:
    """Say what was removed, those of each reason together; `told`: when it was said last."""
    now = time.monotonic()
    for reason in [*state.removals]:
        if now - told.get(reason, -TELL_S) >= TELL_S:
            told[reason] = now
            _log(reason, state.removals.pop(reason))


def _log(reason: Reason, gone: Removals) -> None:
    log.warning(
        "parked events removed",
        events=gone.counts.total(),
        counts=dict(gone.counts),
        oldest=moment(gone.oldest),
        reason=IN_WORDS[reason],
        always=True,
    )
