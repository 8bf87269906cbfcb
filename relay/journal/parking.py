"""Lets go of parked events that nobody has cared for in a long time. Other than that, only admins empty parking."""

import asyncio
import sqlite3
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Final

import structlog

from relay.journal.state import State

EVERY_S: Final = 60.0
PORTION: Final = 100
"""Events at a time, so that the cursors never wait long to be saved."""
log = structlog.stdlib.get_logger()


async def tidy_parking(state: State, retention: float) -> None:
    """Remove events whose last failure is `retention` seconds old, again and again until cancelled; 0: none.

    Those that an admin wants replayed stay. In the ledger all of them stay parked."""
    while retention:
        try:
            await _tidy(state, time.time() - retention)
        except sqlite3.Error as error:
            log.error("removing old parked events failed, will be tried again", error=str(error))
        await asyncio.sleep(EVERY_S)


async def _tidy(state: State, before: float) -> None:
    """Remove what failed last before that time, and say so, even if it is not all of it."""
    gone, oldest = Counter[str](), before
    try:
        while portion := await state.expire_parked(before, PORTION):
            gone.update(whose for whose, _ in portion)
            oldest = min(oldest, *(last for _, last in portion))
    finally:
        if gone:
            since = f"{datetime.fromtimestamp(oldest, UTC):%Y-%m-%dT%H:%M:%SZ}"
            reason = "older than parked.retention"
            log.warning("parked events removed", events=gone.total(), counts=dict(gone), oldest=since, reason=reason)
