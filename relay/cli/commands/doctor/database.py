"""Checks the database of a journal in PostgreSQL. It changes nothing there."""

from collections.abc import Iterator

from relay.cli.client import find_running
from relay.cli.commands.doctor.report import Finding, Installation
from relay.engine import observe_database, open_store
from relay.status import advise_on_doubt, describe_doubt
from relay.store import Store, merge_ledgers


def check_database(it: Installation) -> Iterator[Finding]:
    """Check server, tables, grants, durability, what slows the database down, and what a start would refuse."""
    journal = it.config.journal
    if journal.backend != "postgres":
        return
    client = find_running(it.state)
    observed = observe_database(journal, it.state, client.find_process() if client else None)
    yield from (Finding(one.level, one.about, one.said, one.advice) for one in observed)
    if any(one.about == "nodes" for one in observed):  # the tables can be read
        told = {one.said for one in observed}
        yield from (one for one in _find_doubts(open_store(it.state, journal)) if one.said not in told)


def _find_doubts(store: Store) -> Iterator[Finding]:
    lanes = (lane for partition in store.view_all() for lane in partition.read_lanes_if_any())
    lost = {connector: ledger.counts.damaged for connector, ledger in merge_ledgers(lanes).items()}
    for one in store.doubts.find():
        about = f"{one.what} of partition {one.worker}"
        yield Finding("problem", about, describe_doubt(one, lost), advise_on_doubt(one, in_database=True))
