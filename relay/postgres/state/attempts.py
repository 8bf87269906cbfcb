"""Answers to deliveries that did not succeed at once: the table `attempt`."""

import json
from collections.abc import Iterable, Iterator
from itertools import starmap
from typing import Final

from relay.postgres.connection import PostgresConnection
from relay.store import ATTEMPTS_COLUMNS, ATTEMPTS_KEPT, ATTEMPTS_KEPT_BYTES, Attempts, parse_attempts

_SAVE: Final = """
    INSERT INTO $.attempt AS known
    (partition, connector, replay, start, stop, events, ranges, attempts, outcome, answer, first, last)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (partition, connector, replay, start, stop, events)
    DO UPDATE SET attempts = excluded.attempts, outcome = excluded.outcome, last = excluded.last,
    answer = CASE excluded.answer WHEN '' THEN known.answer ELSE excluded.answer END
"""
_TOO_MUCH: Final = """
    DELETE FROM $.attempt WHERE partition = %(partition)s AND number <= (
        SELECT max(number) FROM (
            SELECT number, count(*) OVER newest AS kept,
                   sum(200 + octet_length(ranges) + octet_length(answer)) OVER newest AS size
            FROM $.attempt WHERE partition = %(partition)s WINDOW newest AS (ORDER BY number DESC)
        ) AS one WHERE kept > %(kept)s OR size > %(size)s
    )
"""


def save_attempts(db: PostgresConnection, partition: int, made: Iterable[Attempts]) -> None:
    """Save attempts, each in place of those at the same events before."""
    rows = [
        (partition, *one.key, json.dumps(one.ranges), one.attempts, one.outcome, one.answer, one.first, one.last)
        for one in made
    ]
    db.run_many(_SAVE, rows)


def forget_attempts(db: PostgresConnection, partition: int, oldest: int) -> None:
    """Delete attempts at events below this offset, and the oldest of too many."""
    db.run("DELETE FROM $.attempt WHERE partition = %s AND stop <= %s", (partition, oldest))
    db.run(_TOO_MUCH, {"partition": partition, "kept": ATTEMPTS_KEPT, "size": ATTEMPTS_KEPT_BYTES})


def read_answers(
    db: PostgresConnection, partition: int, connector: str | None
) -> Iterator[tuple[int, list[tuple[int, int]], str]]:
    """Yield each answer that is kept for a connector: its number, the offsets it is about, and its text."""
    query = """
        SELECT number, ranges, answer FROM $.attempt
        WHERE partition = %s AND connector IS NOT DISTINCT FROM %s AND answer <> ''
    """
    for number, ranges, answer in db.run(query, (partition, connector)):
        yield number, json.loads(ranges), answer


def clear_answers(db: PostgresConnection, partition: int, numbers: Iterable[int]) -> None:
    """Remove the texts of answers from these rows. The rows stay."""
    query = "UPDATE $.attempt SET answer = '' WHERE partition = %s AND number = ANY(%s)"
    db.run(query, (partition, [*numbers]))


def read_attempted_connectors(db: PostgresConnection, partition: int) -> set[str]:
    """Return the connectors whose attempts are kept."""
    rows = db.run("SELECT DISTINCT connector FROM $.attempt WHERE partition = %s", (partition,))
    return {connector for (connector,) in rows}


def find_attempts_at(db: PostgresConnection, partition: int, offset: int) -> list[Attempts]:
    """Return the attempts at an event, the last one first."""
    query = f"""
        SELECT {ATTEMPTS_COLUMNS} FROM $.attempt
        WHERE partition = %s AND start <= %s AND stop > %s ORDER BY last DESC, attempts DESC
    """  # noqa: S608
    return [one for one in starmap(parse_attempts, db.run(query, (partition, offset, offset))) if one.covers(offset)]


def delete_attempts_of(db: PostgresConnection, connector: str) -> None:
    """Delete all attempts of a connector, in all partitions."""
    db.run("DELETE FROM $.attempt WHERE connector = %s", (connector,))
