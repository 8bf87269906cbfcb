"""Reads what workers and connectors that no longer run have left.

Without the workers, counts "ever" would fall when there are fewer workers than before.
"""

import time
from collections.abc import Collection, Mapping

import structlog
from msgspec.structs import asdict, replace

from relay import __version__
from relay.config import Config
from relay.histogram import QUICK, SLOW, Histogram
from relay.status.model import JournalStatus, LaneStatus, RemovedConnector, SourceStatus, Status
from relay.store import LaneLedger, Ledger, SourceLedger, Store, Unavailable, find_acknowledged_head
from relay.threads import ADMIN
from relay.words import format_count

log = structlog.stdlib.get_logger()


async def read_retired(store: Store, running: Collection[int], config: Config) -> list[Status]:
    """Read the ledgers of all workers but the running ones, for a configuration's sources and connectors.

    Returns nothing if they cannot be read at the moment, and nothing of partitions that all processes share.
    """
    if store.shared_partitions:
        return []
    try:
        return await ADMIN.run(read_ledgers, store, running, config)
    except Unavailable as error:
        if not error.is_logged:
            log.error("the ledgers of former workers cannot be read", error=str(error))
        return []


def keep_configured(status: Status, config: Config) -> Status:
    """Keep the counts of what is still configured."""
    sources = [one for one in status.sources if one.source in config.sources]
    lanes = [one for one in status.lanes if one.connector in config.connectors]
    return replace(status, sources=sources, lanes=lanes)


def read_ledgers(store: Store, running: Collection[int], config: Config) -> list[Status]:
    """Read the ledgers of all partitions but the running ones. Blocking. Raises Unavailable."""
    found = []
    for partition in store.view_all():
        if partition.number in running:
            continue
        lanes = partition.read_lanes()
        ledgers = {one.connector: one.ledger for one in lanes if one.connector in config.connectors}
        counted = {one.source: one for one in partition.read_sources() if one.source in config.sources}
        head = find_acknowledged_head(lanes)
        removed = [make_removed(one, 0, head, config) for one in lanes if one.connector not in config.connectors]
        found.append(replace(make_idle_status(head, ledgers, counted, config), gone=removed))
    return found


def make_removed(one: LaneLedger, oldest: int, head: int, config: Config) -> RemovedConnector:
    """Make the status of a connector that is not configured, or disabled, from where it ended. `oldest`, `head`: the
    offsets of the journal now."""
    return RemovedConnector(
        connector=one.connector,
        pending=one.count_left(oldest),
        later=one.count_later(oldest, head),
        disabled=f"connector.{one.connector}" in config.disabled,
    )


def describe_kept(one: RemovedConnector) -> str:
    """Name the events that a removed connector gets once it is added back."""
    pending, later = format_count(one.pending, "pending event"), format_count(one.later, "newer event")
    return " and ".join([pending, later] if one.pending and one.later else [later] if one.later else [pending])


def make_idle_status(
    head: int, ledgers: Mapping[str, Ledger], counted: Mapping[str, SourceLedger], config: Config
) -> Status:
    """Make the status of an idle process with these ledgers."""
    now = time.time()
    return Status(
        version=__version__, now=now, started=now, cpu=0.0, memory=0,
        sources=[
            SourceStatus(
                source=name, file=config.sources[name].file, accepted=0, unreadable=0, duplicates=one.duplicates,
                requests={}, last=None, rate=0.0, refusing=None, ack=Histogram(QUICK),
            )
            for name, one in counted.items()
        ],
        lanes=[
            LaneStatus(
                connector=name, type=config.connectors[name].settings.type, file=config.connectors[name].file,
                state="working", since=None, breaker="closed", next_try=0.0, accepted=ledger.accepted,
                outcomes=asdict(ledger.counts), pending=ledger.pending, oldest_pending=None, rate=0.0, drained_in=0.0,
                last_error=None, parked_now=0, parked=0, attempts={}, attempt=Histogram(QUICK),
                end_to_end=Histogram(SLOW),
            )
            for name, ledger in ledgers.items()
        ],
        journal=JournalStatus(
            oldest=head, head=head, size=0, needed=0, capacity=0, full_in=None, refusing=None, bytes=0, failed=0,
            syncs=Histogram(QUICK),
        ),
        parked=[],
    )  # fmt: skip
