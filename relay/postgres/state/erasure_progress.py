"""The progress of erasures in one partition, as the holder of its lease writes it: requests, counts, answers, receipts.

The tables are `erasure` and `erasure_answer`, and `identity` and `watch`. Holders of other partitions write an
erasure's ids, too (`share_erasures`). So whoever changes a row by what the row says locks the row first.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from relay.api import User
from relay.postgres.connection import PostgresConnection
from relay.postgres.state.erasure_queries import add_erasure, add_everywhere, read_erasures
from relay.store import ConnectorAnswer, Erasure, encode_ids, find_same, merge_users

_LOCK: Final = """
    SELECT FROM $.erasure WHERE partition = ANY(%s) AND number = ANY(%s) ORDER BY partition, number FOR UPDATE
"""
_AGAIN: Final = """
    UPDATE $.erasure
    SET user_id = %s, external_ids = %s, other_ids = %s, digests = %s, compacted = NULL, done = NULL, counted = 0
    WHERE partition = %s AND number = %s
"""
_FORGET_DONE: Final = """
    DELETE FROM $.erasure_answer WHERE partition = %s AND number = %s AND outcome IN ('done', 'skipped')
"""
_ANSWERED: Final = """
    INSERT INTO $.erasure_answer AS known VALUES (%s, %s, %s, %s, %s, 1, $.unix_time())
    ON CONFLICT (partition, number, connector) DO UPDATE
    SET outcome = excluded.outcome, reason = excluded.reason, attempts = known.attempts + 1, at = excluded.at
"""
_KNOWN: Final = """
    INSERT INTO $.identity SELECT %(partition)s, %(user)s, %(id)s WHERE NOT EXISTS (
        SELECT FROM $.identity
        WHERE partition = %(partition)s AND left(user_id, 200) = left(%(user)s, 200)
        AND user_id = %(user)s AND external_id = %(id)s
    )
"""
_FORGET_PAIRS: Final = """
    DELETE FROM $.identity WHERE partition = %(partition)s AND (
        left(user_id, 200) IN (SELECT left(one, 200) FROM unnest(%(users)s::text[]) AS one)
        AND user_id = ANY(%(users)s::text[])
        OR left(external_id, 200) IN (SELECT left(one, 200) FROM unnest(%(ids)s::text[]) AS one)
        AND external_id = ANY(%(ids)s::text[])
    )
"""
"""Deletes the identities of user ids, and those that name one of the external ids."""


def read_watch_position(db: PostgresConnection, partition: int) -> int | None:
    """Return the offset up to which the log was searched; None: it never was."""
    row = db.run("SELECT position FROM $.watch WHERE partition = %s", (partition,)).fetchone()
    return None if row is None else int(row[0])


def save_watch(
    db: PostgresConnection, partition: int, position: int, asked: Iterable[Erasure], known: Iterable[tuple[str, str]]
) -> None:
    """Save the searched position, the requested erasures for all partitions, and user ids with their external ids."""
    for one in asked:
        add_everywhere(db, one)
    db.run_many(_KNOWN, [{"partition": partition, "user": user, "id": its} for user, its in known])
    save = "INSERT INTO $.watch VALUES (%s, %s) ON CONFLICT (partition) DO UPDATE SET position = excluded.position"
    db.run(save, (partition, position))


def find_external_ids(db: PostgresConnection, partition: int, user_id: str | None) -> set[str]:
    """Return the external ids that were saved for a user id."""
    query = """
        SELECT external_id FROM $.identity
        WHERE partition = %s AND left(user_id, 200) = left(%s::text, 200) AND user_id = %s
    """
    return {one for (one,) in db.run(query, (partition, user_id, user_id))}


def save_found_ids(db: PostgresConnection, partition: int, found: Mapping[int, User]) -> list[Erasure]:
    """Save the ids of users before relay removes the events that hold the ids. Return the changed erasures."""
    which = "compacted IS NULL AND number = ANY(%s)", ([*found],)
    db.run(_LOCK, ([partition], [*found]))
    query = """
        UPDATE $.erasure SET external_ids = %s, other_ids = %s, digests = %s WHERE partition = %s AND number = %s
    """
    for one in read_erasures(db, partition, *which):
        known = replace(one, user=merge_users(one.user, found[one.number]))
        db.run(query, (*encode_ids(known), partition, one.number))
    return read_erasures(db, partition, *which)


def share_erasures(db: PostgresConnection, partition: int, users: Sequence[Erasure]) -> None:
    """Make all other partitions erase these users, too. An erasure with new ids begins again there."""
    query = "SELECT partition FROM $.partition WHERE partition <> %s ORDER BY 1"
    others = [number for (number,) in db.run(query, (partition,))]
    numbers = [one.number for one in users]
    db.run(_LOCK, (others, numbers))
    for other in others:
        known = {one.number: one for one in read_erasures(db, other, "number = ANY(%s)", (numbers,))}
        for one in users:
            if (there := known.get(one.number)) is None:
                add_erasure(db, other, one)
            elif not {*one.digests} <= {*there.digests}:
                merged = replace(there, user=merge_users(one.user, there.user))
                db.run(_AGAIN, (merged.user.user_id, *encode_ids(merged), other, one.number))
                db.run(_FORGET_DONE, (other, one.number))


def add_counts(
    db: PostgresConnection, partition: int, counts: Mapping[str, Mapping[int, int]], until: int | None = None
) -> None:
    """Add to the counts of erasures. With `until`, events below that offset are counted from now on."""
    for name, by_number in counts.items():
        query = f"UPDATE $.erasure SET {name} = {name} + %s WHERE partition = %s AND number = %s"  # noqa: S608
        db.run_many(query, [(count, partition, number) for number, count in by_number.items()])
    if until is not None:
        numbers = sorted({number for by_number in counts.values() for number in by_number})
        query = "UPDATE $.erasure SET counted = greatest(counted, %s) WHERE partition = %s AND number = ANY(%s)"
        db.run(query, (until, partition, numbers))


def find_unchanged(db: PostgresConnection, partition: int, before: Sequence[Erasure]) -> list[int]:
    """Return the numbers of the erasures whose ids are the same as before, and that have not begun again."""
    numbers = [one.number for one in before]
    db.run(_LOCK, ([partition], numbers))
    return find_same(before, read_erasures(db, partition, "done IS NULL AND number = ANY(%s)", (numbers,)))


def mark_erased(db: PostgresConnection, partition: int, users: Sequence[Erasure]) -> None:
    """Mark that log and tables hold none of these users. Erasures with new ids begin again, and count on."""
    known = find_unchanged(db, partition, users)
    query = """
        UPDATE $.erasure SET compacted = $.unix_time(), problem = NULL WHERE partition = %s AND number = ANY(%s)
    """
    db.run(query, (partition, known))
    left = [one.number for one in users if one.number not in known]
    db.run("UPDATE $.erasure SET counted = 0 WHERE partition = %s AND number = ANY(%s)", (partition, left))


def save_problem(db: PostgresConnection, partition: int, numbers: Collection[int], problem: str) -> None:
    """Save why users could not be removed from log and tables."""
    query = "UPDATE $.erasure SET compacted = NULL, problem = %s WHERE partition = %s AND number = ANY(%s)"
    db.run(query, (problem, partition, [*numbers]))


def correct_asked(db: PostgresConnection, partition: int, now: float, latest: float) -> None:
    """Set the time of erasures requested later than `latest` to `now`. Times are Unix seconds."""
    query = "UPDATE $.erasure SET asked = %s WHERE partition = %s AND asked > %s AND done IS NULL"
    db.run(query, (now, partition, latest))


def find_held_elsewhere(
    db: PostgresConnection, partition: int, connector: str, numbers: Collection[int]
) -> dict[int, bool]:
    """Find the erasures that a connector must not get yet, because another partition may still write there. Return by
    number whether a thread hangs there.

    A partition without a holder counts while it has events of the users: its next holder may know fewer ids of them
    while it withholds their events.
    """
    query = "SELECT partition, until > clock_timestamp() FROM $.lease WHERE partition <> %s"
    held: dict[int, bool] = {}
    for other, is_leased in db.run(query, (partition,)).fetchall():
        for one in read_erasures(db, other, "done IS NULL AND number = ANY(%s)", ([*numbers],)):
            if one.compacted is None or (is_leased and one.lacks(connector)):
                held[one.number] = held.get(one.number, False) or one.failed_at(connector)
    return held


def save_answers(
    db: PostgresConnection, partition: int, asked: Sequence[Erasure], answers: Mapping[int, ConnectorAnswer]
) -> None:
    """Save the answers of a connector, by the number of the erasure, except to erasures that have changed."""
    unchanged = [number for number in find_unchanged(db, partition, asked) if number in answers]
    given = [(number, answers[number]) for number in unchanged]
    db.run_many(_ANSWERED, [(partition, number, one.connector, one.outcome, one.reason) for number, one in given])


def forget_failed(db: PostgresConnection, partition: int) -> None:
    """Delete all failed answers of connectors."""
    db.run("DELETE FROM $.erasure_answer WHERE partition = %s AND outcome = 'failed'", (partition,))


def forget_ids(db: PostgresConnection, partition: int, numbers: Collection[int]) -> None:
    """Delete the ids of these users, which nobody needs any more."""
    erased = read_erasures(db, partition, "compacted IS NOT NULL AND number = ANY(%s)", ([*numbers],))
    users = [one.user.user_id for one in erased if one.user.user_id is not None]
    ids = [its for one in erased for its in one.user.external_ids]
    db.run(_FORGET_PAIRS, {"partition": partition, "users": users, "ids": ids})
    nobody = "user_id = NULL, external_ids = '[]', other_ids = '[]'"
    query = f"UPDATE $.erasure SET {nobody} WHERE partition = %s AND number = ANY(%s) AND compacted IS NOT NULL"  # noqa: S608
    db.run(query, (partition, [one.number for one in erased]))


def mark_done(db: PostgresConnection, partition: int, numbers: Collection[int]) -> None:
    """Mark erasures as done."""
    query = """
        UPDATE $.erasure SET done = $.unix_time() WHERE partition = %s AND number = ANY(%s) AND compacted IS NOT NULL
    """
    db.run(query, (partition, [*numbers]))
