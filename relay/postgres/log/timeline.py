"""The timeline of the server, and what processes tell when it has changed. See `known_ends`."""

from collections.abc import Mapping
from uuid import UUID

from relay.postgres.connection import PostgresConnection


def read_timeline(db: PostgresConnection) -> str:
    """Return the timeline of the server. Raises psycopg.Error."""
    ((timeline,),) = db.run("SELECT $.read_timeline()").fetchall()
    return str(timeline)


def testify(db: PostgresConnection, instance: UUID, ends: Mapping[int, int]) -> None:
    """Tell the other processes how far this process knows the logs. Raises psycopg.Error."""
    with db.transaction_of():
        db.run("SELECT $.testify(%s, %s::integer[], %s::bigint[])", [instance, [*ends], [*ends.values()]])
