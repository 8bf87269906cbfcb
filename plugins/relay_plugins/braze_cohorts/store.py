"""Of each cohort its name and members as Braze was told: `cohorts/CONNECTOR.db` in the state folder.

How it fails and recovers: it is written after Braze took a change. A crash between the two has the change sent again,
which alters nothing in Braze: members are a set. Whom a request adds is noted before it, for an erasure that comes
between the two.
"""

import asyncio
import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from zlib import crc32

from relay_plugins.braze_cohorts.change import Change, Member, Portion, slug_of
from relay_plugins.braze_cohorts.queries import BUSY_S, MEMBERS

T = TypeVar("T")
KNOWN: Final = """
SELECT member.kind, member.id FROM json_each(?) AS given CROSS JOIN member
WHERE cohort = ? AND member.kind = json_extract(given.value, '$[0]') AND member.id = json_extract(given.value, '$[1]')
"""

TOLD: Final = "SELECT kind, id FROM told WHERE cohort = ? AND offset = ?"
FORGET_PARTS: Final = """
DELETE FROM part WHERE cohort = :cohort AND (
    task = :task OR offset < (SELECT min(offset) FROM part WHERE cohort = :cohort AND task = :task)
)
"""
LEFT_OUT: Final = """
INSERT INTO left_out VALUES (?, ?) ON CONFLICT (cohort) DO UPDATE SET users = users + excluded.users
"""
CROWDED: Final = "SELECT count(*) FROM (SELECT 1 FROM member GROUP BY kind, id HAVING count(*) > ?)"
COMPLAINED: Final = """
INSERT INTO error VALUES (?, ?, ?)
ON CONFLICT (cohort) DO UPDATE SET count = count + excluded.count, last = excluded.last
"""
TRACES: Final = """
SELECT target.cohort, given.kind, given.id, (member.id NOT NULL AND target.target = :target)
    OR told.offset IS :before OR asked.target IS :target
FROM target CROSS JOIN (
    SELECT json_extract(value, '$[0]') AS kind, json_extract(value, '$[1]') AS id FROM json_each(:members)
) AS given
LEFT JOIN member ON member.cohort = target.cohort AND member.kind = given.kind AND member.id = given.id
LEFT JOIN told ON told.cohort = target.cohort AND told.kind = given.kind AND told.id = given.id
LEFT JOIN asked ON asked.cohort = target.cohort AND asked.kind = given.kind AND asked.id = given.id
WHERE target.cohort = coalesce(:cohort, target.cohort) AND coalesce(member.id, told.id, asked.id) NOT NULL
"""
"""Of users in cohorts: whether this Braze may have them there; also of cohorts that are not all brought to it yet."""
ANSWERED: Final = "DELETE FROM asked WHERE cohort = ? AND kind = ? AND id = ?"
GONE: Final = "DELETE FROM member WHERE cohort = ? AND kind = ? AND id = ?"
FORGET: Final = (
    GONE,
    "DELETE FROM told WHERE cohort = ? AND kind = ? AND id = ?",
    ANSWERED,
)
ASKED: Final = """
INSERT INTO asked SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]'), ? FROM json_each(?) WHERE true
ON CONFLICT DO UPDATE SET target = excluded.target WHERE asked.target != excluded.target RETURNING kind, id
"""

ADVICE: Final = (
    "if it is damaged, restore it, or move it away and have the source send each membership as a whole (a full sync)"
)


def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="cohorts")


class CohortPlan(NamedTuple):
    """What Braze was not told yet."""

    introduce: bool
    """The cohort, or its name, is new, or all is told once more."""
    name: str
    """The one it has from now on; empty: its id."""
    created: float
    add: Sequence[Member]
    remove: Sequence[Member]


class CohortStore:
    """The database of one connector, in a thread of its own; use `run` for its methods."""

    _db: sqlite3.Connection

    def __init__(self, path: Path, target: str) -> None:
        """`target` is which Braze is told, and in what way."""
        self._path, self._target = path, target
        self._thread = _thread()
        self.before: Final = -1 - crc32(target.encode())
        """An offset before those of all events; of another target another, for what was told."""

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in the thread. Raises sqlite3.Error, OSError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def open(self) -> None:
        """Open the database, and make it if there is none. Raises OSError with what to do about it."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            self._db = sqlite3.connect(self._path, timeout=BUSY_S)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(files(__package__).joinpath("store.sql").read_text())
            with self._db:  # of a database that is older than this table nobody knows better
                self._db.execute("INSERT OR IGNORE INTO target SELECT id, ? FROM cohort", (self._target,))
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}; {ADVICE}") from error

    def elsewhere(self) -> int:
        """How many cohorts another Braze was told of, or this one in another way."""
        (found,) = self._db.execute("SELECT count(*) FROM target WHERE target != ?", (self._target,)).fetchone()
        return int(found)

    def is_elsewhere(self, cohort: str) -> bool:
        """Whether this is one of them."""
        found = self._db.execute("SELECT target FROM target WHERE cohort = ?", (cohort,)).fetchone()
        return found is not None and found[0] != self._target

    def without(self, cohort: str, kind: str) -> int:
        """Forget the ids of one kind in a cohort; return how many they were."""
        with self._db:
            gone = self._db.execute("DELETE FROM member WHERE cohort = ? AND kind = ?", (cohort, kind))
            return gone.rowcount

    def slug(self, cohort: str, name: str) -> str:
        """The part that the cohort has in the name of its attribute; made of its name when it is asked for first.

        Of two cohorts of one name the second one has its id in it as well."""
        with self._db:
            found = self._db.execute("SELECT slug FROM slug WHERE cohort = ?", (cohort,)).fetchone()
            if found is None:
                named = self._db.execute("SELECT name FROM cohort WHERE id = ?", (cohort,)).fetchone()
                slug = slug_of(name or (named[0] if named else "")) or slug_of(cohort)
                taken = self._db.execute("SELECT 1 FROM slug WHERE slug = ?", (slug,)).fetchone()
                found = (f"{slug}_{cohort}" if taken or not slug else slug,)
                self._db.execute("INSERT INTO slug VALUES (?, ?)", (cohort, *found))
        return str(found[0])

    def crowded(self, most: int) -> int:
        """How many users are in more than so many cohorts."""
        (cohorts,) = self._db.execute("SELECT count(*) FROM cohort").fetchone()
        return int(self._db.execute(CROWDED, (most,)).fetchone()[0]) if cohorts > most else 0

    def arrived(self, cohort: str) -> None:
        """This Braze knows by now all that is known of a cohort."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO target VALUES (?, ?)", (cohort, self._target))
            self._db.execute("DELETE FROM told WHERE cohort = ?", (cohort,))

    async def close(self) -> None:
        """Let go of the database; it may be opened once more."""
        await self.run(self._close)
        self._thread.shutdown()
        self._thread = _thread()

    def _close(self) -> None:
        if db := vars(self).pop("_db", None):
            db.close()

    def plan(self, change: Change) -> CohortPlan:
        """Compare a change with what Braze was told."""
        found = self._db.execute("SELECT name, created FROM cohort WHERE id = ?", (change.cohort,)).fetchone()
        name, created = found or (None, time.time())
        told = {Member(*row) for row in self._db.execute(TOLD, (change.cohort, change.offset))}
        known = self._known(change)
        add = [member for member in change.add if member not in known]
        if change.resend:
            add += [Member(*row) for row in self._db.execute(MEMBERS, (change.cohort,)) if Member(*row) not in told]
        remove = [member for member in change.remove if member not in told]
        introduce = name is None or change.name not in ("", name) or (change.resend and not told)
        return CohortPlan(introduce, change.name or name or "", created, add, remove)

    def introduced(self, change: Change, created: float) -> None:
        """Braze has the cohort under this name."""
        with self._db:
            self._db.execute(
                "INSERT INTO cohort VALUES (?, ?, ?, ?, '') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                (change.cohort, change.title, created, created),
            )
            self._db.execute("INSERT OR IGNORE INTO target VALUES (?, ?)", (change.cohort, self._target))

    def sent(self, change: Change, portion: Portion) -> None:
        """Braze has these changes."""
        again = [*portion.remove, *(portion.add if change.resend else ())]  # newcomers are known as members by now
        newcomers = {*change.add}.intersection(portion.add) if change.resend else portion.add
        with self._db:
            self._put(change, newcomers)
            self._db.executemany(GONE, [(change.cohort, *member) for member in portion.remove])
            self._db.executemany(
                "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)",
                [(change.cohort, *member, change.offset) for member in again],
            )
            self._db.executemany(ANSWERED, [(change.cohort, *member) for member in chain(*portion)])

    def complained(self, change: Change, errors: Sequence[str]) -> None:
        """Braze took a change but for these entries of it."""
        with self._db:
            self._db.execute(COMPLAINED, (change.cohort, len(errors), errors[0]))

    def left(self, change: Change) -> Sequence[Member] | None:
        """Note that a change is through; return who is in none of the changes of a sync that is complete with it, None
        if there is no such sync."""
        with self._db:
            self._put(change, change.add)
            if not change.full:
                return None
            key = (change.cohort, change.task)
            self._db.execute(
                "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)",
                (*key, change.page, change.part, change.parts, change.offset),
            )
            rows = self._db.execute(
                "SELECT page, parts, offset FROM part WHERE cohort = ? AND task = ?", key
            ).fetchall()
        needed = {page: parts for page, parts, _ in rows}
        if len(needed) < change.pages or len(rows) < sum(needed.values()):
            return None
        start = min(offset for _, _, offset in rows)
        left = "SELECT kind, id FROM member WHERE cohort = ? AND offset < ?"
        return [Member(*row) for row in self._db.execute(left, (change.cohort, start))]

    def synced(self, change: Change, *, complete: bool, left_out: int) -> None:
        """The change is through, and with it the sync that it belongs to if that is `complete`; those before it are
        void. Braze cannot find the users who are `left_out`."""
        with self._db:
            self._db.execute(LEFT_OUT, (change.cohort, left_out))
            done = (time.time(), change.task, change.cohort)
            self._db.execute("UPDATE cohort SET synced = ?, task = ? WHERE id = ?", done)
            self._db.execute("DELETE FROM told WHERE cohort = ?", (change.cohort,))
            if complete:
                self._db.execute(FORGET_PARTS, {"cohort": change.cohort, "task": change.task})

    def asked(self, cohort: str, members: Iterable[Member]) -> Sequence[Member]:
        """Note, before a request, whom it adds: Braze may have them even if its answer never comes. Return those who
        were not noted by an earlier one."""
        with self._db:
            rows = self._db.execute(ASKED, (cohort, self._target, json.dumps([*members])))
            return [Member(*row) for row in rows]

    def answered(self, cohort: str, members: Iterable[Member]) -> None:
        """Of these it is certain by now whether Braze has them."""
        with self._db:
            self._db.executemany(ANSWERED, [(cohort, *member) for member in members])

    def where(self, members: Sequence[Member]) -> Mapping[str, Sequence[Member]]:
        """The cohorts of which anything is known that has to do with the users, and which of them these are."""
        found = defaultdict[str, list[Member]](list)
        for cohort, member, _ in self._traces(members):
            found[cohort].append(member)
        return found

    def inside(self, cohort: str, members: Sequence[Member]) -> Sequence[Member]:
        """Which of the users this Braze may have in a cohort."""
        return [member for _, member, here in self._traces(members, cohort) if here]

    def kinds(self) -> set[str]:
        """The kinds of the ids of all members: `alias` for all aliases."""
        rows = self._db.execute("SELECT DISTINCT kind FROM member")
        return {kind.partition(":")[0] for (kind,) in rows}

    def forget(self, cohort: str, members: Sequence[Member]) -> None:
        """Forget that users were ever in a cohort."""
        rows = [(cohort, *member) for member in members]
        with self._db:
            for statement in FORGET:
                self._db.executemany(statement, rows)

    def clean(self) -> bool:
        """Leave nothing in the files of who is forgotten, nor what Braze said last, which may name them; False if
        somebody was reading those, so that it has to be done again."""
        with self._db:
            self._db.execute("UPDATE error SET last = ''")
        self._db.execute("VACUUM")
        (busy, *_) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _known(self, change: Change) -> set[Member]:
        given = json.dumps([tuple(member) for member in change.add])
        return {Member(*row) for row in self._db.execute(KNOWN, (given, change.cohort))}

    def _put(self, change: Change, members: Iterable[Member]) -> None:
        self._db.executemany(
            "INSERT INTO member VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET offset = max(offset, excluded.offset)",
            [(change.cohort, *member, change.offset) for member in members],
        )

    def _traces(self, members: Sequence[Member], cohort: str | None = None) -> Iterable[tuple[str, Member, bool]]:
        given = {"members": json.dumps(members), "cohort": cohort, "target": self._target, "before": self.before}
        for found, kind, one, here in self._db.execute(TRACES, given):
            yield found, Member(kind, one), here
