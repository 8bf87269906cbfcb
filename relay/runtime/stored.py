"""Reads and forgets what the store holds of all workers, for the status of one process or of all workers."""

import asyncio
from collections.abc import Collection, Sequence

import structlog

from relay.status import Status, merge_statuses
from relay.store import Doubt, FailingErasures, Forgotten, ParkedTotal, Store, Unavailable
from relay.threads import ADMIN

log = structlog.stdlib.get_logger()


async def forget_removed(store: Store, connector: str, connectors: Collection[str]) -> Forgotten:
    """Forget a connector that is none of these. Raises as `View.forget`."""
    if connector in connectors:
        raise ValueError(f"{connector} is configured: remove it from the configuration, and reload, before")
    kept = await ADMIN.run(store.forget, connector)
    log.warning(
        "connector is forgotten", connector=connector, expired=kept.pending, parked=kept.parked, erasures=kept.erasures
    )
    return kept


async def merge_with_stored(store: Store, statuses: Sequence[Status], parked_most: int) -> Status:
    """Merge the status of all workers with what the store holds of all. `parked_most`: the bytes that parked events may
    take."""
    async with asyncio.TaskGroup() as group:
        parked = group.create_task(_read_parked_totals(store), name="count parked events")
        failing = group.create_task(_find_failing_erasures(store), name="look for erasures that fail")
        doubts = group.create_task(_find_doubts(store), name="look for doubts")
    return merge_statuses(statuses, parked.result(), failing.result(), doubts.result(), parked_most=parked_most)


async def _read_parked_totals(store: Store) -> list[ParkedTotal]:
    """Return the totals of parked events; none while the database is away."""
    try:
        return await ADMIN.run(store.parked.read_totals)
    except Unavailable as error:
        if not error.is_logged:
            log.error("parked events cannot be counted", error=str(error))
        return []


async def _find_doubts(store: Store) -> list[Doubt]:
    """Return the doubts that an admin may have to accept; none while the database is away."""
    try:
        return await ADMIN.run(store.doubts.find)
    except Unavailable as error:
        if not error.is_logged:
            log.error("the database does not say what it knows of the journal", error=str(error))
        return []


async def _find_failing_erasures(store: Store) -> list[FailingErasures]:
    """Return the failing erasures; none while the database is away."""
    try:
        return await ADMIN.run(store.erasures.find_failing)
    except Unavailable as error:
        if not error.is_logged:
            log.error("failing erasures cannot be read", error=str(error))
        return []
