"""Makes the tables of relay in PostgreSQL, and checks their version.

All of it is one transaction: after a failure nothing has changed. Who makes the tables at the same time waits.
"""

from importlib.resources import files
from typing import Final

from relay.postgres.connection import PostgresConnection
from relay.postgres.error import NO_TABLES
from relay.store import Unavailable
from relay.words import format_count

VERSION: Final = 1
"""The version of the tables. A newer relay adds tables, columns and functions: older relays go on beside it."""
OLDEST: Final = 1
"""The version of the tables that a relay must know at least to work with these."""
LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('relay journal init'));"


def make_sql(schema: str, partitions: int, owner: str) -> str:
    """Return the SQL with which an admin of the database makes schema and tables. `schema`, `owner`: names, quoted."""
    return f"""\
-- The tables of relay, version {VERSION}, with {format_count(partitions, "partition")}.
-- Run this once, as a superuser or as a member of {owner} that may make schemas.
-- relay connects as {owner}, which owns the tables: relay makes, rewrites and drops tables.
BEGIN;
CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {owner};
SET LOCAL ROLE {owner};
{_make_tables_sql(schema, partitions)}
COMMIT;
"""


def make_tables(db: PostgresConnection, partitions: int) -> str:
    """Make what is lacking of schema, tables and partitions; return a sentence with what was made, or "".

    Raises Unavailable if relay is too old for the tables or there are more partitions, psycopg.Error.
    """
    with db.transaction_of(LOCK):
        version = read_version(db)
        if version is not None:
            check_version(version)
            return add_partitions(db, partitions)
        has_schema = db.run("SELECT to_regnamespace(%s) IS NOT NULL", [db.schema]).fetchone() == (True,)
        if not has_schema:
            db.run(f"CREATE SCHEMA {db.schema}")
        db.execute(_make_tables_sql(db.schema, partitions).encode())
        (tables,) = db.run(
            "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r'", [db.schema]
        ).fetchone() or (0,)
    made = "" if has_schema else f"the schema {db.schema}, "
    return f"made {made}{format_count(tables, 'table')} and {format_count(partitions, 'partition')}"


def read_version(db: PostgresConnection) -> int | None:
    """Return the version of the tables that a relay must know at least; None without tables. Raises psycopg.Error."""
    if db.run("SELECT to_regclass(%s)", [f"{db.schema}.cluster"]).fetchone() == (None,):
        return None
    row = db.run("SELECT oldest FROM $.cluster").fetchone()
    return None if row is None else int(row[0])


def check_version(version: int | None) -> None:
    """Raise Unavailable if relay does not know tables of this version, which it must know."""
    if version is None:
        raise Unavailable(NO_TABLES.advice, NO_TABLES.reason)
    if version > VERSION:
        said = f"a newer relay has changed the tables (version {version}; this relay knows {VERSION})"
        raise Unavailable(f"{said}: install the newer relay here, too")


def check_partitions(db: PostgresConnection, partitions: int) -> int:
    """Return the number of partitions that exist. Raises Unavailable if more exist than `partitions`, the setting."""
    (found,) = db.run("SELECT count(*) FROM $.partition").fetchone() or (0,)
    if found > partitions:
        said = f"journal.partitions is {partitions}, and {format_count(found, 'partition')} exist"
        raise Unavailable(f"{said}: set partitions = {found}, for the number never shrinks")
    return int(found)


def add_partitions(db: PostgresConnection, wanted: int) -> str:
    """Add the lacking partitions; return a sentence with what was made, or ""."""
    more = wanted - check_partitions(db, wanted)
    if not more:
        return ""
    db.run("SELECT $.add_partitions(%s)", [wanted])
    return f"made {format_count(more, 'more partition')}: there are {wanted}"


def _make_tables_sql(schema: str, partitions: int) -> str:
    tables = files("relay.postgres").joinpath("schema.sql").read_text("utf-8")
    cluster = f"INSERT INTO $.cluster (version, oldest) VALUES ({VERSION}, {OLDEST});"  # noqa: S608
    return f"{tables}\n{cluster}\nSELECT $.add_partitions({partitions});".replace("$.", f"{schema}.")
