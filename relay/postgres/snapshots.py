"""Finds what keeps dead versions of rows in the database: as long as it stands, every update gets slower."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.postgres.connection import PostgresConnection
from relay.words import format_count, format_span, format_time, shorten

LONG_S: Final = 600.0
"""Seconds after which a snapshot is named."""
MANY: Final = 100_000
"""Transactions after which a snapshot without a known age is named."""
NAMED: Final = 3
"""Holders that a sentence names."""
FIND: Final = """
    SELECT format('session %s of %s%s', pid, usename, ' (' || nullif(application_name, '') || ')'),
           extract(epoch FROM clock_timestamp() - xact_start)::double precision, age(backend_xmin),
           extract(epoch FROM xact_start)::double precision
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND wait_event IS DISTINCT FROM 'SyncRep'
    UNION ALL
    SELECT format('prepared transaction %s of %s', gid, owner),
           extract(epoch FROM clock_timestamp() - prepared)::double precision, age(transaction),
           extract(epoch FROM prepared)::double precision
    FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT format('replication slot %s', slot_name), NULL, age(xmin), NULL
    FROM pg_replication_slots WHERE xmin IS NOT NULL
    ORDER BY 3 DESC
"""
"""The holders of snapshots, without commits that wait for a standby: to end such a wait would make them count as
committed. The server shows other roles' sessions to roles with pg_read_all_stats only."""


class HeldSnapshot(NamedTuple):
    """A snapshot that is held for long. `str` says by whom and how long."""

    holder: str
    seconds: float | None
    """Seconds for which it is held; None if the server does not say."""
    transactions: int
    """Transactions that began since."""
    began: float | None = None
    """Unix seconds of its begin; None if the server does not say."""

    def __str__(self) -> str:
        long = format_count(self.transactions, "transaction") if self.seconds is None else format_span(self.seconds)
        return f"{self.holder} holds a snapshot for {long}"


def describe_holders(db: PostgresConnection, seconds: float) -> str:
    """Describe who has held a snapshot for longer than these seconds, the oldest first. Raises psycopg.Error."""
    found = [one for one in map(HeldSnapshot._make, db.run(FIND)) if one.seconds is None or one.seconds > seconds]
    said = [one.holder + ("" if one.began is None else f", since {format_time(one.began)}") for one in found]
    return "; ".join(shorten(said, NAMED)) or "the server does not say which to a role without pg_read_all_stats"


def find_long_snapshots(db: PostgresConnection) -> Iterator[HeldSnapshot]:
    """Yield the snapshots that are held for more than LONG_S, the oldest first. Raises psycopg.Error."""
    for found in map(HeldSnapshot._make, db.run(FIND)):
        is_long = found.transactions > MANY if found.seconds is None else found.seconds > LONG_S
        if is_long:
            yield found
