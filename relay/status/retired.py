"""What workers that are no longer wanted have left: nothing of theirs runs, but what they counted goes on to count.

The status would forget it otherwise, and what is counted "ever" would fall when there are fewer workers than before.
"""

import sqlite3
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import structlog

from relay import __version__
from relay.config import Config
from relay.histogram import QUICK, SLOW, Histogram
from relay.state import (
    LaneLedger,
    Ledger,
    SourceLedger,
    find_acknowledged_head,
    list_worker_folders,
    read_lane_ledgers,
    read_source_ledgers,
)
from relay.status.model import GoneConnector, JournalStatus, LaneStatus, SourceStatus, Status
from relay.threads import ADMIN

log = structlog.stdlib.get_logger()


async def retired(state: Path, running: Collection[int], config: Config) -> list[Status]:
    """What all workers but the running ones have in their books, of the sources and connectors of a configuration;
    nothing if that cannot be told at the moment."""
    try:
        return await ADMIN.run(_retired, state, running, config)
    except (OSError, sqlite3.Error) as error:
        log.error("the books of workers that are no longer wanted cannot be read", error=str(error))
        return []


def configured(status: Status, config: Config) -> Status:
    """What a process had counted for what is still configured."""
    sources = [one for one in status.sources if one.source in config.sources]
    lanes = [one for one in status.lanes if one.connector in config.connectors]
    return replace(status, sources=sources, lanes=lanes)


def _retired(state: Path, running: Collection[int], config: Config) -> list[Status]:
    folders = list_worker_folders(state)
    return [_books_of(folder, config) for number, folder in folders.items() if number not in running]


def _books_of(folder: Path, config: Config) -> Status:
    lanes = read_lane_ledgers(folder)
    ledgers = {one.connector: one.ledger for one in lanes if one.connector in config.connectors}
    counted = {one.source: one for one in read_source_ledgers(folder) if one.source in config.sources}
    gone = [one for one in lanes if one.connector not in config.connectors]
    mine = nobody(find_acknowledged_head(lanes), ledgers, counted, config)
    return replace(mine, gone=[_gone(one, config) for one in gone])


def _gone(one: LaneLedger, config: Config) -> GoneConnector:
    is_off = f"connector.{one.connector}" in config.disabled
    return GoneConnector(connector=one.connector, pending=one.count_left(0), disabled=is_off)


def nobody(head: int, ledgers: Mapping[str, Ledger], counted: Mapping[str, SourceLedger], config: Config) -> Status:
    """The status of a process that does nothing, with these books."""
    now = time.time()
    return Status(
        version=__version__,
        now=now,
        started=now,
        cpu=0.0,
        memory=0,
        sources=[_source(name, config.sources[name].file, one.duplicates) for name, one in counted.items()],
        lanes=[
            _lane(name, config.connectors[name].settings.type, config.connectors[name].file, ledger)
            for name, ledger in ledgers.items()
        ],
        journal=JournalStatus(
            oldest=head, head=head, size=0, needed=0, capacity=0, full_in=None, refusing=None, bytes=0, failed=0,
            syncs=Histogram(QUICK),
        ),
        parked=[],
    )  # fmt: skip


def _source(name: str, file: str, duplicates: int) -> SourceStatus:
    return SourceStatus(
        source=name, file=file, accepted=0, unreadable=0, duplicates=duplicates, requests={}, last=None, rate=0.0,
        refusing=None, ack=Histogram(QUICK),
    )  # fmt: skip


def _lane(name: str, type: str, file: str, ledger: Ledger) -> LaneStatus:
    return LaneStatus(
        connector=name, type=type, file=file, state="working", since=None, breaker="closed",
        next_try=0.0, accepted=ledger.accepted, outcomes=asdict(ledger.counts), pending=ledger.pending,
        oldest_pending=None, rate=0.0, drained_in=0.0, last_error=None, parked_now=0, parked=0, attempts={},
        attempt=Histogram(QUICK), end_to_end=Histogram(SLOW),
    )  # fmt: skip
