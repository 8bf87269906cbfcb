"""The history of the cluster: what happened, when, and by whom. The table `history`, limited by age and number.

Nothing waits for an entry; an entry may be lost instead.
"""

from collections.abc import Sequence
from itertools import starmap
from typing import Final

from msgspec.structs import asdict, replace

from relay.postgres.cluster import Cluster
from relay.postgres.connection import PostgresConnection
from relay.postgres.state.erasure_queries import read_done_by_admins
from relay.postgres.state.replays import read_replays
from relay.store import ENTRY_COLUMNS, Entry, HistoryQuery, Wanted, encode_entry, find_new_entries, parse_entry

_ADD: Final = f"INSERT INTO $.history ({ENTRY_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)"  # noqa: S608
_TOO_OLD: Final = "DELETE FROM $.history WHERE at < $.unix_time() - %s"
_TOO_MANY: Final = """
    DELETE FROM $.history WHERE number <= (SELECT number FROM $.history ORDER BY number DESC LIMIT 1 OFFSET %s)
"""
_QUERY: Final = f"""
    SELECT {ENTRY_COLUMNS}, number FROM $.history
    WHERE (%(since)s::float8 IS NULL OR at >= %(since)s) AND (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (
        %(subject)s::text IS NULL OR %(subject)s IN (subject, substr(subject, strpos(subject, ' ') + 1))
        OR EXISTS (
            SELECT FROM json_array_elements_text(coalesce(about::json -> 'changed', '[]')) AS one
            WHERE %(subject)s IN (one, substr(one, strpos(one, ' ') + 1))
        )
    )
    ORDER BY at DESC, number DESC LIMIT nullif(%(limit)s, -1)
"""  # noqa: S608
_LAST_RUN: Final = """
    SELECT kind, at FROM $.history
    WHERE kind IN ('started', 'stopped') AND coalesce(about::json ->> 'node', '') = %s ORDER BY number DESC LIMIT 1
"""


class ClusterHistory:
    """The history of a cluster. See `relay.store.StoredHistory`."""

    def __init__(self, cluster: Cluster, node: str = "") -> None:
        """`node`: the name of the node on which this process runs. Its entries say it."""
        self._cluster, self._node = cluster, node

    def add(self, entries: Sequence[Entry], keep: float = 0.0, most: int = 0) -> None:
        where = {"node": self._node} if self._node else {}
        named = [replace(one, about={**one.about, **where}) for one in entries]
        with self._cluster.use() as db, db.transaction_of():
            db.run_many(_ADD, [*map(encode_entry, named)])
            if keep:
                db.run(_TOO_OLD, (keep,))
            if most:
                db.run(_TOO_MANY, (most,))

    def read(self, query: HistoryQuery | None = None) -> list[Entry]:
        with self._cluster.use() as db:
            rows = db.run(_QUERY, asdict(query or HistoryQuery())).fetchall()
        return [*starmap(parse_entry, reversed(rows))]

    def find_last_run(self) -> tuple[str, float] | None:
        with self._cluster.use() as db:
            row = db.run(_LAST_RUN, [self._node]).fetchone()
        return None if row is None else (row[0], row[1])

    def find_done(self, since: float) -> list[Entry]:
        with self._cluster.use() as db:
            replays, erased = read_replays(db, "ended >= %s", (since,)), read_done_by_admins(db, since)
        return find_new_entries(replays, erased, self.read(HistoryQuery(since=since)))


def hide_users(db: PostgresConnection, wanted: Wanted) -> None:
    """Put "..." for every id of these users: answers of destinations may name them. Part of a transaction."""
    for sentence, about, number in db.run("SELECT sentence, about, number FROM $.history").fetchall():
        hidden = wanted.hide(sentence), wanted.hide_in_json(about)
        if hidden != (sentence, about):
            db.run("UPDATE $.history SET sentence = %s, about = %s WHERE number = %s", (*hidden, number))
