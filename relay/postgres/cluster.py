"""The cluster whose tables a schema holds, for whatever works beside the holders of leases: commands, status, history.

How it fails and recovers: the first use checks that relay can work with the tables, and a use that fails checks again
the next time. Tables that are another cluster's than at the first use are not touched. No connection and no transaction
outlasts a use. So a slow caller, or a caller that was killed, delays nobody.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from relay.postgres.connection import Database, PostgresConnection
from relay.postgres.schema import check_tables
from relay.postgres.state.transactions import WAIT_FOR_LOCKS
from relay.store import Unavailable

FRESH_S: Final = 0.5
"""Seconds after which a use looks again whose tables are there."""
LOCK: Final = "SELECT pg_advisory_xact_lock((SELECT lock FROM $.cluster), %s)"
"""Takes one of the cluster's advisory locks, by its number, until the transaction has ended."""


class Cluster:
    """The cluster in one schema."""

    def __init__(self, database: Database) -> None:
        """Connect to nothing yet."""
        self._database = database
        self.place = database.place
        self._has_tables = self._has_run = False
        self._recognised = -FRESH_S

    @contextmanager
    def use_tables(self) -> Iterator[PostgresConnection]:
        """Lend a connection to the body, also before any relay has run. Raises Unavailable."""
        with self._database.use() as db:
            if not self._has_tables:
                check_tables(db)
                self._has_tables = True
            if time.monotonic() > self._recognised + FRESH_S:
                self._database.recognise(db)
                self._recognised = time.monotonic()
            yield db

    @contextmanager
    def use(self) -> Iterator[PostgresConnection]:
        """Lend a connection to the body. Raises Unavailable, with the reason "missing" if no relay has run."""
        with self.use_tables() as db:
            if not self._has_run:
                self._has_run = has_run(db)
            if not self._has_run:
                raise Unavailable(f"no relay has run with {self.place}", "missing")
            yield db

    @contextmanager
    def change(self, partition: int | None = None) -> Iterator[PostgresConnection]:
        """Run the body as one transaction that changes a partition, or with None all, and that the holders notice.

        The holders' own transactions wait meanwhile. Raises Unavailable.
        """
        with self.use() as db, db.transaction_of(begin_change(partition)):
            yield db

    def read_id(self) -> UUID:
        """Return the id that the cluster got when it was made. Raises Unavailable."""
        with self._database.use() as db:
            check_tables(db)
            return db.read_cluster()

    def list_partitions(self) -> list[int]:
        """Return the numbers of all partitions. Raises Unavailable."""
        with self.use_tables() as db:
            return [number for (number,) in db.run("SELECT partition FROM $.partition ORDER BY partition")]


def check_bar(db: PostgresConnection, lock: str = "") -> None:
    """Check that relays start with the cluster. The lock "FOR SHARE" keeps it so until the transaction has ended.

    Raises Unavailable.
    """
    (barred,) = db.run(f"SELECT barred FROM $.cluster {lock}").fetchone() or ("",)  # noqa: S608
    if barred:
        raise Unavailable(f"no relay starts with the tables of the schema {db.schema}: {barred}")


def begin_change(partition: int | None = None) -> str:
    """Return the statements that begin a change of a partition, or with None of all. They wait for the holders'
    transactions, and fail when that takes too long."""
    which = "NULL" if partition is None else f"{partition:d}"
    return f"{WAIT_FOR_LOCKS}SELECT $.begin_change({which});"


def has_run(db: PostgresConnection) -> bool:
    """Return whether any relay has worked with the cluster, or runs and has no partition yet."""
    query = "SELECT EXISTS (SELECT FROM $.lease WHERE epoch > 0) OR EXISTS (SELECT FROM $.node)"
    return db.run(query).fetchone() == (True,)
