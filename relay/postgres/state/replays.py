"""Replays: requests to deliver a range of a partition once more, and their progress: the table `replay`.

An admin's command writes the request, and the lane of the replay saves its cursor here. Functions with a connection are
parts of transactions.
"""

import json
from collections.abc import Mapping
from itertools import starmap
from typing import Final

from relay.postgres.cluster import Cluster
from relay.postgres.connection import PostgresConnection, Values
from relay.store import (
    OUTCOMES,
    REPLAY_COLUMNS,
    Cursor,
    Replay,
    Unavailable,
    encode_cursor,
    find_partition,
    parse_replay,
)

_ASK: Final = """
    INSERT INTO $.replay (partition, number, connector, start, position, stop, entries, rate, asked, asked_by)
    SELECT partition, nextval('$.replay_number_' || partition), %(connector)s, %(start)s, %(start)s, %(stop)s,
        %(entries)s, %(rate)s, %(asked)s, %(asked_by)s
    FROM $.partition WHERE partition = %(partition)s RETURNING number
"""
_CANCEL: Final = """
    UPDATE $.replay SET cancelled = $.unix_time()
    WHERE partition = %s AND number = %s AND ended IS NULL AND cancelled IS NULL
"""
_SAVE: Final = f"""
    UPDATE $.replay SET position = %s, ahead = %s, {", ".join(f"{name} = %s" for name in OUTCOMES)},
        saved = $.unix_time(), ended = CASE WHEN %s >= stop THEN $.unix_time() END
    WHERE partition = %s AND number = %s
"""  # noqa: S608


class ClusterReplays:
    """The replays of a cluster. See `relay.store.StoredReplays`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def ask(self, replay: Replay, partition: int = 0) -> int:
        values = {
            "partition": partition, "connector": replay.connector, "start": replay.cursor.start, "stop": replay.stop,
            "entries": json.dumps(replay.entries), "rate": replay.rate, "asked": replay.asked,
            "asked_by": replay.asked_by,
        }  # fmt: skip
        with self._cluster.change(partition) as db:
            row = db.run(_ASK, values).fetchone()
        if row is None:
            raise Unavailable(f"{self._cluster.place} has no partition {partition}", "missing")
        return int(row[0])

    def cancel(self, number: int) -> bool:
        partition = find_partition(number)
        with self._cluster.change(partition) as db:
            return db.run(_CANCEL, (partition, number)).rowcount > 0

    def read(self) -> list[Replay]:
        with self._cluster.use() as db:
            return sorted(read_replays(db), key=lambda replay: replay.asked, reverse=True)


def read_replays(db: PostgresConnection, condition: str = "TRUE", values: Values = None) -> list[Replay]:
    """Read the replays for which an SQL condition holds, the last one first."""
    query = f"SELECT {REPLAY_COLUMNS} FROM $.replay WHERE {condition} ORDER BY number DESC"  # noqa: S608
    return [*starmap(parse_replay, db.run(query, values))]


def read_open_replays(db: PostgresConnection, partition: int) -> list[Replay]:
    """Read the replays of a partition that run or wait, the last one first."""
    return read_replays(db, "partition = %s AND ended IS NULL AND cancelled IS NULL", (partition,))


def find_replays_over(db: PostgresConnection, partition: int, offset: int) -> list[Replay]:
    """Find the replays of a partition with this offset in their range, the last one first."""
    return read_replays(db, "partition = %s AND start <= %s AND stop > %s", (partition, offset, offset))


def save_replays(db: PostgresConnection, partition: int, cursors: Mapping[int, Cursor]) -> None:
    """Save the progress of replays."""
    rows = [(*encode_cursor(one)[1:], one.position, partition, number) for number, one in cursors.items()]
    db.run_many(_SAVE, rows)  # without the start, which never changes


def delete_replays_of(db: PostgresConnection, connector: str) -> None:
    """Delete all replays of a connector, in all partitions."""
    db.run("DELETE FROM $.replay WHERE connector = %s", (connector,))
