"""Makes the tables of relay in PostgreSQL, and checks their version."""

from importlib.resources import files
from typing import Final

from relay.postgres.connection import PostgresConnection
from relay.store import Unavailable

VERSION: Final = 1
"""The version of the tables."""


def make_sql(schema: str, partitions: int) -> str:
    """Return the SQL that makes schema and tables. `schema`: its name, quoted."""
    tables = files("relay.postgres").joinpath("schema.sql").read_text("utf-8")
    cluster = f"INSERT INTO $.cluster (version) VALUES ({VERSION}); SELECT $.add_partitions({partitions});"  # noqa: S608
    made = f"BEGIN;\nCREATE SCHEMA IF NOT EXISTS {schema};\n{tables}\n{cluster}\nCOMMIT;\n"
    return made.replace("$.", f"{schema}.")


def make_tables(db: PostgresConnection, partitions: int) -> bool:
    """Make schema and tables with so many partitions; return False if they are there.

    Raises Unavailable if a newer relay has made them, psycopg.Error.
    """
    if (version := read_version(db)) is not None:
        check_version(version)
        return False
    db.execute(make_sql(db.schema, partitions).encode())
    return True


def read_version(db: PostgresConnection) -> int | None:
    """Return the version of the tables; None without tables. Raises psycopg.Error."""
    if db.run("SELECT to_regclass(%s)", [f"{db.schema}.cluster"]).fetchone() == (None,):
        return None
    row = db.run("SELECT version FROM $.cluster").fetchone()
    return None if row is None else int(row[0])


def check_version(version: int | None) -> None:
    """Raise Unavailable if relay cannot work with tables of this version."""
    if version is None:
        raise Unavailable("relay's tables are not there: relay journal init makes them", "missing")
    if version > VERSION:
        raise Unavailable(f"a newer relay has made the tables (version {version}; this relay knows {VERSION})")
