"""Unreadable events, until an admin accepts the damage: the table `damage`."""

from collections.abc import Iterable

from msgspec.structs import astuple

from relay.postgres.connection import PostgresConnection
from relay.store import Damage


def save_damage(db: PostgresConnection, partition: int, found: Iterable[Damage]) -> None:
    """Save damage. Known damage stays as it is, accepted or not."""
    query = """
        INSERT INTO $.damage (partition, start, stop, file, reason, saved, met)
        VALUES (%s, %s, %s, %s, %s, %s, $.unix_time()) ON CONFLICT DO NOTHING
    """
    db.run_many(query, [(partition, *astuple(one)) for one in found])


def read_damage(db: PostgresConnection, partition: int) -> list[Damage]:
    """Return the damage that no admin has accepted."""
    query = """
        SELECT start, stop, file, reason, saved FROM $.damage WHERE partition = %s AND accepted IS NULL ORDER BY start
    """
    return [Damage(*row) for row in db.run(query, (partition,))]


def was_damaged(db: PostgresConnection, partition: int, offset: int) -> bool:
    """Return whether an event was ever unreadable, accepted or not."""
    query = "SELECT 1 FROM $.damage WHERE partition = %s AND start <= %s AND stop > %s"
    return db.run(query, (partition, offset, offset)).fetchone() is not None


def accept_damage(db: PostgresConnection) -> None:
    """Mark all damage in all partitions as accepted."""
    db.run("UPDATE $.damage SET accepted = $.unix_time() WHERE accepted IS NULL")
