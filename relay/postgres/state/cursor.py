"""The position of each lane, and the outcomes of its events: the table `cursor`."""

from collections.abc import Iterable, Mapping
from typing import Final

from relay.postgres.connection import PostgresConnection
from relay.store import CURSOR_COLUMNS, Cursor, LaneLedger, encode_cursor, parse_cursor

_COLUMNS: Final = ["head", *CURSOR_COLUMNS.split(", ")]
_SAVE: Final = f"""
    INSERT INTO $.cursor (partition, connector, {", ".join(_COLUMNS)}, begun, saved)
    VALUES (%s, %s, {", ".join(["%s"] * len(_COLUMNS))}, coalesce(%s, $.unix_time()), $.unix_time())
    ON CONFLICT (partition, connector)
    DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in [*_COLUMNS, "saved"])}
"""  # noqa: S608


def make_cursor_rows(cursors: Mapping[str, Cursor], head: int, begun: Mapping[str, float]) -> list[tuple[object, ...]]:
    """Return the rows of these cursors as they are now. `head`: the log's. `begun`: when new connectors began."""
    return [(connector, head, *encode_cursor(one), begun.get(connector)) for connector, one in cursors.items()]


def save_cursors(db: PostgresConnection, partition: int, rows: Iterable[tuple[object, ...]]) -> None:
    """Write rows, each in place of the connector's row before."""
    db.run_many(_SAVE, [(partition, *row) for row in rows])


def load_cursor(db: PostgresConnection, partition: int, connector: str | None) -> Cursor | None:
    """Return the saved cursor of a connector; None if the connector never ran."""
    query = f"SELECT {CURSOR_COLUMNS} FROM $.cursor WHERE partition = %s AND connector = %s"  # noqa: S608
    row = db.run(query, (partition, connector)).fetchone()
    return None if row is None else parse_cursor(*row)


def read_now(db: PostgresConnection) -> float:
    """Return the present time by the server's clock, in Unix seconds."""
    ((now,),) = db.run("SELECT $.unix_time()").fetchall()
    return float(now)


def find_begun(db: PostgresConnection, connector: str) -> float | None:
    """Find when a connector began in any partition, in Unix seconds; None if it never ran."""
    row = db.run("SELECT min(begun) FROM $.cursor WHERE connector = %s", (connector,)).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def load_cursors(db: PostgresConnection, partition: int) -> list[LaneLedger]:
    """Return the last saved ledger of each lane, the one saved last first."""
    columns = f"connector, head, {CURSOR_COLUMNS}"
    query = f"SELECT {columns} FROM $.cursor WHERE partition = %s ORDER BY saved DESC, connector"  # noqa: S608
    return [LaneLedger(name, head, parse_cursor(*rest)) for name, head, *rest in db.run(query, (partition,))]


def count_as_erased(db: PostgresConnection, partition: int, connector: str | None, events: int) -> None:
    """Count so many events of a connector as erased that were counted as parked."""
    query = "UPDATE $.cursor SET parked = parked - %s, erased = erased + %s WHERE partition = %s AND connector = %s"
    db.run(query, (events, events, partition, connector))


def delete_cursor(db: PostgresConnection, connector: str) -> None:
    """Delete the cursors of a connector, in all partitions."""
    db.run("DELETE FROM $.cursor WHERE connector = %s", (connector,))
