"""Lets go of a connector that is gone for good: its position, its ledger, the events that are kept for it, and the
erasures that wait for it.

Its ledger goes as a whole, after its parked events, so that what is left balances. The function here works on the
databases of a state folder, those of all workers, whether relay runs or not; whoever calls it has made sure that the
connector does not run.
"""

from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from relay.state.attempts import delete_attempts_of
from relay.state.cursor import delete_cursor
from relay.state.database_file import connect
from relay.state.erasures import give_up_at
from relay.state.layout import CLOSED, cut_files, worker_folders
from relay.state.ledger import read_ledger
from relay.state.parked import Which, drop_parked
from relay.state.pauses import delete_pause
from relay.state.replays import delete_replays_of


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was kept of a connector."""

    connector: str
    pending: int
    """Events that it had yet to get."""
    parked: int
    erasures: int
    """Erasures that failed there, and that it is not told again."""


def forget_connector(folder: Path, connector: str) -> Forgotten:
    """Let go of all that is kept of a connector.

    Raises LookupError (it never ran), FileNotFoundError, sqlite3.Error."""
    known = read_ledger(folder)
    if connector not in known:
        raise LookupError(f"no connector {connector} has run; there are: {', '.join(known) or 'none'}")
    parked, erasures = drop_parked(folder, Which(connector=connector)), 0  # in portions, and so before all else
    for mine in worker_folders(folder).values():
        with closing(connect(mine, "rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            for delete in (delete_cursor, delete_replays_of, delete_attempts_of, delete_pause):
                delete(db, connector)
            erasures += give_up_at(db, connector)
            db.execute("COMMIT")
        for file in [*cut_files(mine, connector), mine / CLOSED / connector]:
            with suppress(OSError):  # what stays there does no harm
                file.unlink()
    return Forgotten(connector, known[connector].pending, parked, erasures)
