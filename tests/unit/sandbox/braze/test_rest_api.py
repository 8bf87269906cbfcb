"""Braze's cohort API as others see it over HTTP."""

import asyncio
import io
from typing import Any

import aiohttp
import pytest

from relay.sandbox.braze.profiles import Profile
from relay.sandbox.braze.rest_api import CohortApi
from relay.sandbox.server import Fault

KEYS = {"partner_api_key": "partner", "client_secret": "import", "cohort_id": "7"}
NAMED = {"name": "Carts", "created_at": "2026-01-31T12:00:00+01:00"}
USERS = [
    Profile("anna", devices=frozenset({"phone"})),
    Profile(aliases=frozenset({("crm", "17")}), devices=frozenset({"watch"})),
    Profile(devices=frozenset({"tablet"})),
]
BIG = b"[" + b"1," * (2 << 20) + b"1]"
ALIAS = {"alias_label": "crm", "alias_name": "17"}


async def call(url: str, body: Any, **options: Any) -> tuple[int, str]:
    options = {key: io.BytesIO(value) if value is BIG else value for key, value in options.items()}
    async with aiohttp.ClientSession() as http, http.post(url, **{"json": body} | options) as answer:
        return answer.status, (await answer.json())["message"]


async def name(api: CohortApi, **fields: Any) -> tuple[int, str]:
    return await call(f"{api.url}/partners/heap/cohorts", KEYS | NAMED | fields)


async def change(api: CohortApi, *changes: Any, **fields: Any) -> tuple[int, str]:
    return await call(f"{api.url}/partners/heap/cohorts/users", KEYS | {"cohort_changes": changes} | fields)


def inside(api: CohortApi, cohort: str = "7") -> set[str]:
    return {profile.name for profile in api.profiles.find_members(cohort)}


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"partner_api_key": "other"}, 401, "partner_api_key"),
        ({"client_secret": None}, 401, "client_secret"),
        ({"cohort_id": 7}, 400, "cohort_id"),
        ({"cohort_id": ""}, 400, "cohort_id"),
        ({"name": ""}, 400, "name"),
        ({"name": 1}, 400, "name"),
        ({"created_at": "yesterday"}, 400, "created_at"),
        ({"created_at": 20260131}, 400, "created_at"),
        ({"cohort_changes": None}, 400, "cohort_changes"),
        ({"cohort_changes": ["anna"]}, 400, "cohort_changes"),
        ({"cohort_changes": [{}]}, 400, "user_ids, device_ids or aliases"),
        ({"cohort_changes": [{"user_ids": "anna"}]}, 400, "user_ids must be an array"),
        ({"cohort_changes": [{"device_ids": [5]}]}, 400, "device_ids must hold strings"),
        ({"cohort_changes": [{"aliases": ["crm"]}]}, 400, "alias_name and alias_label"),
        ({"cohort_changes": [{"aliases": [{"alias_name": "17"}]}]}, 400, "alias_name and alias_label"),
        ({"cohort_changes": [{"user_ids": [], "should_remove": "yes"}]}, 400, "should_remove"),
        ({"cohort_changes": [{"user_ids": ["x"] * 600}, {"device_ids": ["x"] * 401}]}, 400, "more than 1000"),
        ({"cohort_changes": [{"aliases": [ALIAS] * 501, "user_ids": ["x"] * 500}]}, 400, "more than 1000"),
    ],
)
async def test_what_is_wrong_is_named(fields, status, said):
    async with CohortApi(USERS) as api:
        answer = await (change if "cohort_changes" in fields else name)(api, **fields)
    assert answer[0] == status
    assert said in answer[1]
    assert not api.received.names
    assert not api.received.ids


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"data": b"{}", "json": None, "headers": {"Content-Type": "text/plain"}}, 415),
        ({"data": b"{", "json": None, "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": []}, 400),
        ({"data": BIG, "json": None, "headers": {"Content-Type": "application/json"}}, 413),
    ],
)
async def test_bodies_that_are_none(options, status):
    async with CohortApi(USERS) as api:
        for path in ("cohorts", "cohorts/users"):
            assert (await call(f"{api.url}/partners/heap/{path}", None, **options))[0] == status


async def test_changes_are_applied_in_their_order_and_removing_must_be_said():
    async with CohortApi(USERS) as api:
        await change(api, {"user_ids": ["anna"]}, {"user_ids": ["anna"], "should_remove": True})
        assert inside(api) == set()
        await change(api, {"user_ids": ["anna"], "should_remove": True}, {"user_ids": ["anna"], "should_remove": False})
        assert inside(api) == {"anna"}


async def test_only_known_users_enter_and_devices_only_of_anonymous_ones():
    async with CohortApi(USERS) as api:
        await change(api, {"device_ids": ["phone", "watch", "tablet", "fridge"], "user_ids": ["nobody"]})
        assert inside(api) == {"tablet"}
        assert api.received.unknown == 4
        assert len(api.profiles.all) == 3
        await change(api, {"user_ids": ["anna"], "aliases": [ALIAS]})
        await change(api, {"device_ids": ["phone", "tablet"], "should_remove": True})
        assert inside(api) == {"anna", "crm:17"}


async def test_user_ids_may_hold_all_kinds_of_ids():
    async with CohortApi(USERS) as api:
        await change(api, {"user_ids": ["anna", "tablet", "phone", ALIAS]})
        assert inside(api) == {"anna", "tablet", "crm:17"}
        assert api.received.unknown == 1


async def test_a_cohort_is_renamed_by_naming_it_again_and_segments_go_by_names():
    async with CohortApi(USERS, success=200) as api:
        assert await name(api) == (200, "success")
        await name(api, name="Lost carts")
        await change(api, {"user_ids": ["anna", "tablet"]})
        await change(api, {"user_ids": ["tablet"]}, cohort_id="8")
        assert api.received.names["7"] == ["Carts", "Lost carts"]
        assert {one.name for one in api.find_audience(["Lost carts"], ["8"])} == {"anna"}
        assert {one.name for one in api.find_audience([], ["7"])} == {"crm:17"}
        assert api.find_audience(["Carts"]) == set()


async def test_switches_refuse_unnamed_cohorts_and_disabled_partners():
    async with CohortApi(USERS, unknown_cohort="refuse") as api:
        assert (await change(api, {"user_ids": ["anna"]}))[0] == 400
        await name(api)
        assert (await change(api, {"user_ids": ["anna"]}))[0] == 201
        api.switches = api.switches.replace(partner_enabled=False)
        assert await name(api) == (401, "the partner is not enabled for this customer")


async def test_two_changes_of_a_cohort_at_a_time_are_one_too_many():
    async with CohortApi(USERS, delay=0.1) as api:
        both = await asyncio.gather(*(change(api, {"user_ids": ["anna"]}) for _ in range(2)))
        others = await asyncio.gather(*(change(api, {"user_ids": ["anna"]}, cohort_id=one) for one in "89"))
    assert sorted(status for status, _ in both) == [201, 423]
    assert [status for status, _ in others] == [201, 201]
    assert api.received.conflicts == 1


async def test_requests_are_counted_by_the_hour_and_answers_say_how_many_remain():
    now = 3600.0 * 100 + 3000
    async with CohortApi(USERS, hourly=2, clock=lambda: now) as api, aiohttp.ClientSession() as http:
        seen = []
        for status in (0, 500, 0, 0):
            api.faults.extend([status] if status else [])
            now += 900 if len(seen) == 3 else 0
            async with http.post(f"{api.url}/users/track", json={}, headers={"Authorization": "Bearer rest"}) as answer:
                left = [int(answer.headers[f"x-ratelimit-{what}"]) for what in ("limit", "remaining", "reset")]
                seen.append((answer.status, *left))
    assert seen == [(201, 2, 1, 363600), (500, 2, 0, 363600), (429, 2, 0, 363600), (201, 2, 1, 367200)]


@pytest.mark.parametrize("wrong", [{"add": 5}, {"add": ["c"], "remove": True}])
@pytest.mark.parametrize("before", [True, "text", ["a"]])
async def test_what_no_array_can_be_made_of_is_told_and_the_others_are_taken(before: Any, wrong: Any) -> None:
    bearer = {"Authorization": "Bearer rest"}
    async with CohortApi(USERS) as api, aiohttp.ClientSession(headers=bearer) as http:

        async def track(*values: Any) -> tuple[int, Any]:
            objects = [{"external_id": "anna"} | each for each in values]
            async with http.post(f"{api.url}/users/track", json={"attributes": objects}) as answer:
                return answer.status, (await answer.json()).get("errors")

        assert await track({"x": before}) == (201, None)
        status, (error,) = await track({"y": ["b"]}, {"x": wrong}, {"y": {"add": ["c"]}})
        assert (status, error["input_array"], error["index"]) == (201, "attributes", 1)
        assert api.attributes[USERS[0]] == {"x": before, "y": ["b", "c"]}
        status, errors = await track({"x": {"add": ["c"]}})
        assert (status, bool(errors)) == (201, not isinstance(before, list))
        assert (await track({"external_id": ["anna"], "x": 1}))[0] == 400


async def test_faults_with_and_without_effect():
    async with CohortApi(USERS) as api:
        api.faults.extend([500, Fault(status=502, applied=True), Fault(cut=True), Fault(status=201, delay=0.01)])
        assert (await change(api, {"user_ids": ["anna"]}))[0] == 500
        assert inside(api) == set()
        assert (await change(api, {"user_ids": ["anna"]}))[0] == 502
        assert inside(api) == {"anna"}
        with pytest.raises(aiohttp.ClientError):
            await change(api, {"user_ids": ["anna"], "should_remove": True})
        assert (await change(api, {"user_ids": ["x", "tablet"]}))[0] == 201
        assert inside(api) == {"anna", "tablet"}, (
            "an answer of success is none without the effect, unless that is wanted"
        )
        api.faults.append(Fault(status=201, applied=False))
        assert (await change(api, {"user_ids": ["tablet"], "should_remove": True}))[0] == 201
        assert inside(api) == {"anna", "tablet"}
        api.switches = api.switches.replace(fail=1, fail_status=503, fail_applied=True)
        assert (await change(api, {"user_ids": ["anna", "tablet"], "should_remove": True}))[0] == 503
        assert inside(api) == set()
