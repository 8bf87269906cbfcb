"""Shows admins what Braze was told: a table of the cohorts, and a table of their members."""

import json
from collections.abc import Iterator
from typing import Final

from relay.api import AdminTable, StoreReader, TableColumn, TableQuery, TableRow
from relay_plugins.braze_cohorts.change import Member
from relay_plugins.braze_cohorts.keys import COHORT, MEMBER, make_key, make_prefix, read_member_key, split_key
from relay_plugins.braze_cohorts.queries import read_cohort


def read_cohort_rows(store: StoreReader, query: TableQuery) -> Iterator[TableRow]:
    """Yield the cohorts that Braze was told of."""
    for key, _ in store.scan(make_prefix(COHORT), after=make_key(COHORT, query.after) if query.after else b""):
        cohort = read_cohort(store, split_key(key)[1])
        if cohort and query.where.get("cohort", cohort.id) == cohort.id:
            synced = cohort.synced if cohort.task else None  # else Braze has the name alone
            refused = cohort.errors, cohort.last_error, cohort.left_out
            yield TableRow(cohort.id, [cohort.id, cohort.name, cohort.members, cohort.created, synced, *refused])


def read_member_rows(store: StoreReader, query: TableQuery) -> Iterator[TableRow]:
    """Yield the members of a cohort, or the cohorts of a member. Raises ValueError if neither is named."""
    cohort, user = query.where.get("cohort"), query.where.get("user")
    if user is not None:
        yield from _read_cohorts_of(store, user, cohort, query.after)
    elif cohort is not None:
        start = make_key(MEMBER, cohort, *json.loads(query.after)) if query.after else b""
        for key, _ in store.scan(make_prefix(MEMBER, cohort), after=start):
            member = read_member_key(key)
            yield TableRow(json.dumps(member), [cohort, f"{member.kind}:{member.id}"])
    else:
        raise ValueError("say which: where=cohort=ID, or where=user=KIND:ID such as user=external_id:customer-1")


def _read_cohorts_of(store: StoreReader, user: str, cohort: str | None, after: str) -> Iterator[TableRow]:
    """Yield the cohorts of a user behind a cohort. Kinds and ids may have colons."""
    words = user.split(":")
    members = [Member(":".join(words[:split]), ":".join(words[split:])) for split in range(1, len(words))]
    for key, _ in store.scan(make_prefix(COHORT), after=make_key(COHORT, after) if after else b""):
        mine = split_key(key)[1]
        if cohort in (None, mine) and store.get([make_key(MEMBER, mine, *member) for member in members]):
            yield TableRow(mine, [mine, user])


TABLES: Final = (
    AdminTable(
        "cohorts",
        "The cohorts that Braze was told of.",
        (
            TableColumn("cohort", "Id of the cohort."),
            TableColumn("name", "Name of the cohort in Braze."),
            TableColumn("members", "Members, as Braze was told.", "number"),
            TableColumn("created", "When Braze was told of the cohort first.", "time"),
            TableColumn("last change", "When the last change was through.", "time"),
            TableColumn("refused", "Entries that Braze named as wrong in answers that otherwise succeeded.", "number"),
            TableColumn("last refusal", "What Braze said of the last of these entries."),
            TableColumn("left out", "Ids by which Braze cannot find users, which relay has left out.", "number"),
        ),
        read_cohort_rows,
        where=("cohort",),
    ),
    AdminTable(
        "members",
        "The members of a cohort, or the cohorts of a member.",
        (
            TableColumn("cohort", "Id of the cohort."),
            TableColumn("user", "Kind and id of the user, such as external_id:customer-1."),
        ),
        read_member_rows,
        where=("cohort", "user"),
    ),
)
"""The tables of a connector of the type `braze_cohorts`."""
