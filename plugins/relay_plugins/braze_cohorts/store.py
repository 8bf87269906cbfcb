"""Names and members of cohorts as Braze was told: `cohorts/CONNECTOR.db` in the state folder.

How it fails and recovers: relay writes the database after Braze took a change. After a crash between the two, relay
sends the change again, which alters nothing in Braze: members are a set. relay saves the users of a request before it
sends the request, for an erasure that comes between the two.
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

from relay_plugins.braze_cohorts.change import Change, Member, Portion, make_slug
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
SAVE_ERRORS: Final = """
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
"""Finds cohorts of users, and whether this Braze may have the users there. Another Braze may have a part of them."""
FORGET_ASKED: Final = "DELETE FROM asked WHERE cohort = ? AND kind = ? AND id = ?"
FORGET_MEMBER: Final = "DELETE FROM member WHERE cohort = ? AND kind = ? AND id = ?"
FORGET: Final = (
    FORGET_MEMBER,
    "DELETE FROM told WHERE cohort = ? AND kind = ? AND id = ?",
    FORGET_ASKED,
)
SAVE_ASKED: Final = """
INSERT INTO asked SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]'), ? FROM json_each(?) WHERE true
ON CONFLICT DO UPDATE SET target = excluded.target WHERE asked.target != excluded.target RETURNING kind, id
"""

ADVICE: Final = (
    "if it is damaged, restore it, or move it away and have the source send each membership as a whole (a full sync)"
)


def _start_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="cohorts")


class CohortPlan(NamedTuple):
    """The part of a change that Braze was not told yet."""

    introduce: bool
    """Whether to send the name: the cohort or its name is new, or relay sends everything again."""
    name: str
    """Name of the cohort from now on; empty: its id."""
    created: float
    add: Sequence[Member]
    remove: Sequence[Member]


class CohortStore:
    """Keeps the database of one connector in a thread of its own. Call its methods by `run`."""

    _db: sqlite3.Connection

    def __init__(self, path: Path, target: str) -> None:
        """`target` names the Braze to which the connector sends, and how the connector sends."""
        self._path, self._target = path, target
        self._thread = _start_thread()
        self.before: Final = -1 - crc32(target.encode())
        """An offset before all events. Another target has another offset."""

    async def run(self, work: Callable[[], T]) -> T:
        """Call a function in the thread. Raises sqlite3.Error, OSError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def open(self) -> None:
        """Open the database; create it if it does not exist. Raises OSError with advice."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            self._db = sqlite3.connect(self._path, timeout=BUSY_S)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(files(__package__).joinpath("store.sql").read_text())
            with self._db:  # a database without this table belongs to this target
                self._db.execute("INSERT OR IGNORE INTO target SELECT id, ? FROM cohort", (self._target,))
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}; {ADVICE}") from error

    def count_elsewhere(self) -> int:
        """Count the cohorts that were sent to another Braze, or in another way."""
        (found,) = self._db.execute("SELECT count(*) FROM target WHERE target != ?", (self._target,)).fetchone()
        return int(found)

    def is_elsewhere(self, cohort: str) -> bool:
        """Return whether a cohort was sent to another Braze, or in another way."""
        found = self._db.execute("SELECT target FROM target WHERE cohort = ?", (cohort,)).fetchone()
        return found is not None and found[0] != self._target

    def forget_kind(self, cohort: str, kind: str) -> int:
        """Forget the ids of one kind in a cohort; return their number."""
        with self._db:
            return self._db.execute("DELETE FROM member WHERE cohort = ? AND kind = ?", (cohort, kind)).rowcount

    def find_slug(self, cohort: str, name: str) -> str:
        """Return the cohort's part of its attribute's name. The first call makes the part from a name.

        Of two cohorts with the same name the second has its id in the part as well.
        """
        with self._db:
            found = self._db.execute("SELECT slug FROM slug WHERE cohort = ?", (cohort,)).fetchone()
            if found is None:
                named = self._db.execute("SELECT name FROM cohort WHERE id = ?", (cohort,)).fetchone()
                slug = make_slug(name or (named[0] if named else "")) or make_slug(cohort)
                taken = self._db.execute("SELECT 1 FROM slug WHERE slug = ?", (slug,)).fetchone()
                found = (f"{slug}_{cohort}" if taken or not slug else slug,)
                self._db.execute("INSERT INTO slug VALUES (?, ?)", (cohort, *found))
        return str(found[0])

    def count_crowded(self, most: int) -> int:
        """Count the users who are in more than `most` cohorts."""
        (cohorts,) = self._db.execute("SELECT count(*) FROM cohort").fetchone()
        return int(self._db.execute(CROWDED, (most,)).fetchone()[0]) if cohorts > most else 0

    def save_target(self, cohort: str) -> None:
        """Save that this Braze has all known members of a cohort."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO target VALUES (?, ?)", (cohort, self._target))
            self._db.execute("DELETE FROM told WHERE cohort = ?", (cohort,))

    async def close(self) -> None:
        """Close the database. It can be opened again."""
        await self.run(self._close)
        self._thread.shutdown()
        self._thread = _start_thread()

    def _close(self) -> None:
        if db := vars(self).pop("_db", None):
            db.close()

    def plan(self, change: Change) -> CohortPlan:
        """Return the part of a change that Braze was not told yet."""
        found = self._db.execute("SELECT name, created FROM cohort WHERE id = ?", (change.cohort,)).fetchone()
        name, created = found or (None, time.time())
        told = {Member(*row) for row in self._db.execute(TOLD, (change.cohort, change.offset))}
        given = json.dumps([tuple(member) for member in change.add])
        known = {Member(*row) for row in self._db.execute(KNOWN, (given, change.cohort))}
        add = [member for member in change.add if member not in known]
        if change.resend:
            add += [Member(*row) for row in self._db.execute(MEMBERS, (change.cohort,)) if Member(*row) not in told]
        remove = [member for member in change.remove if member not in told]
        introduce = name is None or change.name not in ("", name) or (change.resend and not told)
        return CohortPlan(introduce, change.name or name or "", created, add, remove)

    def save_name(self, change: Change, created: float) -> None:
        """Save the name of a cohort that Braze has taken. `created` is in Unix seconds."""
        with self._db:
            self._db.execute(
                "INSERT INTO cohort VALUES (?, ?, ?, ?, '') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                (change.cohort, change.title, created, created),
            )
            self._db.execute("INSERT OR IGNORE INTO target VALUES (?, ?)", (change.cohort, self._target))

    def save_sent(self, change: Change, portion: Portion) -> None:
        """Save a portion of a change that Braze has taken."""
        again = [*portion.remove, *(portion.add if change.resend else ())]  # newcomers are members, which `plan` knows
        newcomers = {*change.add}.intersection(portion.add) if change.resend else portion.add
        with self._db:
            self._save_members(change, newcomers)
            self._db.executemany(FORGET_MEMBER, [(change.cohort, *member) for member in portion.remove])
            self._db.executemany(
                "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)",
                [(change.cohort, *member, change.offset) for member in again],
            )
            self._db.executemany(FORGET_ASKED, [(change.cohort, *member) for member in chain(*portion)])

    def save_errors(self, change: Change, errors: Sequence[str]) -> None:
        """Save the errors in the answer to a change; at least one error."""
        with self._db:
            self._db.execute(SAVE_ERRORS, (change.cohort, len(errors), errors[0]))

    def finish_change(self, change: Change) -> Sequence[Member] | None:
        """Save that all users of a change are sent. If the change completes a full sync, return the members that the
        sync has not named; else None."""
        with self._db:
            self._save_members(change, change.add)
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

    def mark_synced(self, change: Change, *, complete: bool, left_out: int) -> None:
        """Save the time of a finished change, and how many users relay left out. `complete`: forget the parts of the
        full sync and of syncs before it."""
        with self._db:
            self._db.execute(LEFT_OUT, (change.cohort, left_out))
            done = (time.time(), change.task, change.cohort)
            self._db.execute("UPDATE cohort SET synced = ?, task = ? WHERE id = ?", done)
            self._db.execute("DELETE FROM told WHERE cohort = ?", (change.cohort,))
            if complete:
                self._db.execute(FORGET_PARTS, {"cohort": change.cohort, "task": change.task})

    def save_asked(self, cohort: str, members: Iterable[Member]) -> Sequence[Member]:
        """Save the users that a request is about to add: Braze may have them even if its answer never comes. Return the
        users that no earlier request saved."""
        with self._db:
            rows = self._db.execute(SAVE_ASKED, (cohort, self._target, json.dumps([*members])))
            return [Member(*row) for row in rows]

    def forget_asked(self, cohort: str, members: Iterable[Member]) -> None:
        """Forget users of a request, because its answer has come."""
        with self._db:
            self._db.executemany(FORGET_ASKED, [(cohort, *member) for member in members])

    def find_cohorts(self, members: Sequence[Member]) -> Mapping[str, Sequence[Member]]:
        """Return the cohorts with a trace of the users, and their users."""
        found = defaultdict[str, list[Member]](list)
        for cohort, member, _ in self._find_traces(members):
            found[cohort].append(member)
        return found

    def find_inside(self, cohort: str, members: Sequence[Member]) -> Sequence[Member]:
        """Return the users that this Braze may have in a cohort."""
        return [member for _, member, here in self._find_traces(members, cohort) if here]

    def list_kinds(self) -> set[str]:
        """Return the kinds of the ids of all members: `alias` for all aliases."""
        rows = self._db.execute("SELECT DISTINCT kind FROM member")
        return {kind.partition(":")[0] for (kind,) in rows}

    def forget(self, cohort: str, members: Sequence[Member]) -> None:
        """Forget every trace of users in a cohort."""
        rows = [(cohort, *member) for member in members]
        with self._db:
            for statement in FORGET:
                self._db.executemany(statement, rows)

    def clean(self) -> bool:
        """Remove forgotten users from the files, and Braze's last error, which may name them. Return False if another
        process was reading the files; then call it again."""
        with self._db:
            self._db.execute("UPDATE error SET last = ''")
        self._db.execute("VACUUM")
        (busy, *_) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _save_members(self, change: Change, members: Iterable[Member]) -> None:
        self._db.executemany(
            "INSERT INTO member VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET offset = max(offset, excluded.offset)",
            [(change.cohort, *member, change.offset) for member in members],
        )

    def _find_traces(self, members: Sequence[Member], cohort: str | None = None) -> Iterable[tuple[str, Member, bool]]:
        """Yield cohorts, users in them, and whether this Braze may have the user there."""
        given = {"members": json.dumps(members), "cohort": cohort, "target": self._target, "before": self.before}
        for found, kind, user, here in self._db.execute(TRACES, given):
            yield found, Member(kind, user), here
