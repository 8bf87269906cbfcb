"""What is looked up, and let go of, in a state folder as a whole: that of one process, or of all workers."""

import sqlite3
from collections.abc import Collection
from pathlib import Path

import structlog

from relay.state import Forgotten, find_doubts, find_failing_erasures, forget_connector, read_parked_totals
from relay.store import Doubt, FailingErasures, ParkedTotal
from relay.threads import ADMIN

log = structlog.stdlib.get_logger()


async def forget_removed(folder: Path, connector: str, connectors: Collection[str]) -> Forgotten:
    """Let go of what a state folder has of a connector that is none of these. Raises as `View.forget`."""
    if connector in connectors:
        raise ValueError(f"{connector} is configured: remove it from the configuration, and reload, before")
    kept = await ADMIN.run(forget_connector, folder, connector)
    log.warning(
        "connector is forgotten", connector=connector, expired=kept.pending, parked=kept.parked, erasures=kept.erasures
    )
    return kept


async def read_parked_in(folder: Path) -> list[ParkedTotal]:
    """What lies parked in a state folder; nothing if that cannot be told at the moment."""
    try:
        return await ADMIN.run(read_parked_totals, folder)
    except (OSError, sqlite3.Error) as error:
        log.error("parked events cannot be counted", error=str(error))
        return []


async def read_doubts_in(folder: Path, path: Path) -> list[Doubt]:
    """What an admin may have to accept in a state folder; nothing if that cannot be told at the moment. `path`: the
    setting `journal.path`."""
    try:
        return await ADMIN.run(find_doubts, folder, path)
    except (OSError, sqlite3.Error) as error:
        log.error("relay.db does not say what it knows of the journal", error=str(error))
        return []


async def read_failing_in(folder: Path) -> list[FailingErasures]:
    """The erasures of a state folder that fail; nothing if that cannot be told at the moment."""
    try:
        return await ADMIN.run(find_failing_erasures, folder)
    except (OSError, sqlite3.Error) as error:
        log.error("failing erasures cannot be read", error=str(error))
        return []
