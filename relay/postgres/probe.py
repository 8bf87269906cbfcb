"""Looks at a database as relay would use it: server, role, tables, grants, durability, and what slows it down.

It changes nothing. The first thing that is wrong in the connection ends it: everything else would fail for the same
reason.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Literal

from relay.config import JournalSettings
from relay.postgres.cluster import Cluster, check_bar
from relay.postgres.connection import Database, PostgresConnection
from relay.postgres.durability import check_durable, read_durability
from relay.postgres.known_cluster import KnownCluster
from relay.postgres.nodes import check_name
from relay.postgres.schema import check_partitions, check_tables
from relay.postgres.snapshots import LONG_S, find_long_snapshots
from relay.store import StoreHealth, Unavailable
from relay.words import format_count, format_span

OLDEST: Final = 14
"""The oldest version of PostgreSQL that relay works with."""
ROUND_TRIPS: Final = 5
STANDBYS: Final = "start the standbys, or change synchronous_standby_names"
ENDING: Final = "end it, for the server keeps dead rows for it, and every update gets slower"


@dataclass(frozen=True, slots=True)
class Observation:
    """What was found of a database, with advice if something is wrong."""

    level: Literal["ok", "warning", "problem"]
    about: str
    said: str
    advice: str = ""
    setting: str = "dsn"
    """The setting of [journal] to look at."""


def observe(
    database: Database, settings: JournalSettings, folder: Path | None = None, runs: int | None = None
) -> Iterator[Observation]:
    """Yield what is found. Raises Unavailable if the server does not answer.

    `folder`: the state folder of a node, to look for what its start would refuse. `runs`: the process of its
    relay, if that runs; 0 if it is unknown.
    """
    with database.use() as db:
        yield _observe_server(db)
        try:
            check_tables(db)
            check_bar(db)
        except Unavailable as error:
            yield _make_problem("tables", error, "schema")
        else:
            yield _observe_tables(db, settings.partitions)
            yield _observe_processes(db, settings.partitions)
            if folder is not None:
                yield from _observe_start(db, settings.node_name, KnownCluster(Cluster(database), folder), runs)
        yield _observe_grants(db)
        yield from _observe_durability(db)
        yield from _observe_snapshots(db)


def _make_problem(about: str, error: Unavailable, setting: str = "dsn") -> Observation:
    """Make an observation of an error that says what to do behind a colon."""
    said, _, advice = str(error).rpartition(": ")
    return Observation("problem", about, said, advice, setting)


def _observe_server(db: PostgresConnection) -> Observation:
    times = []
    for _ in range(ROUND_TRIPS):
        begin = time.perf_counter()
        db.run("SELECT 1")
        times.append(time.perf_counter() - begin)
    row = db.run("SELECT current_setting('server_version'), current_user, pg_is_in_recovery()").fetchone()
    version, role, is_standby = row or ("", "", False)
    said = f"PostgreSQL {version}, role {role}, round trip {median(times) * 1000:.1f} ms"
    if db.info.server_version // 10000 < OLDEST:
        return Observation("problem", "server", said, f"relay needs PostgreSQL {OLDEST} or newer")
    if is_standby:
        advice = "name the primary in journal.dsn, or all servers with target_session_attrs=read-write"
        return Observation("problem", "server", f"{said}; it is a standby, and takes no events", advice)
    return Observation("ok", "server", said)


def _observe_tables(db: PostgresConnection, partitions: int) -> Observation:
    try:
        found = check_partitions(db, partitions)
    except Unavailable as error:
        return _make_problem("partitions", error, "partitions")
    (cluster,) = db.run("SELECT id FROM $.cluster").fetchone() or ("",)
    said = f"{format_count(found, 'partition')} of the cluster {cluster}"
    if found < partitions:
        return Observation("ok", "tables", f"{said}; the next start makes {partitions - found} more")
    return Observation("ok", "tables", said)


def _observe_processes(db: PostgresConnection, partitions: int) -> Observation:
    """Count the processes of all nodes that run, and notice more of them than partitions."""
    row = db.run("SELECT count(*), count(DISTINCT node) FROM $.node WHERE until > clock_timestamp()").fetchone()
    processes, nodes = row or (0, 0)
    said = f"{format_count(processes, 'worker')} of {format_count(nodes, 'node')}"
    if processes > partitions:
        idle = f"{said} share journal.partitions = {partitions}: {processes - partitions} of them deliver nothing"
        return Observation("warning", "nodes", idle, "raise journal.partitions, or have fewer workers", "partitions")
    return Observation("ok", "nodes", said if processes else "none runs")


def _observe_start(db: PostgresConnection, node: str, known: KnownCluster, runs: int | None) -> Iterator[Observation]:
    """Notice that a node would not start: for another cluster, or for a relay that has its name."""
    try:
        known.check()
    except Unavailable as error:
        yield _make_problem("cluster", error)
    try:
        check_name(db, node, runs)
    except Unavailable as error:
        yield _make_problem("node", error, "node")


def _observe_grants(db: PostgresConnection) -> Observation:
    """Notice what the role may not do. Relay makes tables and drops them: it has to own what is there."""
    row = db.run(
        """
        SELECT to_regnamespace(%(schema)s) IS NOT NULL,
               has_database_privilege(current_database(), 'CREATE'),
               has_schema_privilege(to_regnamespace(%(schema)s), 'USAGE')
                   AND has_schema_privilege(to_regnamespace(%(schema)s), 'CREATE'),
               ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(%(schema)s)
                     AND relkind IN ('r', 'S', 'v') AND NOT pg_has_role(relowner, 'USAGE') ORDER BY 1)
        """,
        {"schema": db.schema},
    ).fetchone()
    has_schema, may_make, may_use, others = row or (False, False, False, [])
    if not has_schema and not may_make:
        said = f"the role may not make the schema {db.schema}"
        return Observation(
            "problem", "grants", said, "an admin of the database runs what relay journal init --sql prints"
        )
    if has_schema and not may_use:
        said = f"the role may not use the schema {db.schema} and make tables in it"
        return Observation("problem", "grants", said, f"GRANT USAGE, CREATE ON SCHEMA {db.schema} TO the role")
    if others:
        said = f"the role does not own {', '.join(others[:3])}{' and others' if others[3:] else ''}"
        return Observation(
            "problem", "grants", said, "ALTER TABLE ... OWNER TO the role: relay rewrites and drops tables"
        )
    what = f"use the schema {db.schema}, and owns its tables" if has_schema else f"make the schema {db.schema}"
    return Observation("ok", "grants", f"the role may {what}")


def read_health(db: PostgresConnection) -> StoreHealth:
    """Read how safe acknowledged events are, and what endangers or slows down the database. Raises psycopg.Error."""
    durability = read_durability(db)
    problems = [*_find_bar(db)]
    problems += [f"an acknowledged event is {durability}: {STANDBYS}"] if durability.is_stuck else []
    snapshots = [f"{one}: {ENDING}" for one in find_long_snapshots(db)]
    return StoreHealth(str(durability), [*problems, *snapshots], durability.counts, len(snapshots))


def _find_bar(db: PostgresConnection) -> Iterator[str]:
    try:
        check_bar(db)
    except Unavailable as error:
        yield str(error)


def _observe_durability(db: PostgresConnection) -> Iterator[Observation]:
    try:
        check_durable(db)
    except Unavailable as error:
        yield _make_problem("durability", error)
    found = read_durability(db)
    if found.is_stuck:
        yield Observation("problem", "durability", str(found), STANDBYS)
    else:
        yield Observation("ok", "durability", f"an acknowledged event is {found}")


def _observe_snapshots(db: PostgresConnection) -> Iterator[Observation]:
    found = [*find_long_snapshots(db)]
    for one in found:
        yield Observation("warning", "snapshots", str(one), ENDING)
    row = db.run("SELECT pg_has_role('pg_read_all_stats', 'USAGE')").fetchone()
    if row == (False,):
        advice = "GRANT pg_read_all_stats TO the role, and relay sees those of others"
        yield Observation("ok", "snapshots", "relay sees only the sessions of its own role", advice)
    elif not found:
        yield Observation("ok", "snapshots", f"none is held for more than {format_span(LONG_S)}")
