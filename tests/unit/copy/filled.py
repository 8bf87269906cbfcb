"""State folders with something in every table, and all that both sides of a copy must have in common."""

import asyncio
import atexit
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from relay.api import Kind
from relay.config import GivenDsn, JournalSettings
from relay.copy import FIRST_TABLES, TABLES, EmbeddedSide, Side, open_postgres
from relay.journal import write_seen
from relay.state import make_journal_folder, make_worker_folder, write_stores
from relay.state.open_folder import open_both
from relay.store import NUMBERS, Counts, Cursor, JournalLimits, Parked
from tests.postgres import start_shared_server

PATH = Path("journal")
LIMITS = JournalLimits(1 << 30, 3600)
KINDS = [Kind("braze", "users.messages.email.Open"), Kind("braze", "users.messages.email.Click", "id", "at")]
ODD = "caf\u00e9 \0 \U0001f600"
"""Text as ids and answers from outside may have it."""

GIVEN: Mapping[str, Any] = {
    "external_ids": '["a"]', "other_ids": "[]", "digests": "[]", "ranges": "[[1, 2]]", "entries": '["*"]',
    "ahead": "[]", "about": "{}", "outcome": "done", "until": None,
}  # fmt: skip
"""The values of columns that are read as JSON, or have few values."""


def make_state(state: Path, workers: int = 2) -> None:
    """Make a state folder of a relay that has stopped, with rows in every table."""
    shutil.copytree(_fill_once(workers), state)


@cache
def _fill_once(workers: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="relay-filled-"))
    atexit.register(shutil.rmtree, folder)
    with ThreadPoolExecutor(1) as thread:  # without an event loop
        thread.submit(asyncio.run, _fill(folder, workers)).result()
    return folder


async def _fill(state: Path, workers: int) -> None:
    for worker in range(workers):
        for run in range(3):
            await append(state, worker, 40, compress=run == 1)
        await fill_worker(state, worker)
        fill_tables(make_worker_folder(state, worker) / "relay.db", worker)
        write_seen(
            make_worker_folder(state, worker) / "seen",
            [("braze", b"%016d" % n, 1_700_000_000_000_000 + n) for n in range(5)],
        )
        pairs = [("vips", "braze_cohorts", b"\0key", b"\xff\0value"), ("vips", "braze_cohorts", b"k" * 3000, b"")]
        write_stores(make_worker_folder(state, worker), [*pairs, ("vips", "other", b"key", b"other")])
    ids = [("braze", b"%016d" % number, 1_700_000_000_000_000 + number) for number in range(5)]
    write_seen(state / "seen", ids)  # the first worker gets all events of a source that leaves out duplicates


def make_sides(engine: str, folder: Path) -> Iterator[Side]:
    """Yield an empty side of this engine, and close it."""
    if engine == "embedded":
        yield EmbeddedSide(folder, PATH)
        return
    server = start_shared_server()
    with closing(server.make_database(partitions=3)) as database:
        schema = database.schema.strip('"')
        settings = JournalSettings(backend="postgres", dsn=GivenDsn(server.dsn), schema=schema, partitions=3)
        with closing(open_postgres(folder, settings)) as side:
            yield side


async def append(state: Path, worker: int = 0, events: int = 40, *, compress: bool = False) -> int:
    """Start, take events, and stop, which makes a segment; return the head."""
    limits = JournalLimits(1 << 30, 3600, compress=compress)
    folder, journal = make_worker_folder(state, worker), make_journal_folder(state, PATH, worker)
    log, base = open_both(folder, journal, worker, limits, 1 << 20)
    for number in range(events):
        bodies = [b'{"n":%d,"text":"%s"}' % (number, b"x" * 800)] * 7
        await log.append([KINDS[number % 2]] * 7, bodies)
    await base.save({}, log.head)
    await log.close()
    base.close()
    return log.head


async def fill_worker(state: Path, worker: int) -> None:
    """Save what only a state can save consistently: cursors, parked events, cuts."""
    folder, journal = make_worker_folder(state, worker), make_journal_folder(state, PATH, worker)
    log, base = open_both(folder, journal, worker, LIMITS, 1 << 20)
    settled = Cursor(0, 500, [(510, 520)], Counts(delivered=505, filtered=2, parked=3))
    await base.save({"hook": settled, ODD.replace("\0", ""): Cursor(100, 100)}, log.head)
    parked = [
        Parked(
            "braze",
            "hook",
            offset,
            "users.messages.email.Open",
            "refused",
            ODD,
            3,
            b"\0\xff{}",
            status=400,
            answer=ODD,
            key=ODD,
            first=1.5,
            last=2.25,
        )
        for offset in (3, 4, 5)
    ]
    await base.park([*parked, Parked("braze", None, None, None, "unreadable", "no JSON", 0, b"\xff", received=7.125)])
    for part, lines in (("", [b"[[500,507]]", b"![[507,510]]"]), ("again", [b"[[3,4]]"])):
        cuts = base.open_cuts("hook", part)
        cuts.rewrite(lines)
        cuts.close()
    await log.close()
    base.close()


def fill_tables(path: Path, worker: int) -> None:
    """Put two rows of distinct values into each table that is empty."""
    with closing(sqlite3.connect(path)) as db, db:
        for table in (*TABLES, *FIRST_TABLES):
            columns = db.execute(f"PRAGMA table_info({table})").fetchall()
            if not columns or db.execute(f"SELECT count(*) FROM {table}").fetchone() != (0,):
                continue
            for row in range(1 if columns[0][1] == "one" else 2):
                values = [make_value(table, name, kind, row, worker) for _, name, kind, *_ in columns]
                db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)


def make_value(table: str, name: str, kind: str, row: int, worker: int) -> Any:
    """Make a value for a column."""
    if name in ("one", "number"):
        return 1 + row + (worker * NUMBERS if name == "number" else 0)
    if (table, name) == ("parked_removed", "reason"):
        return ("retention", "max_size")[row]
    made = {"TEXT": f"{ODD} {name} {row}", "INTEGER": 10 + row, "REAL": 1_700_000_000.125 + row, "BLOB": b"\0\xff"}
    return GIVEN.get(name, made[kind])


def read_all(side: Side) -> dict[str, object]:
    """Return everything that a side holds: rows of all tables, numbers, and the records of all logs."""
    found: dict[str, object] = {}
    for partition in side.list_partitions():
        for table in (*TABLES, *(() if partition else FIRST_TABLES)):
            columns = side.list_columns(table)
            rows = [dict(zip(columns, row, strict=True)) for row in side.read_rows(partition, table, columns)]
            found[f"{partition} {table}"] = sorted(map(str, rows))
        found[f"{partition} numbers"] = dict(side.read_numbers(partition))
        found[f"{partition} identity"] = side.read_identity(partition)
        found[f"{partition} records"] = [
            record for part in side.list_parts(partition) for record in side.read_part(partition, part.base)
        ]
    return found
