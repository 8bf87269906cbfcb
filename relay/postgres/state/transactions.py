"""The transactions of the process that holds the lease of a partition.

How they fail and recover:

- Each transaction begins with the check of the lease. Once another process has the lease, nothing changes any more.
- A lost connection is made anew with the next transaction.
- When a connection is lost during COMMIT, nobody knows whether the transaction is committed. Most may just be repeated.
  A transaction that must not happen twice leaves a mark, and the mark is read again before anything else happens. A
  server that still works on the transaction holds the mark's row: until it has ended, every transaction is refused.
- When such a transaction turns out to be committed after its caller was told otherwise, the holder knows less than the
  tables. It is treated as if another process had the lease: it begins anew.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

from relay.postgres.connection import QUICK, Database, Lasting, PostgresConnection, limit_wait
from relay.postgres.state.journal_state import mark_transaction, read_last_mark
from relay.store import Unavailable

T = TypeVar("T")
LOCKED_S: Final = 5.0
"""Seconds to wait for another process's transaction. They are over before the deadline of a statement."""
WAIT_FOR_LOCKS: Final = limit_wait(LOCKED_S)
DONE_AFTER_ALL: Final = "a change that had no answer from the server was made after all: the partition is opened anew"


class HolderTransactions:
    """The transactions of one holder, one at a time. Blocking. All methods raise Unavailable."""

    def __init__(self, database: Database, partition: int, hold: str) -> None:
        """`hold`: the statement that checks the lease."""
        self._partition, self._first = partition, WAIT_FOR_LOCKS + hold
        self._held = f"""
            WITH checked AS MATERIALIZED ({hold.rstrip(";")}),
            held AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) FROM checked)
        """  # noqa: S608
        self._lasting = Lasting(database)
        self._unsure = ""
        """The mark of a transaction of which nobody knows whether it is committed; "": there is none."""

    def run(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run work as one transaction, which may happen twice if its end is unknown."""
        self._find_out()
        with self._lasting.use() as db, db.transaction_of(self._first):
            return work(db)

    def run_quick(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run work as one transaction that a crash of the server may lose."""
        self._find_out()
        with self._lasting.use() as db, db.transaction_of(self._first, QUICK):
            return work(db)

    def insert_quick(self, insert: str, values: Sequence[Any]) -> None:
        """Insert rows in a transaction of one round trip, which a crash of the server may lose.

        `insert`: an INSERT that selects from `held` as well.
        """
        self._find_out()
        with self._lasting.use() as db:
            db.run(self._held + insert, values)

    def run_once(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run work as one transaction that must not happen twice."""
        self._find_out()
        mark, results = uuid4().hex, list[T]()
        try:
            with self._lasting.use() as db, db.transaction_of(self._first):
                mark_transaction(db, self._partition, mark)
                results.append(work(db))
        except Unavailable:
            if not results or not self._lasting.is_lost:
                raise
            self._unsure = mark  # the connection was lost during COMMIT
            if not self._was_committed():
                raise
        return results[0]

    def read(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run work that reads, without the check of the lease. Each statement is a transaction of its own."""
        with self._lasting.use() as db:
            return work(db)

    def _find_out(self) -> None:
        if self._unsure and self._was_committed():
            raise Unavailable(DONE_AFTER_ALL, "taken")

    def _was_committed(self) -> bool:
        """Return whether the transaction in doubt is committed, once the server has ended it."""
        with self._lasting.use() as db, db.transaction_of(WAIT_FOR_LOCKS):
            is_last = read_last_mark(db, self._partition) == self._unsure
        self._unsure = ""
        return is_last

    def close(self) -> None:
        """Close the connection."""
        self._lasting.close()
