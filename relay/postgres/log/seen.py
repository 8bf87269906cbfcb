"""The ids of recent events, by which duplicates are found. Owns the SQL of `seen`.

How it fails and recovers:

- The ids of a block are noted in the transaction that appends the block: both are there, or neither.
- Two processes that bring an id at the same time: one of them notes the id, and the other one waits for that, fails,
  and looks again. The order of ids is the same for all, so nobody waits in a circle.
- Ids older than the window are deleted now and then. If that fails, it is done another time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.api import Kind
from relay.journal import Group, make_id_digest
from relay.postgres.connection import QUICK, PostgresConnection
from relay.store import EventIds

IdKey = tuple[str, bytes]
"""A source, and the digest of an id or subject."""
PORTION: Final = 5000
"""Ids that are deleted at a time."""
_FIND: Final = """
    SELECT source, digest, at FROM $.seen JOIN unnest(%s::text[], %s::bytea[]) AS asked (source, digest)
        USING (source, digest)
    UNION ALL SELECT '', '', $.read_clock()
"""
_FORGET: Final = """
    DELETE FROM $.seen WHERE (source, digest) IN (
        SELECT source, digest FROM $.seen WHERE source = %s AND at < $.read_clock() - %s LIMIT %s FOR UPDATE SKIP LOCKED
    )
"""


@dataclass(slots=True)
class NewEvents:
    """The events of a group that are no duplicates."""

    kinds: list[Kind] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    places: list[int | Sequence[int]] = field(default_factory=list)
    """For each batch with ids the places of its new events; for each other batch the place of its first event here."""
    noted: dict[IdKey, int] = field(default_factory=dict)
    """When the ids and subjects of new events came, in Unix microseconds."""
    seen: Mapping[IdKey, int] = field(default_factory=dict)
    """When ids and subjects of the group came before."""

    def make_values(self) -> list[list[Any]]:
        """Make the arrays by which the database notes the ids: sources, digests, known and new times."""
        keys = [*self.noted]
        known = [self.seen.get(key) for key in keys]
        return [[source for source, _ in keys], [digest for _, digest in keys], known, [*self.noted.values()]]


def find_seen(db: PostgresConnection, asked: Collection[EventIds]) -> tuple[dict[IdKey, int], int]:
    """Find when the ids and subjects came, in Unix microseconds; return that, and the present time. Raises
    psycopg.Error."""
    keys = [*{key for by in asked for key in _list_keys(by)}]
    rows = db.run(_FIND, [[source for source, _ in keys], [digest for _, digest in keys]], binary=True).fetchall()
    return {(source, bytes(digest)): at for source, digest, at in rows[:-1]}, rows[-1][2]


def leave_out(group: Group, seen: Mapping[IdKey, int], now_us: int) -> NewEvents:
    """Leave out the duplicates of a group: events whose ids were seen, or come earlier in the group."""
    found, known = NewEvents(seen=seen), dict(seen)
    starts = [place for place, _ in group.waiting]
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(group.bodies)], strict=True)):
        by = group.ids.get(number)
        if by is None:
            found.places.append(len(found.bodies))
            fresh: Sequence[int] = range(stop - start)
        else:
            fresh = _find_new(by, known, found.noted, now_us + number)
            found.places.append(fresh)
        found.kinds += [group.kinds[start + place] for place in fresh]
        found.bodies += [group.bodies[start + place] for place in fresh]
    return found


def _find_new(by: EventIds, known: dict[IdKey, int], noted: dict[IdKey, int], now_us: int) -> Sequence[int]:
    """Return the places of the new ids; note the ids and the subject in `known` and `noted`."""
    keys = _list_keys(by)
    subject = keys.pop() if by.subject is not None else None
    latest = known.get(subject, -1) if subject is not None else -1
    since, fresh = now_us - round(by.window * 1e6), dict[IdKey, int]()
    for place, key in enumerate(keys):
        came = known.get(key, -1)
        is_seen = came >= since and (subject is None or came == latest)
        if not is_seen:
            fresh.setdefault(key, place)
    if fresh:
        at = max(now_us, latest + 1)  # later than all that came with the subject before
        mine = dict.fromkeys(fresh if subject is None else [*fresh, subject], at)
        known |= mine
        noted |= mine
    return [*fresh.values()]


def _list_keys(by: EventIds) -> list[IdKey]:
    """Return the keys of the ids, and of the subject behind them."""
    names = by.ids if by.subject is None else [*by.ids, by.subject]
    return [(by.source, make_id_digest(one)) for one in names]


def forget_expired(db: PostgresConnection, source: str, window: float) -> bool:
    """Delete some ids of a source older than `window` seconds; return whether more are left. Raises psycopg.Error."""
    with db.transaction_of(begin=QUICK):
        return db.run(_FORGET, [source, round(window * 1e6), PORTION]).rowcount == PORTION


def forget_sources(db: PostgresConnection, but: Collection[str]) -> None:
    """Delete the ids of all sources but these. Raises psycopg.Error."""
    with db.transaction_of(begin=QUICK):
        db.run("DELETE FROM $.seen WHERE source <> ALL(%s)", [[*but]])
