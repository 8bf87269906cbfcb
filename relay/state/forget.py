"""Removes everything of a removed connector: its position, ledger, parked events, failed erasures and stores.

The ledger goes as a whole, after the parked events, so that the rest balances. The function works on the databases of
all workers, whether relay runs or not. The caller has made sure that the connector does not run.
"""

from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from relay.state.attempts import delete_attempts_of
from relay.state.cursor import delete_cursor
from relay.state.cuts import list_cut_files
from relay.state.database_file import connect
from relay.state.erasure.table import forget_at_connector
from relay.state.layout import CLOSED, list_worker_folders
from relay.state.ledger import read_ledger
from relay.state.parked import drop_parked
from relay.state.pauses import delete_pause
from relay.state.plugin_store import remove_stores
from relay.state.replays import delete_replays_of
from relay.store import ParkedQuery


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed of a connector."""

    connector: str
    pending: int
    """Events that the connector had yet to get."""
    parked: int
    erasures: int
    """Failed erasures that are not tried again."""


def forget_connector(folder: Path, connector: str) -> Forgotten:
    """Remove everything of a connector.

    Raises LookupError if the connector never ran, FileNotFoundError, sqlite3.Error.
    """
    known = read_ledger(folder)
    if connector not in known:
        raise LookupError(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")
    parked, erasures = drop_parked(folder, ParkedQuery(connector=connector)), 0  # in portions, and so before all else
    for mine in list_worker_folders(folder).values():
        remove_stores(mine, connector)
        with closing(connect(mine, "rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            for delete in (delete_cursor, delete_replays_of, delete_attempts_of, delete_pause):
                delete(db, connector)
            erasures += forget_at_connector(db, connector)
            db.execute("COMMIT")
        for file in [*list_cut_files(mine, connector), mine / CLOSED / connector]:
            with suppress(OSError):  # what stays there does no harm
                file.unlink()
    return Forgotten(connector, known[connector].pending, parked, erasures)
