"""What alerts remember and have to send: the tables `alert_track` and `alert_message`."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

from msgspec.structs import astuple

from relay.state.database_file import connect, convert_errors
from relay.store import MESSAGE_COLUMNS, MESSAGES_KEPT, AlertMessage, Tracks, Wanted


class FolderAlerts:
    """The memory and the messages of alerts in a state folder: in the first worker's database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @convert_errors()
    def read(self, names: Collection[str]) -> tuple[dict[str, Tracks], list[AlertMessage]]:
        with closing(connect(self._folder, "ro")) as db:
            tracks: dict[str, dict[tuple[str, str], str]] = {name: {} for name in names}
            for alert, subject, family, track in db.execute("SELECT alert, subject, family, track FROM alert_track"):
                if alert in tracks:
                    tracks[alert][subject, family] = track
            columns = ", ".join(MESSAGE_COLUMNS)
            rows = db.execute(f"SELECT {columns} FROM alert_message ORDER BY number").fetchall()  # noqa: S608
        return {**tracks}, [one for one in (AlertMessage(*row) for row in rows) if one.alert in names]

    @convert_errors()
    def save_tracks(self, alert: str, tracks: Tracks, messages: Sequence[AlertMessage]) -> None:
        rows = [(alert, subject, family, track) for (subject, family), track in tracks.items()]
        with closing(connect(self._folder, "rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM alert_track WHERE alert = ?", (alert,))
            db.executemany("INSERT INTO alert_track (alert, subject, family, track) VALUES (?, ?, ?, ?)", rows)
            _save_messages(db, messages)
            db.execute("COMMIT")

    @convert_errors()
    def save_message(self, message: AlertMessage) -> None:
        with closing(connect(self._folder, "rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            _save_messages(db, [message])
            db.execute(
                "DELETE FROM alert_message WHERE alert = :alert AND coalesce(sent, given_up) IS NOT NULL "
                "AND number <= (SELECT number FROM alert_message "
                "WHERE alert = :alert AND coalesce(sent, given_up) IS NOT NULL "
                "ORDER BY number DESC LIMIT 1 OFFSET :kept)",
                {"alert": message.alert, "kept": MESSAGES_KEPT},
            )
            db.execute("COMMIT")

    @convert_errors()
    def forget(self, kept: Collection[str]) -> None:
        names = json.dumps([*kept])
        with closing(connect(self._folder, "rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            for table in ("alert_track", "alert_message"):
                query = f"DELETE FROM {table} WHERE alert NOT IN (SELECT value FROM json_each(?))"  # noqa: S608
                db.execute(query, (names,))
            db.execute("COMMIT")


def _save_messages(db: sqlite3.Connection, messages: Sequence[AlertMessage]) -> None:
    columns, marks = ", ".join(MESSAGE_COLUMNS), ", ".join("?" * len(MESSAGE_COLUMNS))
    changed = ", ".join(f"{name} = excluded.{name}" for name in ("attempts", "last", "problem", "sent", "given_up"))
    db.executemany(
        f"INSERT INTO alert_message ({columns}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changed}",  # noqa: S608
        [astuple(one) for one in messages],
    )


def hide_users(db: sqlite3.Connection, wanted: Wanted) -> None:
    """Put "..." for every id of these users in the messages of alerts. Part of a transaction.

    Messages repeat answers of destinations, which may name users.
    """
    rows = db.execute("SELECT message, problem, number FROM alert_message").fetchall()
    hidden = [(wanted.hide_in_json(message), wanted.hide(problem), number) for message, problem, number in rows]
    changed = [after for before, after in zip(rows, hidden, strict=True) if before != after]
    db.executemany("UPDATE alert_message SET message = ?, problem = ? WHERE number = ?", changed)
