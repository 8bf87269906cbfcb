"""Erasures from Braze cohorts: who is erased is in no cohort and in no file, whatever else is on its way."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.api import DELIVERED, Delivered, OtherId, Reject, Retry, User
from relay.sandbox.braze.rest_api import CohortApi, Fault, Profile
from relay.testing import Answer, Destination
from tests.unit.plugins.braze_cohorts.cohort_changes import (
    change,
    connected,
    inside,
    known_cohorts,
    known_members,
    told,
)

USERS = ["anna", *(f"user-{number}" for number in range(1500))]
ANNA = User("5f3a", ("anna",))


def api_of(users: Sequence[str] = USERS, **switches: Any) -> CohortApi:
    return CohortApi([Profile(user) for user in users], **switches)


def files_name(user: str, folder: Path) -> bool:
    return any(user.encode() in path.read_bytes() for path in (folder / "stores").iterdir())


async def came(api: CohortApi) -> None:
    """The request with the last fault is with Braze."""
    async with asyncio.timeout(30):
        while api.faults:
            await asyncio.sleep(0.001)


async def test_a_user_erased_during_a_full_resend_is_not_sent_afterwards(tmp_path: Path) -> None:
    async with api_of() as api, connected(api, tmp_path) as braze:
        await told(braze, change(USERS))
        api.faults.append(Fault(201, delay=0.3))
        async with asyncio.TaskGroup() as tasks:
            again = tasks.create_task(told(braze, change(sync={"resend": True})))
            await came(api)
            tasks.create_task(braze.erase([ANNA]))
        assert again.result() == [DELIVERED]
        assert inside(api) == {*USERS} - {"anna"}
        assert not files_name("anna", tmp_path)


async def test_who_was_the_last_of_an_interrupted_resend_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay_plugins.braze_cohorts.store.SAVED", 1)
    monkeypatch.setattr("relay_plugins.braze_cohorts.store.PAGE", 1000)
    last = sorted(USERS)[999]
    async with api_of() as api, connected(api, tmp_path) as braze:
        await told(braze, change(USERS))
        api.faults.extend([Fault(201), Fault(201), Fault(500)])  # the name, 1,000 users, and no others
        again = change(sync={"resend": True})
        assert isinstance((await told(braze, again))[0], Retry)
        assert await braze.erase([User(None, (last,))]) == [DELIVERED]
        assert not files_name(last, tmp_path)
        sent = len(api.received.ids)
        assert await told(braze, again) == [DELIVERED]
        assert api.received.ids[sent:] == [501], "nobody is told twice"


async def test_who_comes_in_while_they_are_taken_out_is_known(tmp_path: Path) -> None:
    async with api_of() as api, connected(api, tmp_path) as braze:
        await told(braze, change(["anna"]), change(["user-1"], cohort="8"))
        api.faults.append(Fault(201, delay=0.3))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(braze.erase([ANNA]))
            await came(api)
            tasks.create_task(told(braze, change(["anna"], cohort="8")))
            tasks.create_task(told(braze, change(["anna"])))
        assert {cohort: {one.id for one in known_members(tmp_path, cohort)} for cohort in "78"} == {
            cohort: inside(api, cohort) for cohort in "78"
        }


async def test_a_cohort_does_not_wait_for_another_one(tmp_path: Path) -> None:
    async with api_of() as api, connected(api, tmp_path) as braze:
        await told(braze, change(["anna"]))
        api.faults.append(Fault(201, delay=0.5))
        async with asyncio.TaskGroup() as tasks:
            erased = tasks.create_task(braze.erase([ANNA]))
            await came(api)
            assert await told(braze, change(["user-1"], cohort="8")) == [DELIVERED]
            assert not erased.done()


async def test_a_failing_cohort_stops_no_erasure_in_other_cohorts(tmp_path: Path) -> None:
    async with api_of() as api, connected(api, tmp_path) as braze:
        await told(braze, change(["anna"]), change(["anna", "user-1"], cohort="8"), change(["user-2"], cohort="9"))
        users = [User(None, (one,)) for one in ("anna", "user-1", "user-2")]
        api.faults.extend([Fault(423), Fault(201), Fault(201)])
        outcomes = await braze.erase(users)
        assert [type(outcome) for outcome in outcomes] == [Retry, type(DELIVERED), type(DELIVERED)]
        assert [inside(api, cohort) for cohort in "789"] == [{"anna"}, set(), set()]
        assert not files_name("user-1", tmp_path), "who is gone everywhere is in no file"
        api.faults.append(Fault(400))
        assert isinstance((await braze.erase([ANNA]))[0], Reject)
        sent = len(api.received.ids)
        assert await braze.erase(users) == [DELIVERED] * 3
        assert api.received.ids[sent:] == [1], "only what is left"


async def test_what_was_taken_out_before_a_failure_is_not_taken_out_again(tmp_path: Path) -> None:
    async with api_of() as api, connected(api, tmp_path) as braze:
        await told(braze, change(USERS))
        everybody = [User(None, tuple(USERS))]
        api.faults.extend([Fault(201), Fault(503)])
        assert isinstance((await braze.erase(everybody))[0], Retry)
        assert await braze.erase(everybody) == [DELIVERED]
        assert (inside(api), api.received.ids[2:]) == (set(), [1000, 501])


async def test_what_braze_does_not_take_of_an_erasure_is_told_without_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = Answer(status=201, body=b'{"message":"success","errors":["no such user: anna"]}')
    async with Destination(201, 201, said) as api, connected(api, tmp_path) as braze:
        await told(braze, change(["anna"]))
        assert await braze.erase([ANNA]) == [DELIVERED]
        assert known_cohorts(tmp_path)[0].errors == 1
        logged = capsys.readouterr().out
        assert "Braze took a change only in part" in logged
        assert "anna" not in logged


async def test_who_was_brought_to_another_braze_already_is_taken_out_of_it(tmp_path: Path) -> None:
    async with api_of() as old, api_of(unknown_cohort="refuse") as new:
        async with connected(old, tmp_path) as braze:
            await told(braze, change(USERS))
        async with connected(new, tmp_path) as braze:
            new.faults.extend([Fault(201), Fault(201), Fault(400)])
            assert isinstance((await told(braze, change()))[0], Reject)
            last = "user-999"
            assert "anna" in inside(new)
            assert last not in inside(new)
            assert await braze.erase([ANNA, User(None, (last,))]) == [DELIVERED] * 2
            assert "anna" not in inside(new)
            assert new.received.ids == [1000, 1], "nobody who is not there"
            assert await told(braze, change()) == [DELIVERED]
            assert inside(new) == {*USERS} - {"anna", last}


async def test_what_braze_said_last_is_forgotten_with_anybody(tmp_path: Path) -> None:
    said = Answer(status=201, body=b'{"message":"success","errors":["no such user: anna"]}')
    async with Destination(201, said) as api, connected(api, tmp_path) as braze:
        await told(braze, change(["anna"]))
        (known,) = known_cohorts(tmp_path)
        assert known.last_error == "no such user: anna"
        assert await braze.erase([ANNA]) == [DELIVERED]
        (known,) = known_cohorts(tmp_path)
        assert (known.errors, known.last_error) == (1, "")
        assert not files_name("anna", tmp_path)


async def test_whom_braze_took_without_a_word_is_taken_out(tmp_path: Path) -> None:
    async with api_of() as api:
        async with connected(api, tmp_path) as braze:
            api.faults.extend([Fault(201), Fault(500, applied=True), Fault(400)])
            assert [type(outcome) for outcome in await told(braze, change(["anna"]), change(["anna"]))] == [
                Retry,
                Reject,
            ]
            assert inside(api) == {"anna"}
        async with connected(api, tmp_path) as braze:
            assert await braze.erase([ANNA]) == [DELIVERED]
            assert inside(api) == set()
            assert not files_name("anna", tmp_path)


async def test_an_erasure_skips_users_that_braze_refused_or_has_removed(tmp_path: Path) -> None:
    async with api_of() as api, connected(api, tmp_path) as braze:
        api.faults.extend([Fault(201), Fault(400), Fault(500)])
        await told(braze, change(["anna"]), change(["user-1"]), change([], ["user-1"]))
        assert await braze.erase([ANNA, User(None, ("user-1",))]) == [DELIVERED] * 2
        assert api.received.ids == [1]


async def test_an_erasure_uses_every_id_and_the_receipt_says_what_is_unknown(tmp_path: Path) -> None:
    """External ids, device ids and aliases; e-mail addresses are in cohorts of the mode `attribute` alone."""
    anna = Profile("anna", aliases=frozenset([("crm", "17")]))
    async with (
        CohortApi([anna, Profile(devices=frozenset(["phone"])), Profile("bert")]) as api,
        connected(api, tmp_path) as braze,
    ):
        ids = ["external_id:anna", "alias:crm:17", "device_id:phone", "external_id:bert"]
        await told(braze, change(ids, match="prefix"))
        device, alias = OtherId("device_id", "phone"), OtherId("alias:crm", "17")
        (outcome,) = await braze.erase([User("5f3a", ("anna",), (device,))])
        aliases = "not looked for: aliases: the request named none (relay erasures request --alias)"
        assert outcome == Delivered(aliases)
        assert not files_name("anna", tmp_path)
        assert not files_name("phone", tmp_path)
        left = known_members(tmp_path, "7")
        assert [*left] == [("alias:crm", "17"), ("external_id", "bert")]
        assert await braze.erase([User("5f3a", ("anna",), (device, alias))]) == [DELIVERED]
        assert inside(api) == {"bert"}
        assert [*known_members(tmp_path, "7")] == [("external_id", "bert")]
