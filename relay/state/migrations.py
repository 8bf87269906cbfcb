"""The tables of the state database: `schema.sql`, and the steps from an older relay's tables."""

import sqlite3
from importlib.resources import files
from typing import Final

from relay.state.database_file import VERSION
from relay.state.layout import DATABASE
from relay.store import NUMBERS

MIGRATIONS: Final = (
    """
    ALTER TABLE parked RENAME COLUMN parked TO first;
    ALTER TABLE parked ADD COLUMN last REAL NOT NULL DEFAULT 0;
    ALTER TABLE parked ADD COLUMN again REAL;
    ALTER TABLE parked ADD COLUMN id_field TEXT NOT NULL DEFAULT 'id';
    ALTER TABLE parked ADD COLUMN time_field TEXT NOT NULL DEFAULT 'time';
    ALTER TABLE parked ADD COLUMN received REAL NOT NULL DEFAULT 0;
    UPDATE parked SET last = first, received = first;
    """,
    """
    ALTER TABLE parked ADD COLUMN status INTEGER;
    ALTER TABLE parked ADD COLUMN answer TEXT NOT NULL DEFAULT '';
    ALTER TABLE parked ADD COLUMN replay INTEGER;
    ALTER TABLE parked ADD COLUMN key TEXT;
    """,
    """
    CREATE TABLE IF NOT EXISTS erasure ( number INTEGER PRIMARY KEY AUTOINCREMENT, asked REAL NOT NULL, type TEXT,
    source TEXT, offset INTEGER, user_id TEXT, external_ids TEXT NOT NULL, digests TEXT NOT NULL, counted INTEGER
    NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0, changed INTEGER NOT NULL DEFAULT 0, parked INTEGER NOT
    NULL DEFAULT 0, unreadable INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, compacted REAL,
    problem TEXT, done REAL ) STRICT;
    """,
    "ALTER TABLE erasure ADD COLUMN other_ids TEXT NOT NULL DEFAULT '[]';",
    "",  # the totals of parked events were added
    """
    CREATE TABLE journal_state (
        one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL, head INTEGER NOT NULL, time REAL NOT NULL,
        ahead REAL NOT NULL DEFAULT 0, doubt TEXT NOT NULL DEFAULT ''
    ) STRICT;
    INSERT INTO journal_state (one, identity, head, time) VALUES (1, '', 0, 0);
    UPDATE journal_state SET (head, time) = (SELECT head, saved FROM cursor ORDER BY saved DESC, connector LIMIT 1)
    WHERE EXISTS (SELECT 1 FROM cursor);
    """,
    """
    ALTER TABLE journal_state ADD COLUMN unheard INTEGER;
    ALTER TABLE journal_state ADD COLUMN accepted REAL NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE parked_anew (
        number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, connector TEXT, offset INTEGER, type TEXT,
        cause TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
        again REAL, id_field TEXT NOT NULL, time_field TEXT NOT NULL, received REAL NOT NULL, body BLOB NOT NULL,
        status INTEGER, answer TEXT NOT NULL DEFAULT '', replay INTEGER, key TEXT, part INTEGER NOT NULL DEFAULT 0,
        UNIQUE (connector, offset, part)
    ) STRICT;
    INSERT INTO parked_anew
    SELECT number, source, connector, offset, type, cause, reason, attempts, first, last, again, id_field, time_field,
           received, body, status, answer, replay, key, 0
    FROM parked;
    DELETE FROM sqlite_sequence WHERE name = 'parked_anew';
    INSERT INTO sqlite_sequence SELECT 'parked_anew', seq FROM sqlite_sequence WHERE name = 'parked';
    DROP TABLE parked;
    ALTER TABLE parked_anew RENAME TO parked;
    """,
    """
    CREATE TABLE IF NOT EXISTS pause ( connector TEXT PRIMARY KEY, since REAL NOT NULL ) STRICT;
    ALTER TABLE pause ADD COLUMN until REAL;
    """,
    """
    ALTER TABLE cursor ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE IF NOT EXISTS replay (
        number INTEGER PRIMARY KEY AUTOINCREMENT, connector TEXT NOT NULL, start INTEGER NOT NULL,
        stop INTEGER NOT NULL, entries TEXT NOT NULL, rate REAL NOT NULL, asked REAL NOT NULL, position INTEGER NOT
        NULL, ahead TEXT NOT NULL DEFAULT '[]', delivered INTEGER NOT NULL DEFAULT 0, unselected INTEGER NOT NULL
        DEFAULT 0, filtered INTEGER NOT NULL DEFAULT 0, parked INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL
        DEFAULT 0, erased INTEGER NOT NULL DEFAULT 0, saved REAL, ended REAL, cancelled REAL
    ) STRICT;
    ALTER TABLE replay ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0;
    DROP VIEW IF EXISTS ledger;
    """,
    """
    ALTER TABLE replay ADD COLUMN asked_by TEXT NOT NULL DEFAULT '';
    ALTER TABLE erasure ADD COLUMN asked_by TEXT NOT NULL DEFAULT '';
    """,
    "",  # what alerts remember and have to send was added
)
"""The step from each version of the tables to the next."""

_NUMBER_FROM: Final = """
    INSERT INTO sqlite_sequence (name, seq)
    SELECT :table, :number WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :table)
"""


def make_tables(db: sqlite3.Connection, worker: int) -> None:
    """Make the tables of the worker with this number, or update an older relay's tables, all or nothing.

    Raises sqlite3.Error.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise sqlite3.DatabaseError(f"{DATABASE} was written by a newer relay (version {version} of its tables)")
    fresh = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'parked'").fetchone() is None
    steps = "" if fresh else "".join(MIGRATIONS[version:])
    tables = files("relay.state").joinpath("schema.sql").read_text("utf-8")
    db.executescript(f"BEGIN IMMEDIATE; {steps} {tables} PRAGMA user_version = {VERSION}; COMMIT;")
    db.executemany(_NUMBER_FROM, [{"table": table, "number": worker * NUMBERS} for table in ("parked", "replay")])
