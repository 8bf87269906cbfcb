"""Reads what Braze was told of cohorts from outside: the stores of a state folder."""

from collections import defaultdict
from typing import NamedTuple

from relay.api import StoreReader
from relay_plugins.braze_cohorts.change import Member
from relay_plugins.braze_cohorts.keys import (
    COHORT,
    MEMBER,
    PART,
    CohortRecord,
    make_key,
    make_prefix,
    read_member_key,
    read_part,
    read_record,
    split_key,
)


class Cohort(NamedTuple):
    """A cohort as Braze was told."""

    id: str
    name: str
    members: int
    created: float
    synced: float
    task: str
    errors: int
    """Entries that Braze named as wrong in answers that otherwise succeeded."""
    last_error: str
    left_out: int
    """Ids of a kind by which Braze cannot find users, such as device ids for attributes."""


def read_cohorts(store: StoreReader) -> list[Cohort]:
    """Return every cohort of a connector. Raises StoreError."""
    pairs = store.scan(make_prefix(COHORT))
    found = (_make_cohort(split_key(key)[1], read_record(value)) for key, value in pairs)
    return [cohort for cohort in found if cohort]


def read_cohort(store: StoreReader, cohort: str) -> Cohort | None:
    """Return a cohort; None if relay does not know it. Raises StoreError."""
    found = store.get([make_key(COHORT, cohort)])
    return next((_make_cohort(cohort, read_record(value)) for value in found.values()), None)


def read_members(store: StoreReader, cohort: str) -> list[Member]:
    """Return the members of a cohort as Braze was told. Raises StoreError."""
    return [read_member_key(key) for key, _ in store.scan(make_prefix(MEMBER, cohort))]


def read_unfinished(store: StoreReader, cohort: str) -> tuple[int, int] | None:
    """Return how many parts of an incomplete whole membership have come, and of how many; None if there is none.
    Raises StoreError."""
    found = [read_part(value) for _, value in store.scan(make_prefix(PART, cohort))]
    if not found:
        return None
    task = max(found, key=lambda part: part.offset).task
    pages = defaultdict[int, int](int)
    came = [part for part in found if part.task == task]
    for part in came:
        pages[part.page] = max(pages[part.page], part.parts)
    return len(came), sum(pages.values())


def _make_cohort(id: str, record: CohortRecord) -> Cohort | None:
    """Return the cohort of a record; None if Braze was not told of it yet."""
    if record.name is None:
        return None
    return Cohort(
        id=id,
        name=record.name,
        members=record.members,
        created=record.created,
        synced=record.synced,
        task=record.task,
        errors=record.errors,
        last_error=record.last_error,
        left_out=record.left_out,
    )
