"""Braze cohorts: what is sent to a stand-in of Braze's API, and who is in a cohort there in the end."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.api import DELIVERED, Batch, Block, Event, Kind, Outcome, Reject, Retry, Unauthorized, User
from relay.sandbox.cohorts import CohortApi, Fault, Profile
from relay_plugins.braze_cohorts import BrazeCohorts
from relay_plugins.braze_cohorts.braze import Budget
from relay_plugins.braze_cohorts.change import Member, portions
from relay_plugins.braze_cohorts.known import cohorts, members

OFFSETS = count()


def change(
    add: Sequence[str] = (), remove: Sequence[str] = (), cohort: str = "7", name: str = "Carts", **more: Any
) -> Event:
    sync = {"task": "t", "page": 1, "pages": 1, "part": 0, "parts": 1, "full": False} | more.pop("sync", {})
    data = {"event_type": "cohort.Change", "id": "x", "cohort": {"id": cohort, "name": name}, "match": "external_id"}
    body = orjson.dumps(data | {"add": add, "remove": remove, "sync": sync} | more)
    return Event(body, Kind("heap", "cohort.Change"), next(OFFSETS), 0.0)


def named(*names: str) -> list[Profile]:
    return [Profile(name) for name in names]


@asynccontextmanager
async def connected(api: CohortApi, folder: Path, **more: Any) -> AsyncIterator[BrazeCohorts]:
    (folder / "key").write_text("partner")
    (folder / "import").write_text("import")
    (folder / "rest").write_text("rest")
    keys = {
        "partner": "heap",
        "partner_key": {"file": f"{folder}/key"},
        "data_import_key": {"file": f"{folder}/import"},
    }
    if more.get("mode") == "attribute":
        keys = {"rest_key": {"file": f"{folder}/rest"}}
    table = {"type": "braze_cohorts", "endpoint": api.url} | keys | more
    connector = BrazeCohorts("braze", BrazeCohorts.Settings.model_validate(table), folder=folder)
    await connector.open()
    try:
        yield connector
    finally:
        await connector.release()


async def told(connector: BrazeCohorts, *events: Event) -> list[Outcome]:
    return [(await connector.deliver(Batch([Block.of([event])])))[0] for event in events]


def inside(api: CohortApi, cohort: str = "7") -> set[str | None]:
    return {profile.external_id for profile in api.members[cohort]}


async def test_only_what_braze_does_not_know_is_sent(tmp_path: Path) -> None:
    async with CohortApi(named("a", "b", "c")) as api, connected(api, tmp_path) as braze:
        again = change(["a", "b"], [])
        assert await told(braze, again, again, change([], ["a"]), change(["b"], name="Lost carts")) == [DELIVERED] * 4
        assert inside(api) == {"b"}
        assert api.books.names["7"] == ["Carts", "Lost carts"]
        assert api.books.ids == [2, 1]
        (known,) = cohorts(tmp_path / "cohorts" / "braze.db")
        assert (known.id, known.name, known.members, known.task) == ("7", "Lost carts", 1, "t")


async def test_what_is_known_outlives_a_restart(tmp_path: Path) -> None:
    async with CohortApi(named("a")) as api:
        for _ in range(2):
            async with connected(api, tmp_path) as braze:
                assert await told(braze, change(["a"])) == [DELIVERED]
        assert api.books.ids == [1]
        assert members(tmp_path / "cohorts" / "braze.db", "7") == [Member("external_id", "a")]


async def test_a_full_sync_removes_who_is_in_none_of_its_pages_once_all_have_come(tmp_path: Path) -> None:
    async with CohortApi(named("a", "b", "c", "d")) as api, connected(api, tmp_path) as braze:
        await told(braze, change(["a", "b"]))
        lost = {"task": "lost", "pages": 2, "full": True}
        await told(braze, change(["c"], sync=lost))
        assert inside(api) == {"a", "b", "c"}, "its last page never came"
        whole = {"task": "whole", "pages": 2, "full": True}
        await told(braze, change(["b"], sync=whole | {"page": 2}), change(["d"]), change(["c"], sync=whole))
        assert inside(api) == {"b", "c", "d"}, "who came in the meantime stays"
        await told(braze, change(sync={"task": "drain", "full": True}))
        assert inside(api) == set()


async def test_whom_braze_does_not_know_it_ignores_until_they_are_sent_again(tmp_path: Path) -> None:
    profiles = [Profile("a"), Profile("b", devices=frozenset(["phone"])), Profile(devices=frozenset(["tablet"]))]
    profiles.append(Profile(aliases=frozenset([("crm", "17")])))
    ids = ["external_id:a", "device_id:phone", "device_id:tablet", "alias:crm:17", "external_id:nobody"]
    async with CohortApi(profiles) as api, connected(api, tmp_path) as braze:
        event = change(ids, match="prefix", sync={"resend": True})
        assert await told(braze, event, event) == [DELIVERED] * 2
        assert api.members["7"] == {profiles[0], profiles[2], profiles[3]}
        assert api.books.unknown == 4
        assert api.books.ids == [5, 5]


async def test_large_changes_are_cut(tmp_path: Path) -> None:
    users = [f"user-{number}" for number in range(2500)]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        assert await told(braze, change(users)) == [DELIVERED]
        assert api.books.ids == [1000, 1000, 500]
        assert len(inside(api)) == 2500


@pytest.mark.parametrize(
    ("fault", "outcome"), [(400, Reject), (401, Unauthorized), (404, Unauthorized), (423, Retry), (500, Retry)]
)
async def test_what_braze_refuses(tmp_path: Path, fault: int, outcome: type) -> None:
    async with CohortApi(named("a")) as api, connected(api, tmp_path) as braze:
        api.faults.append(Fault(fault))
        first, second = await told(braze, change(["a"]), change(["a"], cohort="8"))
        assert isinstance(first, outcome)
        assert second == DELIVERED
        assert "partner" not in str(first)


async def test_braze_limits_an_hour(tmp_path: Path) -> None:
    async with CohortApi(named("a"), hourly=2) as api, connected(api, tmp_path) as braze:
        first, second = await told(braze, change(["a"]), change([], ["a"]))
        assert first == DELIVERED
        assert isinstance(second, Retry)
        assert 0 < (second.after or 0) <= 3600
        assert api.books.statuses[429] == 0, "it was told that none are left"
    async with CohortApi(named("a"), hourly=0) as api, connected(api, tmp_path) as braze:
        (refused,) = await told(braze, change(["a"], cohort="9"))
        assert isinstance(refused, Retry)
        assert 0 < (refused.after or 0) <= 3600


def test_no_hour_has_more_requests_than_braze_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay_plugins.braze_cohorts.braze.HOUR_REQUESTS", 3)
    budget = Budget()
    assert [budget.take(now) for now in (7200, 7201, 7202, 7203, 10799, 10800)] == [0, 0, 0, 3597, 1, 0]


@pytest.mark.parametrize("style", ["boolean", "array"])
async def test_attributes_of_users_who_exist(tmp_path: Path, style: str) -> None:
    users = named(*(f"user-{number}" for number in range(100)), "crm")
    users[-1] = Profile(aliases=frozenset([("crm", "17")]))
    async with (
        CohortApi(users) as api,
        connected(api, tmp_path, mode="attribute", style=style, attribute="in_{id}") as braze,
    ):
        ids = [f"external_id:user-{number}" for number in range(101)]
        await told(braze, change([*ids, "alias:crm:17"], match="prefix"), change([], ["user-0"]))
        assert api.books.ids == [75, 27, 1]
        assert api.books.unknown == 1
        yes, no = (True, False) if style == "boolean" else (["7"], [])
        assert [api.attributes[user]["in_7"] for user in users] == [no] + [yes] * 100
        (refused,) = await told(braze, change(["device_id:phone"], match="prefix"))
        assert isinstance(refused, Reject)
        assert "device ids" in str(refused)


@pytest.mark.parametrize(
    "body", [{"cohort": None}, {"match": "email"}, {"match": 7}, {"add": [None]}, {"sync": {"page": "first"}}]
)
async def test_what_is_no_change_is_refused_alone(tmp_path: Path, body: dict[str, Any]) -> None:
    async with CohortApi(named("a")) as api, connected(api, tmp_path) as braze:
        (outcome,) = await told(braze, change(**body))
        assert isinstance(outcome, Reject)


@given(
    st.lists(st.text(max_size=2000), max_size=30, unique=True),
    st.lists(st.text(max_size=10), max_size=30),
    st.integers(1, 9),
)
def test_portions_hold_everything_once_and_in_order(add: list[str], remove: list[str], most: int) -> None:
    coming, leaving = ([Member("external_id", user) for user in users] for users in (add, remove))
    found = [*portions(coming, leaving, most)]
    assert [member for portion in found for member in portion.add] == coming
    assert [member for portion in found for member in portion.remove] == leaving
    assert all(0 < len(portion.add) + len(portion.remove) <= most for portion in found)


USERS = st.lists(st.sampled_from("abcdef"), max_size=4)
STEP = st.tuples(
    st.sampled_from(["change", "full", "torn"]),
    st.sampled_from(["7", "8"]),
    USERS,
    USERS,
    st.lists(st.sampled_from([Fault(500), Fault(500, applied=True), Fault(423), Fault(503)]), max_size=3),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=8))
def test_whatever_happens_the_membership_is_right_in_the_end(steps: list[Any]) -> None:
    async def play() -> None:
        expected: dict[str, set[str]] = {"7": set(), "8": set()}
        with TemporaryDirectory() as folder:
            async with CohortApi(named(*"abcdef")) as api, connected(api, Path(folder)) as braze:
                for number, (what, cohort, add, remove, faults, twice) in enumerate(steps):
                    api.faults.extend(faults)
                    pages = 2 if what == "torn" else 1
                    sync = {"task": str(number), "full": what != "change", "pages": pages}
                    event = change(add, remove if what == "change" else [], cohort=cohort, sync=sync)
                    for _ in range(1 + twice):
                        while await told(braze, event) != [DELIVERED]:
                            pass
                    gone = {"change": set(remove) - set(add), "full": expected[cohort] - set(add), "torn": set()}
                    expected[cohort] = (expected[cohort] | set(add)) - gone[what]
                assert {cohort: inside(api, cohort) for cohort in expected} == expected
                known = cohorts(Path(folder) / "cohorts" / "braze.db")
                assert {cohort.id: cohort.members for cohort in known} == {
                    cohort.id: len(expected[cohort.id]) for cohort in known
                }

    asyncio.run(play())


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({}, "either cluster or endpoint"),
        ({"cluster": "US-99"}, "there is no US-99"),
        ({"cluster": "EU-01", "partner": "heap"}, "partner_key is missing"),
        ({"cluster": "EU-01", "mode": "attribute"}, "rest_key is missing"),
        (
            {"cluster": "EU-01", "mode": "attribute", "rest_key": {"env": "PATH"}, "partner": "heap"},
            'partner is for mode = "cohort"',
        ),
    ],
)
def test_what_is_missing_or_does_not_belong_is_a_mistake(table: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError, match=mistake):
        BrazeCohorts.Settings.model_validate({"type": "braze_cohorts"} | table)


async def test_who_is_erased_is_in_no_file_any_more(tmp_path: Path) -> None:
    users = [*(f"user-{number}" for number in range(3000)), "anna-77"]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        await told(braze, change(users), change(users, cohort="8"))
        await braze._known.run(
            lambda: braze._known._db.execute("PRAGMA secure_delete = OFF").close()
        )  # as it may be built
        await braze.erase([User("5f3a", ("user-1234", "anna-77")), User("5f3b")])
        found = [*(tmp_path / "cohorts").iterdir()]
        assert not any(one in path.read_bytes() for path in found for one in (b"user-1234", b"anna-77", b"5f3a"))
        known = {member.id for member in members(tmp_path / "cohorts" / "braze.db", "7")}
        assert known == {*users} - {"user-1234", "anna-77"}
        with closing(sqlite3.connect(tmp_path / "cohorts" / "braze.db", isolation_level=None)) as db:
            db.execute("BEGIN")
            db.execute("SELECT * FROM cohort").fetchall()
            await braze._known.run(lambda: braze._known._db.execute("PRAGMA busy_timeout = 50").close())
            with pytest.raises(Retry, match="another process is reading"):
                await braze.erase([User(None, ("user-5",))])
        await braze.erase([User(None, ("user-5",))])
