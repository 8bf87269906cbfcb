"""What alerts remember and what they have to send, in the database of the first worker.

The functions here work whether relay runs or not; only the process that sends alerts changes anything. They raise
FileNotFoundError (no relay has run there), sqlite3.Error.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

from relay.journal import Wanted
from relay.state.database_file import connect

KEPT: Final = 20
"""Messages of each alert that stay when they are sent or given up."""


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """A message of an alert, sent or not. Times are Unix seconds."""

    id: str
    alert: str
    made: float
    message: str
    """JSON, as `relay.api.Message.data` has it."""
    attempts: int = 0
    last: float | None = None
    """When it was last tried."""
    problem: str = ""
    """Why that failed."""
    sent: float | None = None
    given_up: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is still to be sent."""
        return self.sent is None and self.given_up is None


COLUMNS: Final = ", ".join(field.name for field in fields(AlertMessage))
Tracks = Mapping[tuple[str, str], str]
"""What an alert remembers, as JSON, by subject and family."""


def read_alerts(folder: Path, names: Collection[str]) -> tuple[dict[str, Tracks], list[AlertMessage]]:
    """What the alerts of these names remember, and their messages in the order in which they were made."""
    with closing(connect(folder, "ro")) as db:
        tracks: dict[str, dict[tuple[str, str], str]] = {name: {} for name in names}
        for alert, subject, family, track in db.execute("SELECT alert, subject, family, track FROM alert_track"):
            if alert in tracks:
                tracks[alert][subject, family] = track
        rows = db.execute(f"SELECT {COLUMNS} FROM alert_message ORDER BY number").fetchall()  # noqa: S608
    return {**tracks}, [one for one in (AlertMessage(*row) for row in rows) if one.alert in names]


def save_tracks(folder: Path, alert: str, tracks: Tracks, messages: Sequence[AlertMessage]) -> None:
    """Save what an alert remembers together with the messages that were made of it, all or nothing."""
    rows = [(alert, subject, family, track) for (subject, family), track in tracks.items()]
    with closing(connect(folder, "rw")) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM alert_track WHERE alert = ?", (alert,))
        db.executemany("INSERT INTO alert_track (alert, subject, family, track) VALUES (?, ?, ?, ?)", rows)
        _save(db, messages)
        db.execute("COMMIT")


def save_message(folder: Path, message: AlertMessage) -> None:
    """Save what has become of a message; of those that need not be sent any more the last KEPT stay."""
    with closing(connect(folder, "rw")) as db:
        db.execute("BEGIN IMMEDIATE")
        _save(db, [message])
        db.execute(
            "DELETE FROM alert_message WHERE alert = ?1 AND coalesce(sent, given_up) IS NOT NULL AND number <= ("
            "SELECT number FROM alert_message WHERE alert = ?1 AND coalesce(sent, given_up) IS NOT NULL "
            "ORDER BY number DESC LIMIT 1 OFFSET ?2)",
            (message.alert, KEPT),
        )
        db.execute("COMMIT")


def forget_alerts(folder: Path, kept: Collection[str]) -> None:
    """Forget what alerts remember and have to send that are none of these."""
    names = json.dumps([*kept])
    with closing(connect(folder, "rw")) as db:
        db.execute("BEGIN IMMEDIATE")
        for table in ("alert_track", "alert_message"):
            query = f"DELETE FROM {table} WHERE alert NOT IN (SELECT value FROM json_each(?))"  # noqa: S608
            db.execute(query, (names,))
        db.execute("COMMIT")


def _save(db: sqlite3.Connection, messages: Sequence[AlertMessage]) -> None:
    marks = ", ".join("?" * len(fields(AlertMessage)))
    changed = ", ".join(f"{name} = excluded.{name}" for name in ("attempts", "last", "problem", "sent", "given_up"))
    db.executemany(
        f"INSERT INTO alert_message ({COLUMNS}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {changed}",  # noqa: S608
        [astuple(one) for one in messages],
    )


def hide_users(db: sqlite3.Connection, wanted: Wanted) -> None:
    """Put "..." for every id of these users in the messages of alerts: the answers of destinations may name them. A
    part of a transaction."""
    for number, message, problem in db.execute("SELECT number, message, problem FROM alert_message").fetchall():
        before = json.loads(message)
        after, hidden = wanted.hide_in(before), wanted.hide(problem)
        if (before, problem) != (after, hidden):
            text = json.dumps(after, ensure_ascii=False)
            db.execute("UPDATE alert_message SET message = ?, problem = ? WHERE number = ?", (text, hidden, number))
