"""Whose an event is, however its sender has written the ids, and what is left of events when users are erased."""

import json
from typing import Any

import orjson
import pytest

from relay.api import ERASED, Kind, OtherId, User
from relay.store.block import make_block
from relay.store.users import Erased, Wanted, find_user

ODD = 'Änn"a\\7/\u2028ü😀'
WANTED = Wanted({1: User("5f3a"), 2: User("77", ("anna", ODD, "7")), 3: User(None, ("anna",))})
NOBODY: set[int] = set()


def event(user: Any, **more: Any) -> dict[str, Any]:
    return {"event_type": "t", "id": "1", "user": user} | more


@pytest.mark.parametrize(
    ("data", "whose"),
    [
        (event({"user_id": "5f3a", "external_user_id": "bert"}), {1}),
        (event({"user_id": "5f3a", "external_user_id": "anna"}), {1, 2, 3}),
        (event({"external_user_id": "anna"}), {2, 3}),
        (event({"external_user_id": ODD}), {2}),
        (event({"user_id": 77}), {2}),
        (event({"external_user_id": 7}), {2}),
        (event({"user_id": "anna", "external_user_id": "5f3a"}), NOBODY),
        (event({"user_id": "5F3A"}), NOBODY),
        (event({"user_id": "5f3a1", "external_user_id": "ann"}), NOBODY),
        (event({"user_id": None, "external_user_id": ""}), NOBODY),
        (event({"user_id": True, "external_user_id": ["anna"]}), NOBODY),
        (event({"device_id": "5f3a"}), NOBODY),
        (event({}), NOBODY),
        (event(None), NOBODY),
        (event("5f3a"), NOBODY),
        (event(["5f3a"]), NOBODY),
        (event({"user_id": "5f3a"}, properties="text"), {1}),
        (event({"user_id": "x"}, properties=7), NOBODY),
        (event({"user_id": "x"}, properties={"orphaned_by_id": "5f3a"}), {1}),
        (event({"user_id": "x"}, properties={"name": "5f3a", "user_id": "5f3a"}), NOBODY),
        ({"user_id": "5f3a"}, NOBODY),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_an_event_is_whose_ids_it_has_under_user(data: dict[str, Any], whose: set[int], plain: bool) -> None:
    body = json.dumps(data, ensure_ascii=plain, indent=2).encode()
    assert WANTED.find_numbers(body) == whose


DEVICE, ALIAS = OtherId("device_id", "phone"), OtherId("alias:crm:eu", "a:17")


@pytest.mark.parametrize(
    ("match", "entry", "named"),
    [
        ("device_id", "phone", True),
        ("prefix", "device_id:phone", True),
        ("prefix", "phone", False),
        ("external_id", "phone", False),
        ({"alias_label": "crm:eu"}, "a:17", True),
        ({"alias_label": "crm"}, "a:17", False),
        ("alias:crm:eu", "a:17", True),
        ("email", "phone", False),
        (None, "phone", False),
    ],
)
def test_changes_of_cohorts_lose_the_user_by_whatever_id(match: Any, entry: str, named: bool) -> None:
    wanted = Wanted({1: User("5f3a", (), (DEVICE, ALIAS))})
    change = {"event_type": "cohort.Change", "id": "1", "match": match, "add": ["other"], "remove": [entry]}
    rest, whose = wanted.remove_users("cohort.Change", orjson.dumps(change))
    assert (whose, json.loads(rest)["remove"]) == (({1}, []) if named else (NOBODY, [entry]))


def test_all_ids_are_learnt_from_the_users_own_events() -> None:
    bodies = [
        event({"user_id": "5f3a", "external_user_id": "a1", "device_id": "phone"}),
        event({"user_id": "other", "external_user_id": "known", "device_id": "tablet"}),
        event({"user_id": "5f3a"}, properties={"email_address": "a@example.com"}),
        event({"user_id": "bert", "external_user_id": "b1", "device_id": "watch"}),
    ]
    found = Wanted({1: User("5f3a", ("known",))}).find_more_ids(map(orjson.dumps, bodies))
    others = (OtherId("device_id", "phone"), OtherId("device_id", "tablet"), OtherId("email", "a@example.com"))
    assert found == {1: User(None, ("a1",), others)}


def test_a_device_that_others_have_too_makes_their_events_nobodys() -> None:
    wanted = Wanted({1: User("5f3a", (), (DEVICE,))})
    assert wanted.find_numbers(orjson.dumps(event({"user_id": "bert", "device_id": "phone"}))) == NOBODY
    assert wanted.find_by_key("phone") == NOBODY
    assert wanted.hide("no user with the device phone") == "no user with the device ..."


@pytest.mark.parametrize("written", [r'"\u0035f3a"', r'"5f3\u0061"', '"5f3a"'])
def test_escapes_hide_nobody(written: str) -> None:
    assert WANTED.find_numbers(b'{"user":{"user_id":%s}}' % written.encode()) == {1}


@pytest.mark.parametrize("body", [b"no json", b'{"user":{"user_id":"5f3a"', b"[1]", b"\xff", b"[" * 100_000])
def test_what_cannot_be_read_is_nobodys(body: bytes) -> None:
    assert WANTED.find_numbers(body) == NOBODY
    assert find_user(body) == User(None)


def test_what_braze_has_redacted_is_no_id_of_anybody() -> None:
    everybody = Wanted({1: User("[REDACTED]", ("[REDACTED]",))})
    body = b'{"user":{"user_id":"[REDACTED]","external_user_id":"[REDACTED]"}}'
    assert everybody.find_numbers(body) == NOBODY
    assert find_user(body) == User(None)


def test_the_user_of_an_event() -> None:
    assert find_user(b'{"user":{"user_id":"a","external_user_id":5}}') == User("a", ("5",))
    assert find_user(b'{"user":{"external_user_id":"b"}}') == User(None, ("b",))
    assert find_user(b'{"id":"1"}') == User(None)


@pytest.mark.parametrize(
    ("match", "users", "rest"),
    [
        ("external_id", ["anna", "bert", 7], ["bert"]),
        (None, ["anna", "bert"], ["bert"]),
        ("prefix", ["external_id:anna", "alias:crm:anna", "anna", "bert"], ["alias:crm:anna", "bert"]),
        ("device_id", ["anna", "bert"], None),
        ("alias:crm", ["anna", "bert"], None),
        ("external_id", ["bert"], None),
    ],
)
def test_a_change_of_a_cohort_loses_the_users_and_no_one_else(
    match: str | None, users: list[Any], rest: list[Any] | None
) -> None:
    data = {"cohort": {"id": "anna"}, "remove": users, "add": ["carl"]} | ({"match": match} if match else {})
    body, named = WANTED.remove_users("cohort.Change", orjson.dumps(data))
    assert orjson.loads(body) == data | {"remove": users if rest is None else rest}
    assert bool(named) == (rest is not None)


def test_a_user_in_both_lists_is_in_neither_after_that() -> None:
    body, named = WANTED.remove_users("cohort.Change", b'{"add":["bert"],"remove":["anna","bert"]}')
    assert (orjson.loads(body), named) == ({"add": ["bert"], "remove": ["bert"]}, {2, 3})
    body, named = WANTED.remove_users("cohort.Change", b'{"add":["anna"],"remove":["anna"]}')
    assert (orjson.loads(body), named) == ({"add": [], "remove": []}, {2, 3})


@pytest.mark.parametrize(
    ("text", "whose", "hidden"),
    [
        ("no user 5f3a here", {1}, "no user ... here"),
        ('{"id":"anna"}', {2, 3}, '{"id":"..."}'),
        ("joanna, annabel, anna_1, 5f3a5, 17", NOBODY, None),
        ("7", {2}, "..."),
        (f"about {ODD}.", {2}, "about ...."),
        (r"about \u0035f3a", {1}, None),
    ],
)
def test_texts_name_who_stands_in_them_alone(text: str, whose: set[int], hidden: str | None) -> None:
    assert WANTED.find_named(text) == whose
    assert WANTED.hide(text) == (hidden or text)


def test_a_block_keeps_its_offsets_and_everybody_elses_bytes() -> None:
    mine, change = Kind("s", "t", "uuid"), Kind("segments", "cohort.Change")
    bodies = [b'{"user": {"user_id":"5f3a"}}', b'{ "user":{"user_id":"b"}}', b'{"add":["anna","b"]}', b'{"x":1}']
    block = make_block(40, 1_790_000_000_123_456, [mine, mine, change, mine], bodies)
    erased = Erased(block, WANTED)
    assert (erased.erased, erased.changed) == ({40: {1}}, {42: {2, 3}})
    left = erased.block
    assert (list(left.offsets), left.received) == ([40, 41, 42, 43], block.received)
    assert left.bodies() == [b"{}", bodies[1], b'{"add":["b"]}', bodies[3]]
    kinds = [left.kinds[kind] for kind in left.index]
    assert kinds == [ERASED, mine, change, mine]
    assert [kind.is_erased for kind in kinds] == [True, False, False, False]
    again = Erased(left, WANTED)
    assert again.block is left


def test_no_source_can_make_an_event_that_passes_for_an_erased_one() -> None:
    assert not Kind("braze", "relay.erased").is_erased
    assert not Kind("", "other").is_erased
