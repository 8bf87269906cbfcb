"""What relay knows of the log of a partition beside its events: the table `journal_state`."""

from typing import NamedTuple

from relay.postgres.connection import PostgresConnection


class KnownTimes(NamedTuple):
    """What the table says of clock and log. Times are Unix seconds."""

    time: float
    """The newest time that was trusted."""
    accepted: float
    """When an admin accepted the clock."""
    unheard: int | None
    """While doubt stands: where connectors begin that have no cursor."""


def read_times(db: PostgresConnection, partition: int) -> KnownTimes:
    """Return what the table says of clock and log."""
    query = "SELECT time, accepted, unheard FROM $.journal_state WHERE partition = %s"
    row = db.run(query, (partition,)).fetchone()
    return KnownTimes(0.0, 0.0, None) if row is None else KnownTimes(*row)


def save_head(db: PostgresConnection, partition: int, head: int, trusted: float, ahead: float) -> None:
    """Save the head of the log, the trusted time in Unix seconds, and by how much the clock is ahead of it."""
    query = """
        UPDATE $.journal_state SET head = greatest(head, %s), time = greatest(time, %s), ahead = %s WHERE partition = %s
    """
    db.run(query, (head, trusted, ahead, partition))


def mark_transaction(db: PostgresConnection, partition: int, mark: str) -> None:
    """Mark this transaction as the last one that must not happen twice."""
    db.run("UPDATE $.journal_state SET mark = %s WHERE partition = %s", (mark, partition))


def read_last_mark(db: PostgresConnection, partition: int) -> str:
    """Return the mark of the last such transaction. Wait until the server has ended those under way."""
    query = "SELECT mark FROM $.journal_state WHERE partition = %s FOR UPDATE"
    row = db.run(query, (partition,)).fetchone()
    return "" if row is None else str(row[0])


def read_head(db: PostgresConnection, partition: int) -> int:
    """Return the offset below which all events were acknowledged when the head was saved last."""
    row = db.run("SELECT head FROM $.journal_state WHERE partition = %s", (partition,)).fetchone()
    return 0 if row is None else int(row[0])


def read_doubt(db: PostgresConnection, partition: int) -> tuple[str, float]:
    """Return what is wrong with the log, "" without any doubt, and the seconds by which a clock is ahead."""
    row = db.run("SELECT doubt, ahead FROM $.journal_state WHERE partition = %s", (partition,)).fetchone()
    return ("", 0.0) if row is None else (row[0], row[1])


def accept_log(db: PostgresConnection) -> None:
    """Accept the logs of all partitions as they are."""
    db.run("UPDATE $.journal_state SET doubt = '', unheard = NULL")


def accept_clock(db: PostgresConnection) -> None:
    """Accept the present time in all partitions."""
    db.run("UPDATE $.journal_state SET time = greatest(time, $.unix_time()), accepted = $.unix_time(), ahead = 0")
