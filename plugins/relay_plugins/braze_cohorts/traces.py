"""What the database knows of single users, for their erasure: where Braze may have them, and how they are forgotten."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from zlib import crc32

from relay_plugins.braze_cohorts.change import Member

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


class Traces:
    """Users in the database of one connector, by all kinds of ids."""

    _db: sqlite3.Connection

    def __init__(self, target: str) -> None:
        self._target = target
        self.before: Final = -1 - crc32(target.encode())
        """An offset before those of all events; of another target another, for what was told."""

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

    def _traces(self, members: Sequence[Member], cohort: str | None = None) -> Iterable[tuple[str, Member, bool]]:
        given = {"members": json.dumps(members), "cohort": cohort, "target": self._target, "before": self.before}
        for found, kind, one, here in self._db.execute(TRACES, given):
            yield found, Member(kind, one), here
