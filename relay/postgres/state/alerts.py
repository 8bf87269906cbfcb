"""What alerts remember and have to send: the tables `alert_track` and `alert_message`, for the whole cluster."""

from collections.abc import Collection, Sequence
from typing import Final

from msgspec.structs import astuple

from relay.postgres.cluster import Cluster
from relay.postgres.connection import PostgresConnection
from relay.store import MESSAGE_COLUMNS, MESSAGES_KEPT, AlertMessage, Tracks, Wanted

_COLUMNS: Final = ", ".join(MESSAGE_COLUMNS)
_SAVE: Final = f"""
    INSERT INTO $.alert_message ({_COLUMNS}) VALUES ({", ".join(["%s"] * len(MESSAGE_COLUMNS))})
    ON CONFLICT (id) DO UPDATE SET attempts = excluded.attempts, last = excluded.last, problem = excluded.problem,
    sent = excluded.sent, given_up = excluded.given_up
"""  # noqa: S608
_DONE: Final = "alert = %(alert)s AND coalesce(sent, given_up) IS NOT NULL"
_TOO_MANY: Final = f"""
    DELETE FROM $.alert_message WHERE {_DONE} AND number <= (
        SELECT number FROM $.alert_message WHERE {_DONE} ORDER BY number DESC LIMIT 1 OFFSET %(kept)s
    )
"""  # noqa: S608


class ClusterAlerts:
    """The memory and the messages of alerts of a cluster. See `relay.store.StoredAlerts`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def read(self, names: Collection[str]) -> tuple[dict[str, Tracks], list[AlertMessage]]:
        tracks: dict[str, dict[tuple[str, str], str]] = {name: {} for name in names}
        among = [*names]
        with self._cluster.use() as db:
            query = "SELECT alert, subject, family, track FROM $.alert_track WHERE alert = ANY(%s)"
            for alert, subject, family, track in db.run(query, (among,)):
                tracks[alert][subject, family] = track
            query = f"SELECT {_COLUMNS} FROM $.alert_message WHERE alert = ANY(%s) ORDER BY number"  # noqa: S608
            messages = [AlertMessage(*row) for row in db.run(query, (among,))]
        return {**tracks}, messages

    def save_tracks(self, alert: str, tracks: Tracks, messages: Sequence[AlertMessage]) -> None:
        query = "INSERT INTO $.alert_track (alert, subject, family, track) VALUES (%s, %s, %s, %s)"
        with self._cluster.use() as db, db.transaction_of():
            db.run("DELETE FROM $.alert_track WHERE alert = %s", (alert,))
            db.run_many(query, [(alert, *which, track) for which, track in tracks.items()])
            db.run_many(_SAVE, [*map(astuple, messages)])

    def save_message(self, message: AlertMessage) -> None:
        with self._cluster.use() as db, db.transaction_of():
            db.run(_SAVE, astuple(message))
            db.run(_TOO_MANY, {"alert": message.alert, "kept": MESSAGES_KEPT})

    def forget(self, kept: Collection[str]) -> None:
        with self._cluster.use() as db, db.transaction_of():
            db.run("DELETE FROM $.alert_track WHERE alert != ALL(%s)", ([*kept],))
            db.run("DELETE FROM $.alert_message WHERE alert != ALL(%s)", ([*kept],))


def hide_users(db: PostgresConnection, wanted: Wanted) -> None:
    """Put "..." for every id of these users in the messages of alerts. Part of a transaction.

    Messages repeat answers of destinations, which may name users.
    """
    for message, problem, number in db.run("SELECT message, problem, number FROM $.alert_message").fetchall():
        hidden = wanted.hide_in_json(message), wanted.hide(problem)
        if hidden != (message, problem):
            db.run("UPDATE $.alert_message SET message = %s, problem = %s WHERE number = %s", (*hidden, number))
