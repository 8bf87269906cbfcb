"""Makes the tables of relay in PostgreSQL, and checks their version.

All of it is one transaction: after a failure nothing has changed. Who makes the tables at the same time waits.
"""

import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from psycopg.errors import LockNotAvailable

from relay.postgres.connection import PostgresConnection, limit_wait
from relay.postgres.error import NO_TABLES
from relay.store import Unavailable
from relay.words import format_count

VERSION: Final = 1
"""The version of the tables. A newer relay adds tables, columns and functions: older relays go on beside it."""
OLDEST: Final = 1
"""The version of the tables that a relay must know at least to work with these."""
UPGRADES: Final[Mapping[int, str]] = {}
"""SQL that makes tables of this version out of tables of the version before, with `$.` for the schema.

An upgrade only adds. A relay of the version before works meanwhile, and goes on: a column has a default.
"""
LOCK_S: Final = 0.2
"""Seconds to wait for a table that relays use: less than the server waits before it looks for a deadlock."""
BUSY_S: Final = 10.0
"""Seconds in which to try again."""
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
    """Make what is lacking of schema, tables, columns and partitions; return a sentence with what was made, or "".

    Raises Unavailable if relay is too old for the tables or there are more partitions, psycopg.Error.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            with db.transaction_of(LOCK + limit_wait(LOCK_S)):
                return _make_lacking(db, partitions)
        except LockNotAvailable:  # relays that work with several tables go first
            if time.monotonic() > deadline:
                raise
            time.sleep(LOCK_S)


def _make_lacking(db: PostgresConnection, partitions: int) -> str:
    if _read_versions(db) is not None:
        return " and ".join(filter(None, (_upgrade(db), add_partitions(db, partitions))))
    has_schema = db.run("SELECT to_regnamespace(%s) IS NOT NULL", [db.schema]).fetchone() == (True,)
    if not has_schema:
        db.run(f"CREATE SCHEMA {db.schema}")
    db.execute(_make_tables_sql(db.schema, partitions).encode())
    (tables,) = db.run(
        "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r'", [db.schema]
    ).fetchone() or (0,)
    made = "" if has_schema else f"the schema {db.schema}, "
    return f"made {made}{format_count(tables, 'table')} and {format_count(partitions, 'partition')}"


def _upgrade(db: PostgresConnection) -> str:
    """Bring tables up to date; return a sentence with what was done, or ""."""
    found = _read_known_version(db)
    if found >= VERSION:
        return ""
    steps = [UPGRADES[version] for version in range(found + 1, VERSION + 1)]
    db.execute(";\n".join(steps).replace("$.", f"{db.schema}.").encode())
    db.run("UPDATE $.cluster SET version = %s, oldest = %s", [VERSION, OLDEST])
    return f"brought the tables from version {found} to {VERSION}"


def check_tables(db: PostgresConnection) -> None:
    """Check that relay can work with the tables. Raises Unavailable, psycopg.Error."""
    found = _read_known_version(db)
    if found < VERSION:
        said = f"the tables are of an older relay (version {found}; this relay needs {VERSION})"
        raise Unavailable(f"{said}: run relay journal init of this relay, and older relays go on meanwhile")


def _read_known_version(db: PostgresConnection) -> int:
    """Return the version of tables. Raises Unavailable if there are none, or a relay must know more of them."""
    versions = _read_versions(db)
    if versions is None:
        where = f"the schema {db.schema} of the database {db.info.dbname} at {db.info.host}"
        raise Unavailable(f"relay's tables are not there, in {where}: {NO_TABLES.advice}", NO_TABLES.reason)
    version, oldest = versions
    if oldest > VERSION:
        said = f"a newer relay has changed the tables (version {oldest}; this relay knows {VERSION})"
        raise Unavailable(f"{said}: install the newer relay here, too")
    return version


def _read_versions(db: PostgresConnection) -> tuple[int, int] | None:
    """Read the version of the tables, and the version that a relay must know at least; None without tables."""
    if db.run("SELECT to_regclass(%s)", [f"{db.schema}.cluster"]).fetchone() == (None,):
        return None
    return db.run("SELECT version, oldest FROM $.cluster").fetchone()


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
