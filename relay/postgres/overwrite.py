"""Removes deleted rows from the files of tables: the tables are written anew.

How it fails and recovers:

- The server keeps a deleted row for as long as a transaction may see it, and copies the row into the new file. So
  relay first waits until nobody sees what is deleted, and asks to be called again if that takes long.
- Everybody else waits while a table is written anew. relay waits for the table only a moment: whoever uses the table
  then goes first.
- What is deleted stays in the write-ahead log until the server recycles the log, in archives of it, in backups, and on
  standbys that lag.
"""

import re
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Final

from relay.postgres.connection import Database, PostgresConnection, limit_wait
from relay.postgres.error import convert_errors
from relay.postgres.snapshots import describe_holders
from relay.store import Unavailable

DEADLINE_S: Final = 600.0
"""Seconds for one table."""
LOCK_S: Final = 2.0
SEEN_S: Final = 5.0
"""Seconds to wait for transactions that see what is deleted."""
LOOK_S: Final = 0.2
SEEN: Final = "a transaction on the server still sees what was deleted (%s): end it, or wait for it"
LOCK: Final = limit_wait(LOCK_S)


def overwrite_deleted(database: Database, tables: Mapping[str, str]) -> None:
    """Remove deleted rows from the files of tables. Blocking. Raises Unavailable.

    `tables`: an index of each table, in whose order the table is written.
    """
    with convert_errors(), closing(database.connect()) as db:
        db.deadline_s = DEADLINE_S
        _await_unseen(db)
        for table, index in tables.items():
            with db.transaction_of(LOCK):
                db.run(f"CLUSTER $.{table} USING {index}")


def _await_unseen(db: PostgresConnection) -> None:
    """Wait until no transaction sees what was deleted before. A row that is deleted now tells."""
    with db.transaction_of(LOCK):
        db.run("INSERT INTO $.canary VALUES (1) ON CONFLICT DO NOTHING")
    with db.transaction_of(LOCK):
        db.run("DELETE FROM $.canary")
    deadline = time.monotonic() + SEEN_S
    while _count_dead(db):
        if time.monotonic() > deadline:
            raise Unavailable(SEEN % describe_holders(db, SEEN_S), "busy")
        time.sleep(LOOK_S)


def _count_dead(db: PostgresConnection) -> int:
    """Return the number of deleted canaries that somebody may still see, as the server remarks."""
    details = list[str]()
    note = lambda notice: details.append(notice.message_detail or "")  # noqa: E731  its text is gone a moment later
    db.add_notice_handler(note)
    try:
        with db.transaction_of(LOCK):
            db.run("CLUSTER VERBOSE $.canary USING canary_pkey")
    finally:
        db.remove_notice_handler(note)
    return max((int(found[0]) for detail in details if (found := re.search(r"\d+", detail))), default=0)
