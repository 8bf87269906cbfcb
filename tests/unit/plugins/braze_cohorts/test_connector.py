"""Braze cohorts: what is sent to a stand-in of Braze's API, and who is in a cohort there in the end."""

import asyncio
import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.api import DELIVERED, Batch, Block, Delivered, Event, Reject, Retry, Unauthorized, User
from relay.cli.main import relay
from relay.sandbox.braze.rest_api import CohortApi, Fault, Profile
from relay.state import EmbeddedStores
from relay.testing import Answer, Destination
from relay_plugins.braze_cohorts.braze_requests import Attributes, Budget, HourlyLimit, Partner
from relay_plugins.braze_cohorts.change import Member, split_portions
from relay_plugins.braze_cohorts.connector import BrazeCohorts
from relay_plugins.braze_cohorts.keys import TOLD
from relay_plugins.braze_cohorts.queries import read_unfinished
from tests.unit.plugins.braze_cohorts.cohort_changes import (
    change,
    connected,
    inside,
    known_cohorts,
    known_members,
    told,
)


def unfinished(folder: Path, cohort: str) -> tuple[int, int] | None:
    with EmbeddedStores(folder).read("braze_cohorts", "braze") as store:
        return read_unfinished(store, cohort)


def named(*names: str) -> list[Profile]:
    return [Profile(name) for name in names]


async def test_only_what_braze_does_not_know_is_sent(tmp_path: Path) -> None:
    async with CohortApi(named("a", "b", "c")) as api, connected(api, tmp_path) as braze:
        again = change(["a", "b"], [])
        assert await told(braze, again, again, change([], ["a"]), change(["b"], name="Lost carts")) == [DELIVERED] * 4
        assert inside(api) == {"b"}
        assert api.received.names["7"] == ["Carts", "Lost carts"]
        assert api.received.ids == [2, 1]
        (known,) = known_cohorts(tmp_path)
        assert (known.id, known.name, known.members, known.task) == ("7", "Lost carts", 1, "t")


async def test_neighbours_go_as_one_request_with_the_newest_action_of_each_user(tmp_path: Path) -> None:
    async with CohortApi(named(*"abcd")) as api, connected(api, tmp_path) as braze:
        events = [
            change(["a", "b"]),
            change([], ["a"]),
            change(["c"], ["b"]),
            change(["b"], name="Lost"),
            change(["d"], name=""),
        ]
        await told_for_good(braze, events)
        assert inside(api) == {"b", "c", "d"}
        assert api.received.ids == [4]
        assert api.received.names["7"] == ["Lost"]


async def test_none_goes_before_an_earlier_one_of_its_cohort(tmp_path: Path) -> None:
    users = [f"user-{number}" for number in range(1000)]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        api.faults.extend([Fault(201), Fault(500)])  # the name gets through, who comes does not
        events = [change(users), change([], users[:999]), change(["user-1"], cohort="8")]
        outcomes = await braze.deliver(Batch([Block.of(events)]))
        assert [type(outcome) for outcome in outcomes] == [Retry, Retry, type(DELIVERED)]
        assert inside(api) == set()
        await told_for_good(braze, events[:2])
        assert inside(api) == {"user-999"}


async def test_of_neighbours_that_are_refused_the_one_to_blame_is_found(tmp_path: Path) -> None:
    async with CohortApi(named("a")) as api, connected(api, tmp_path, mode="attribute") as braze:
        api.faults.extend([Fault(400), Fault(201), Fault(400), Fault(201)])  # all of them, then one after the other
        events = [change([one]) for one in ("a", "poison", "nobody")]
        outcomes = await braze.deliver(Batch([Block.of(events)]))
        assert [type(outcome) for outcome in outcomes] == [type(DELIVERED), Reject, type(DELIVERED)]


async def test_a_long_change_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()  # a second passes with every look at the clock; half of the timeout are 15
    clock = SimpleNamespace(monotonic=lambda: next(ticks), time=time.time)
    monkeypatch.setattr("relay_plugins.braze_cohorts.connector.time", clock)
    users = [f"user-{number}" for number in range(20_000)]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        resend = change(sync={"resend": True})
        for event, left in ((change(users), 20_000), (resend, 20_000), (change([], users), 0)):
            (first,) = await told(braze, event)
            assert isinstance(first, Retry)
            assert (first.hold_lane, first.after) == (False, 0)
            await told_for_good(braze, [event])
            assert len(inside(api)) == left
        assert api.received.ids == [1000] * 60, "nobody is told twice"


async def test_a_resend_goes_on_behind_those_who_were_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes longer than a delivery has: each delivery sends something all the same, and reads no more."""
    monkeypatch.setattr("relay_plugins.braze_cohorts.store.SAVED", 2000)
    monkeypatch.setattr("relay_plugins.braze_cohorts.store.PAGE", 100)
    users = [f"user-{number}" for number in range(10_300)]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        await told_for_good(braze, [change(users)])
        ticks = count(0, 100)
        clock = SimpleNamespace(monotonic=lambda: next(ticks), time=time.time)
        monkeypatch.setattr("relay_plugins.braze_cohorts.connector.time", clock)
        reads, find = list[int](), braze._cohorts._find

        async def count_reads(table: str, cohort: str, members: Any) -> Any:
            reads.append(len(members) if table == TOLD else 0)
            return await find(table, cohort, members)

        monkeypatch.setattr(braze._cohorts, "_find", count_reads)
        before, resend = len(api.received.ids), change(["new"], ["user-7"], sync={"resend": True})
        await told_for_good(braze, [resend])
        assert api.received.ids[before:] == [1000] * 10 + [301]
        assert sum(reads) < 4 * len(users), "of ten deliveries none reads all members"
        assert inside(api) == {*users} - {"user-7"}
        (known,) = known_cohorts(tmp_path)
        assert known.members == 10_300


async def test_what_braze_did_not_take_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = b'{"message":"success","errors":[{"type":"bad alias of partner","index":0},"another"]}'
    async with Destination(201, Answer(status=201, body=said), Answer(status=201, body=said)) as api:
        async with connected(api, tmp_path) as braze:
            assert await told(braze, change(["a"]), change(["b"])) == [DELIVERED] * 2
        (known,) = known_cohorts(tmp_path)
        assert (known.members, known.errors) == (2, 4)
        assert known.last_error == '{"type":"bad alias of ...","index":0}', "without the partner's key"
        assert "Braze took a change only in part" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "errors", "first"),
    [
        (b'{"errors":[%s]}' % b",".join([b'"no such user"'] * 10_000), 10_000, "no such user"),
        (b'{"errors":["%s"]}' % (b"x" * 2_000_000), 1, "not known: its answer was cut short"),
    ],
)
async def test_a_long_answer_of_braze_is_not_missed(tmp_path: Path, body: bytes, errors: int, first: str) -> None:
    async with Destination(201, Answer(status=201, body=body)) as api:
        async with connected(api, tmp_path) as braze:
            assert await told(braze, change(["a"])) == [DELIVERED]
        (known,) = known_cohorts(tmp_path)
        assert (known.errors, known.last_error) == (errors, first)


async def test_an_older_whole_membership_does_not_complete_after_a_newer_one(tmp_path: Path) -> None:
    async with CohortApi(named(*"abc")) as api, connected(api, tmp_path) as braze:
        old, new = ({"task": task, "full": True, "parts": 2} for task in ("old", "new"))
        await told(braze, change(["a"], sync=old), change(["b"], sync=new), change(["b"], sync=new | {"part": 1}))
        assert inside(api) == {"b"}
        await told(braze, change(["a"], sync=old | {"part": 1}))
        assert inside(api) == {"a", "b"}, "it is not whole any more"


async def test_ids_of_all_kinds_count_together(tmp_path: Path) -> None:
    ids = [f"{kind}:{number}" for number in range(400) for kind in ("external_id", "device_id", "alias:crm")]
    async with CohortApi(named("1")) as api, connected(api, tmp_path) as braze:
        assert await told(braze, change(ids, match="prefix")) == [DELIVERED]
        assert api.received.ids == [1000, 200]


async def test_no_request_is_larger_than_braze_takes(tmp_path: Path) -> None:
    users = [f"{number}".rjust(1500, "\x01") for number in range(1000)]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        assert await told(braze, change(users)) == [DELIVERED], "beyond 4 MB it answers 413"
        assert len(api.received.ids) > 1
        assert len(inside(api)) == 1000


async def test_what_is_known_outlives_a_restart(tmp_path: Path) -> None:
    async with CohortApi(named("a")) as api:
        for _ in range(2):
            async with connected(api, tmp_path) as braze:
                assert await told(braze, change(["a"])) == [DELIVERED]
        assert api.received.ids == [1]
        assert known_members(tmp_path, "7") == [Member("external_id", "a")]


async def test_a_complete_full_sync_removes_users_in_none_of_its_pages(tmp_path: Path) -> None:
    async with CohortApi(named("a", "b", "c", "d")) as api, connected(api, tmp_path) as braze:
        await told(braze, change(["a", "b"]))
        lost = {"task": "lost", "pages": 2, "full": True}
        await told(braze, change(["c"], sync=lost))
        assert inside(api) == {"a", "b", "c"}, "its last page never came"
        assert unfinished(tmp_path, "7") == (1, 1), "of the pages that have come"
        half = {"task": "half", "parts": 3, "full": True}
        await told(braze, change(["b"], sync=half), change(["c"], sync=half | {"part": 1}))
        assert (unfinished(tmp_path, "7"), unfinished(tmp_path, "8")) == ((2, 3), None)
        shown = CliRunner().invoke(relay, ["cohorts", "show", "7", "--state", str(tmp_path)]).output
        assert "\nlast error \n" in shown
        assert "\ncoming     2 of 3 parts of a whole membership" in shown
        whole = {"task": "whole", "pages": 2, "full": True}
        await told(braze, change(["b"], sync=whole | {"page": 2}), change(["d"]), change(["c"], sync=whole))
        assert inside(api) == {"b", "c", "d"}, "who came in the meantime stays"
        await told(braze, change(sync={"task": "drain", "full": True}))
        assert (inside(api), unfinished(tmp_path, "7")) == (set(), None)


async def test_a_resend_during_a_full_sync_is_no_membership_in_that_sync(tmp_path: Path) -> None:
    async with CohortApi(named("a", "b", "c")) as api, connected(api, tmp_path) as braze:
        half = {"task": "half", "parts": 2, "full": True}
        await told(braze, change(["a", "b"]), change(["b"], sync=half), change(sync={"resend": True}))
        await told(braze, change(["c"], sync=half | {"part": 1}))
        assert inside(api) == {"b", "c"}


async def test_whom_braze_does_not_know_it_ignores_until_they_are_sent_again(tmp_path: Path) -> None:
    profiles = [Profile("a"), Profile("b", devices=frozenset(["phone"])), Profile(devices=frozenset(["tablet"]))]
    profiles.append(Profile(aliases=frozenset([("crm", "17")])))
    ids = ["external_id:a", "device_id:phone", "device_id:tablet", "alias:crm:17", "external_id:nobody"]
    async with CohortApi(profiles) as api, connected(api, tmp_path) as braze:
        event = change(ids, match="prefix", sync={"resend": True})
        assert await told(braze, event, event) == [DELIVERED] * 2
        assert api.members["7"] == {profiles[0], profiles[2], profiles[3]}
        assert api.received.unknown == 4
        assert api.received.ids == [5, 5]
        await told(braze, change([], ["external_id:a"], match="prefix"), change(sync={"resend": True}))
        assert api.members["7"] == {profiles[2], profiles[3]}, "whoever has left is not sent again"


async def test_another_braze_gets_everybody_before_the_next_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = [f"user-{number}" for number in range(1500)]
    async with CohortApi(named(*users)) as old, CohortApi(named(*users), unknown_cohort="refuse") as new:
        async with connected(old, tmp_path) as braze:
            await told(braze, change(users), change(users[:5], cohort="8", name="Others"))
            assert "another Braze" not in capsys.readouterr().out
        for _ in range(2):
            async with connected(new, tmp_path) as braze:
                assert ("another Braze" in capsys.readouterr().out) == (not new.received.ids)
                new.faults.extend([Fault(201), Fault(201), Fault(500)])
                await told_for_good(braze, [change([], ["user-0"], name="")])
                new.faults.clear()
                assert inside(new) == {*users[1:]}
                assert inside(new, "8") in (set(), {*users[:5]})
                await told(braze, change(cohort="8", name="", sync={"resend": True}))
                assert inside(new, "8") == {*users[:5]}
        assert inside(old) == {*users}, "it is not asked any more"
        assert new.received.names == {"7": ["Carts"], "8": ["Others", "Others"]}
        assert new.received.ids == [1000, 500, 1, 5, 1, 5], "nobody twice, but for the resync"


async def test_members_sent_to_one_braze_count_for_that_braze_alone(tmp_path: Path) -> None:
    users = [f"user-{number}" for number in range(1500)]
    async with CohortApi(named(*users)) as first, CohortApi(named(*users)) as second, CohortApi(named(*users)) as third:
        async with connected(first, tmp_path) as braze:
            await told(braze, change(users))
        async with connected(second, tmp_path) as braze:
            second.faults.extend([Fault(201), Fault(201), Fault(500)])
            assert isinstance((await told(braze, change()))[0], Retry)
            assert len(inside(second)) == 1000
        async with connected(third, tmp_path) as braze:
            await told_for_good(braze, [change()])
            assert inside(third) == {*users}


async def test_another_workspace_is_another_braze_and_its_key_is_nowhere(tmp_path: Path) -> None:
    async with CohortApi(named("a", "b")) as api:
        async with connected(api, tmp_path) as braze:
            await told(braze, change(["a"]))
        api.members.clear()
        api._keys["client_secret"] = "other-workspace"
        (tmp_path / "other").write_text("other-workspace")
        async with connected(api, tmp_path, data_import_key={"file": f"{tmp_path}/other"}) as braze:
            await told(braze, change(["b"]))
            assert inside(api) == {"a", "b"}
    assert not any(b"other-workspace" in path.read_bytes() for path in (tmp_path / "stores").iterdir())


async def test_what_attributes_cannot_take_is_left_out_when_the_mode_changes(tmp_path: Path) -> None:
    async with CohortApi(named("a", "b")) as api:
        async with connected(api, tmp_path) as braze:
            await told(braze, change(["external_id:a", "device_id:phone"], match="prefix"))
        async with connected(api, tmp_path, mode="attribute") as braze:
            assert await told(braze, change(["b"])) == [DELIVERED]
            assert [values["heap_cohort_7"] for values in api.attributes.values()] == [True, True]


async def test_who_is_erased_in_the_middle_of_a_change_is_in_no_file_either(tmp_path: Path) -> None:
    users = ["anna", *(f"user-{number}" for number in range(1500))]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        await told(braze, change(users))
        api.faults.extend([Fault(201), Fault(500)])
        assert isinstance((await told(braze, change([], users)))[0], Retry)
        await braze.erase([User(None, ("anna",))])
        assert not any(b"anna" in path.read_bytes() for path in (tmp_path / "stores").iterdir())


async def test_another_braze_is_not_asked_to_remove_whom_it_was_never_told_of(tmp_path: Path) -> None:
    async with CohortApi(named("a")) as old, CohortApi(named("a"), unknown_cohort="refuse") as new:
        async with connected(old, tmp_path) as braze:
            await told(braze, change(["a"]))
        async with connected(new, tmp_path) as braze:
            await braze.erase([User(None, ("a",))])
        assert known_members(tmp_path, "7") == []


async def test_large_changes_are_cut(tmp_path: Path) -> None:
    users = [f"user-{number}" for number in range(2500)]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        assert await told(braze, change(users)) == [DELIVERED]
        assert api.received.ids == [1000, 1000, 500]
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
        assert api.received.statuses[429] == 0, "it was told that none are left"
    async with CohortApi(named("a"), hourly=0) as api, connected(api, tmp_path) as braze:
        (refused,) = await told(braze, change(["a"], cohort="9"))
        assert isinstance(refused, Retry)
        assert 0 < (refused.after or 0) <= 3600


def test_no_hour_has_more_requests_than_braze_takes() -> None:
    budget = Budget(HourlyLimit(3, 3600))
    assert [budget.take(now) for now in (7200, 7201, 7202, 7203, 10799, 10800)] == [0, 0, 0, 3597, 1, 0]


def test_no_three_seconds_have_more_attribute_requests_than_braze_takes() -> None:
    assert (Partner.most, Partner.limit) == (1000, (250_000, 3600))
    budget, taken = Budget(Attributes.limit), list[float]()
    for now in (1000 + tick / 2000 for tick in range(14_000)):
        taken += [now] if not budget.take(now) else []
    most = max(sum(start <= moment < start + 3 for moment in taken) for start in taken[::50])
    assert (Attributes.most, most) == (75, 3000)


@pytest.mark.parametrize("style", ["boolean", "array"])
async def test_attributes_of_users_who_exist(tmp_path: Path, style: str) -> None:
    users = named(*(f"user-{number}" for number in range(100)), "crm")
    users[-1] = Profile(aliases=frozenset([("crm", "17")]))
    async with (
        CohortApi(users) as api,
        connected(api, tmp_path, mode="attribute", style=style) as braze,
    ):
        ids = [f"external_id:user-{number}" for number in range(101)]
        await told(braze, change([*ids, "alias:crm:17"], match="prefix"), change([], ["user-0"]))
        assert api.received.ids == [75, 27, 1]
        assert api.received.unknown == 1
        name, yes, no = ("heap_cohort_7", True, False) if style == "boolean" else ("heap_cohorts", ["7"], [])
        assert [api.attributes[user][name] for user in users] == [no] + [yes] * 100


async def test_users_with_a_kind_of_id_unknown_to_braze_are_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Device ids for attributes, e-mail addresses for cohorts; neither parks the change of the others. Looked at as
    well: aliases, which both take, and who is brought to another Braze. Arrays and names of attributes are below."""
    users = [*named("a", "b"), Profile("c", email="c@example.com")]
    for mode, lost, kept in (("attribute", "device_id", {"a", "c"}), ("cohort", "email", {"a"})):
        folder = tmp_path / mode
        folder.mkdir()
        async with CohortApi(users) as api, connected(api, folder, mode=mode) as braze:
            event = change(["external_id:a", "device_id:phone", "email:c@example.com"], match="prefix")
            assert await told(braze, event, change(["device_id:phone"], match="prefix")) == [DELIVERED] * 2
            tracked = {user.external_id for user, values in api.attributes.items() if values.get("heap_cohort_7")}
            assert (tracked if mode == "attribute" else inside(api)) == kept
            (known,) = known_cohorts(folder)
            assert known.left_out == (2 if mode == "attribute" else 1)
        said = capsys.readouterr().out
        assert "users left out: Braze cannot find them by such an id" in said
        assert lost in said


async def test_an_attribute_keeps_the_name_that_its_cohort_had_first(tmp_path: Path) -> None:
    async with CohortApi(named(*"abc")) as api:
        async with connected(api, tmp_path, mode="attribute", attribute="in_{name}") as braze:
            await told(
                braze,
                change(["a"], name="Köln: Lost  Carts!"),
                change(["b"], name="Renamed"),
                change(["c"], cohort="8", name="Koln lost carts"),
                change(["c"], cohort="9", name="東京"),
            )
        async with connected(api, tmp_path, mode="attribute", attribute="in_{name}") as braze:
            await told(braze, change([], ["a"], name="Renamed"))
        found = {user.external_id: values for user, values in api.attributes.items()}
        assert found["a"] == {"in_koln_lost_carts": False}
        assert found["b"] == {"in_koln_lost_carts": True}
        assert found["c"] == {"in_koln_lost_carts_8": True, "in_9": True}


async def test_an_array_that_overflows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        CohortApi(named("a", "b"), array_size=2) as api,
        connected(api, tmp_path, mode="attribute", style="array", array_size=2) as braze,
    ):
        for number in (1, 2, 3):
            braze._next_check = 0
            assert not braze.notice
            await told(braze, change(["a"], cohort=str(number)))
        assert [values["heap_cohorts"] for values in api.attributes.values()] == [["2", "3"]], "as Braze does it"
        assert braze.notice == "1 user is in more than 2 cohorts: Braze keeps the last 2 of an array"
        assert "array overflows" in capsys.readouterr().out


@pytest.mark.parametrize(("size", "warns"), [({}, True), ({"array_size": 100}, False)])
def test_check_warns_of_arrays_whose_size_is_not_said(size: dict[str, int], warns: bool) -> None:
    table = {"type": "braze_cohorts", "cluster": "EU-01", "mode": "attribute", "rest_key": {"env": "PATH"}}
    made = BrazeCohorts.Settings.model_validate(table | {"style": "array"} | size)
    assert [about for about, reason in made.warnings() if "keeps 25 elements" in reason] == (["style"] if warns else [])


@pytest.mark.parametrize(
    "body", [{"cohort": None}, {"match": "phone"}, {"match": 7}, {"add": [None]}, {"sync": {"page": "first"}}]
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
    found = [*split_portions(coming, leaving, most)]
    assert [member for portion in found for member in portion.add] == coming
    assert [member for portion in found for member in portion.remove] == leaving
    assert all(0 < len(portion.add) + len(portion.remove) <= most for portion in found)


USERS = st.lists(st.sampled_from("abcdef"), max_size=4)
FAULTS = st.sampled_from([Fault(500), Fault(500, applied=True), Fault(423), Fault(503)])
STEP = st.tuples(st.sampled_from(["change", "change", "full", "torn"]), st.sampled_from(["7", "8"]), USERS, USERS)
BATCH = st.tuples(st.lists(STEP, max_size=5), st.lists(FAULTS, max_size=4), st.booleans())


def step_event(number: int, step: Any) -> Event:
    what, cohort, add, remove = step
    sync = {"task": str(number), "full": what != "change", "pages": 2 if what == "torn" else 1}
    return change(add, remove if what == "change" else [], cohort=cohort, sync=sync)


def members_after(before: dict[str, set[str]], step: Any) -> None:
    what, cohort, add, remove = step
    gone = {"change": set(remove), "full": set(before[cohort]), "torn": set()}[what]
    before[cohort] = (before[cohort] - gone) | set(add)


async def told_for_good(connector: BrazeCohorts, events: list[Event]) -> None:
    """As the lane does: what has to come again does, in its order."""
    while events:
        outcomes = await connector.deliver(Batch([Block.of([event]) for event in events]))
        assert all(isinstance(outcome, Retry) or outcome == DELIVERED for outcome in outcomes)
        events = [event for event, outcome in zip(events, outcomes, strict=True) if outcome != DELIVERED]


@given(st.lists(BATCH, max_size=5))
def test_whatever_happens_the_membership_is_right_in_the_end(batches: list[Any]) -> None:
    async def play() -> None:
        expected: dict[str, set[str]] = {"7": set(), "8": set()}
        numbers = count()
        with TemporaryDirectory() as folder:
            async with CohortApi(named(*"abcdef")) as api, connected(api, Path(folder)) as braze:
                for steps, faults, twice in batches:
                    api.faults.extend(faults)
                    events = [step_event(next(numbers), step) for step in steps]
                    for _ in range(1 + twice):
                        await told_for_good(braze, events)
                        for step in steps:
                            members_after(expected, step)
                assert {cohort: inside(api, cohort) for cohort in expected} == expected
                assert api.received.conflicts == 0
                known = {cohort.id: cohort.members for cohort in known_cohorts(Path(folder))}
                assert known == {cohort: len(expected[cohort]) for cohort in known}

    asyncio.run(play())


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({}, "either cluster or endpoint"),
        ({"cluster": "US-99"}, "there is no US-99"),
        ({"cluster": "EU-01", "partner": "heap"}, "partner_key is missing"),
        ({"cluster": "EU-01", "mode": "attribute"}, "rest_key is missing"),
        (
            {"cluster": "EU-01", "mode": "attribute", "rest_key": {"env": "PATH"}, "attribute": "vip"},
            "neither {id} nor {name}",
        ),
        (
            {"cluster": "EU-01", "mode": "attribute", "rest_key": {"env": "PATH"}, "partner": "heap"},
            'partner is for mode = "cohort"',
        ),
    ],
)
def test_what_is_missing_or_does_not_belong_is_a_mistake(table: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError, match=mistake):
        BrazeCohorts.Settings.model_validate({"type": "braze_cohorts"} | table)


async def test_who_is_erased_is_in_no_file_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [*(f"user-{number}" for number in range(3000)), "anna-77"]
    async with CohortApi(named(*users)) as api, connected(api, tmp_path) as braze:
        await told(braze, change(users), change(users, cohort="8"))
        gone = [User("5f3a", ("user-1234", "anna-77")), User("5f3b")]
        api.faults.append(Fault(503))
        assert [type(outcome) for outcome in await braze.erase(gone)] == [Retry, type(DELIVERED)]
        assert "anna-77" in inside(api), "it is not forgotten either"
        assert await braze.erase(gone) == [
            DELIVERED,
            Delivered("not looked for: external ids: none is known"),
        ]
        assert inside(api) == inside(api, "8") == {*users} - {"user-1234", "anna-77"}
        assert api.received.ids[-2:] == [2, 2]
        found = [*(tmp_path / "stores").iterdir()]
        assert not any(one in path.read_bytes() for path in found for one in (b"user-1234", b"anna-77", b"5f3a"))
        known = {member.id for member in known_members(tmp_path, "7")}
        assert known == {*users} - {"user-1234", "anna-77"}
        monkeypatch.setattr("relay.state.plugin_store.LOCKED_S", 0.05)
        await braze.store.close()
        reading = EmbeddedStores(tmp_path).read("braze_cohorts", "braze")
        with reading, pytest.raises(Retry, match="another process is reading"):
            await braze.erase([User(None, ("user-5",))])
        await braze.erase([User(None, ("user-5",))])
