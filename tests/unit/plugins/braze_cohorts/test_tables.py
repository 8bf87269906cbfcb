"""What admins see of cohorts: the tables of the connector."""

from pathlib import Path

import pytest

from relay.api import TableQuery
from relay.sandbox.braze.rest_api import CohortApi, Profile
from relay.testing import MemoryStore
from relay_plugins.braze_cohorts.connector import BrazeCohorts
from tests.unit.plugins.braze_cohorts.cohort_changes import change, connected, told

COHORTS, MEMBERS = BrazeCohorts.tables


async def test_tables_have_cohorts_members_and_the_cohorts_of_a_member(tmp_path: Path) -> None:
    store = MemoryStore()
    async with CohortApi([Profile(name) for name in "abc"]) as api, connected(api, tmp_path, store) as braze:
        await told(braze, change(["a", "b"]), change(["b", "c:d"], cohort="8", name="VIPs"))
        await told(braze, change(["17"], cohort="9", match={"alias_label": "crm"}))
    reader = store.reader
    rows = [*COHORTS.read(reader, TableQuery())]
    assert [(row.key, row.cells[:3], len(row.cells)) for row in rows] == [
        ("7", ["7", "Carts", 2], len(COHORTS.columns)),
        ("8", ["8", "VIPs", 2], len(COHORTS.columns)),
        ("9", ["9", "Carts", 1], len(COHORTS.columns)),
    ]
    assert [row.key for row in COHORTS.read(reader, TableQuery(after="7"))] == ["8", "9"]
    assert [row.key for row in COHORTS.read(reader, TableQuery({"cohort": "7"}))] == ["7"]
    members = [*MEMBERS.read(reader, TableQuery({"cohort": "8"}))]
    assert [row.cells for row in members] == [["8", "external_id:b"], ["8", "external_id:c:d"]]
    behind = MEMBERS.read(reader, TableQuery({"cohort": "8"}, members[0].key))
    assert [row.cells for row in behind] == [["8", "external_id:c:d"]]
    found = {user: [row.key for row in MEMBERS.read(reader, TableQuery({"user": user}))] for user in (
        "external_id:a", "external_id:b", "external_id:c:d", "alias:crm:17", "email:b", "b"
    )}  # fmt: skip
    assert [*found.values()] == [["7"], ["7", "8"], ["8"], ["9"], [], []]
    assert [row.key for row in MEMBERS.read(reader, TableQuery({"user": "external_id:b"}, "7"))] == ["8"]
    with pytest.raises(ValueError, match="say which"):
        next(iter(MEMBERS.read(reader, TableQuery())))
