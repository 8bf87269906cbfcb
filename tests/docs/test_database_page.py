"""The page of the database has every table, view and column that relay makes."""

import sqlite3
from contextlib import closing

import pytest

from tests.docs.generate.database import schema, tables

TABLE = """
-- What is remembered.
CREATE TABLE IF NOT EXISTS one (
    name TEXT PRIMARY KEY,  -- its name
    size INTEGER{comment}
) STRICT;
"""


def test_every_column_of_the_database_is_described() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema())
        kinds = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        made = {
            name: [column for _, column, *_ in db.execute(f"PRAGMA table_info({name})")]
            for (name,) in db.execute(kinds).fetchall()
        }
    assert {one.name: [column.name for column in one.columns] for one in tables(schema())} == made


def test_a_column_says_its_type_and_meaning() -> None:
    (one,) = tables(TABLE.format(comment="  -- in bytes"))
    assert (one.about, one.columns) == (
        "What is remembered.",
        [("name", "TEXT", "its name"), ("size", "INTEGER or NULL", "in bytes")],
    )


def test_a_column_or_a_table_without_a_comment_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"one\.size has no comment"):
        tables(TABLE.format(comment=""))
    with pytest.raises(LookupError, match="one has no comment above it"):
        tables(TABLE.format(comment="  -- in bytes").replace("-- What is remembered.", ""))
