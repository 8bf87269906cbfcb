"""Databases of cohorts as an older relay left them: `cohorts/CONNECTOR.db`."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

TABLES = """
CREATE TABLE cohort (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL, synced REAL NOT NULL, task TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE member (
    cohort TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (cohort, kind, id)
) WITHOUT ROWID;
CREATE TABLE part (
    cohort TEXT NOT NULL, task TEXT NOT NULL, page INTEGER NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL,
    offset INTEGER NOT NULL, PRIMARY KEY (cohort, task, page, part)
) WITHOUT ROWID;
CREATE TABLE target (cohort TEXT PRIMARY KEY, target TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE told (
    cohort TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (cohort, kind, id)
) WITHOUT ROWID;
CREATE TABLE asked (
    cohort TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (cohort, kind, id)
) WITHOUT ROWID;
CREATE TABLE slug (cohort TEXT PRIMARY KEY, slug TEXT NOT NULL UNIQUE) WITHOUT ROWID;
CREATE TABLE left_out (cohort TEXT PRIMARY KEY, users INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE error (cohort TEXT PRIMARY KEY, count INTEGER NOT NULL, last TEXT NOT NULL) WITHOUT ROWID;
"""


def make_older_database(state: Path, target: str, members: int = 30, connector: str = "braze") -> Path:
    """Make a database with two cohorts, and every table in use: an unfinished full sync, and unanswered requests."""
    path = state / "cohorts" / f"{connector}.db"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    users = [f"user-{number:05}" for number in range(members)]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(TABLES)
        fill(db, "cohort", [("7", "Carts", 1000.0, 2000.0, "task-1"), ("8\0", "8", 1001.0, 1001.0, "")])
        fill(db, "member", [("7", "external_id", user, number) for number, user in enumerate(users)])
        fill(db, "member", [("8\0", "alias:crm", "a\0b", -5), ("8\0", "device_id", "phone", 9)])
        fill(db, "part", [("7", "half", 1, part, 3, 20 + part) for part in (0, 2)])
        fill(db, "target", [("7", target), ("8\0", "https://elsewhere")])
        fill(db, "told", [("7", "external_id", user, 25) for user in users[:3]])
        fill(db, "asked", [("7", "external_id", "stranger", target), ("8\0", "external_id", "ghost", "https://x")])
        fill(db, "slug", [("7", "carts")])
        fill(db, "left_out", [("7", 4)])
        fill(db, "error", [("7", 2, "no such user"), ("new", 1, "no such cohort")])
    return path


def fill(db: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
