"""The source type `heap_segments`: pages of a segment sync become changes of a cohort."""

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.api import Denied, Malformed, Request
from relay_plugins.heap_segments import HeapSegments
from relay_plugins.heap_segments.page import ID_CHARS, MOST_WITHOUT_ID
from relay_plugins.heap_segments.source import NAME_CHARS, USERS
from relay_plugins.heap_segments.sync_watch import SavedPage
from tests.deep import LEVELS, refused

SECRET = "whispered"
NO_SEGMENT = b'{"action_type":"segment.users.sync","data":{"add":[{"id":"a"}]}}'


def source(tmp_path: Path, **settings: Any) -> HeapSegments:
    (tmp_path / "secret").write_text(SECRET)
    made = HeapSegments.Settings.model_validate({"type": "heap_segments", "path": "/segments"} | settings)
    return HeapSegments("heap", made)


def signed(tmp_path: Path, **settings: Any) -> HeapSegments:
    return source(tmp_path, secret={"file": str(tmp_path / "secret")}, **settings)


def page(
    *, add: int = 0, remove: int = 0, number: int = 1, pages: int = 1, task: str = "t1", **more: Any
) -> dict[str, Any]:
    return {
        "id_token": "0e6f",
        "action_type": "segment.users.sync",
        "customer_config": {"fields": []},
        "data": {
            "segment": {"id": 9007199254740993, "name": "Lost carts"},
            "sync_info": {"page_number": number, "total_pages": pages, "sync_task_id": task},
            "add": [{"id": f"in-{n}"} for n in range(add)],
            "remove": [{"id": f"out-{n}"} for n in range(remove)],
        },
    } | more


def header(body: bytes, *, at: float | None = None, secret: str = SECRET) -> dict[str, str]:
    stamp = round((time.time() if at is None else at) * 1000)
    digest = hmac.digest(secret.encode(), str(stamp).encode() + body, "sha256")
    return {"Heap-Hash": f"ts:{stamp},hmac:{base64.b64encode(digest).decode()}"}


def changes(made: HeapSegments, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [orjson.loads(one) for one in made.decode(Request(orjson.dumps(body))).bodies]


def test_a_page_becomes_one_change(tmp_path: Path) -> None:
    (change,) = changes(source(tmp_path), page(add=1, number=2, pages=3))
    assert change.pop("time") == pytest.approx(time.time(), abs=2)
    assert change.pop("id").startswith("heap:9007199254740993:t1:2:0:")
    assert change == {
        "event_type": "cohort.Change",
        "cohort": {"id": "9007199254740993", "name": "Lost carts"},
        "match": "external_id",
        "add": ["in-0"],
        "remove": [],
        "sync": {"task": "t1", "page": 2, "pages": 3, "part": 0, "parts": 1, "full": False},
    }


def test_a_large_page_becomes_several_changes_with_ids_of_their_own(tmp_path: Path) -> None:
    made = source(tmp_path)
    found = changes(made, page(add=USERS + 1, remove=3))
    assert [(len(one["add"]), len(one["remove"])) for one in found] == [(USERS, 0), (1, 0), (0, 3)]
    assert [one["sync"]["part"] for one in found] == [0, 1, 2]
    assert len({one["id"] for one in found}) == 3
    assert [one["id"] for one in changes(made, page(add=USERS + 1, remove=3))] == [one["id"] for one in found]


@pytest.mark.parametrize(
    ("match", "told"),
    [
        ("external_id", "external_id"),
        ("device_id", "device_id"),
        ("prefix", "prefix"),
        ("alias:crm", {"alias_label": "crm"}),
    ],
)
def test_what_the_ids_are_is_passed_on(tmp_path: Path, match: str, told: Any) -> None:
    assert changes(source(tmp_path, match=match), page(add=1))[0]["match"] == told


def test_a_page_without_users_renames_and_a_drain_empties_the_cohort(tmp_path: Path) -> None:
    made = source(tmp_path)
    (change,) = changes(made, page())
    assert (change["add"], change["remove"], change["sync"]["full"]) == ([], [], False)
    drain = page(action_type="segment.users.drain", pages=3)
    (drained,) = changes(made, drain)
    assert (drained["add"], drained["sync"]["full"], drained["sync"]["pages"]) == ([], True, 1)
    assert drained["id"] != change["id"], "it is no page of the sync"
    del drain["data"]["sync_info"], drain["data"]["add"]
    assert changes(made, drain)[0]["sync"]["full"]
    assert changes(made, page(action_type="segment.users.juggle")) == []
    assert changes(made, {"action_type": "segment.deleted", "data": 7}) == []
    assert made.decode(Request(b"  ")).bodies == ()


def test_a_segment_without_a_name_keeps_the_one_it_has(tmp_path: Path) -> None:
    body = page(add=1)
    body["data"]["segment"] = {"id": 7, "name": None}
    assert changes(source(tmp_path), body)[0]["cohort"] == {"id": "7", "name": ""}


def test_segments_of_one_sync_are_told_apart(tmp_path: Path) -> None:
    made, other = source(tmp_path), page(add=1)
    other["data"]["segment"]["id"] = 7
    assert changes(made, page(add=1))[0]["id"] != changes(made, other)[0]["id"]


def test_users_without_an_id_are_unreadable_and_the_others_are_taken(tmp_path: Path) -> None:
    body = page(add=2, remove=1)
    body["data"]["add"] += [{"id": None}, {"id": ""}, {}, {"id": True}, {"id": 17}]
    decoded = source(tmp_path).decode(Request(orjson.dumps(body)))
    assert [orjson.loads(one)["add"] for one in decoded.bodies] == [["in-0", "in-1", "17"], []]
    (unreadable,) = decoded.unreadable
    assert "without an id that is text or an integer: 4;" in unreadable.reason
    assert orjson.loads(unreadable.body)["ids"] == [None, "", None, True]


def test_prefixes_that_name_nobody_are_unreadable_and_the_others_are_taken(tmp_path: Path) -> None:
    body = page()
    users = ["17", "alias:crm:17", "alias:crm", "alias:crm:", "alias::17", "alias:", "external_id:", "device_id:x"]
    body["data"]["add"] = [{"id": user} for user in users]
    decoded = source(tmp_path, match="prefix").decode(Request(orjson.dumps(body)))
    assert orjson.loads(decoded.bodies[0])["add"] == ["17", "alias:crm:17", "device_id:x"]
    assert orjson.loads(decoded.unreadable[0].body)["ids"] == users[2:7]
    assert changes(source(tmp_path), body)[0]["add"] == users, "elsewhere they are ids like any other"


def test_pages_with_one_number_and_other_users_are_two_changes(tmp_path: Path) -> None:
    """Also looked at: pages of other segments, a new name, and `braze_cohorts`, which tells parts of a whole membership
    apart by page and part alone: those are pushes, with tasks of their own."""
    made = source(tmp_path)
    (add,), (remove,) = changes(made, page(add=1, pages=5)), changes(made, page(remove=1, pages=5))
    assert add["id"] != remove["id"]
    assert changes(made, page(add=1, pages=5))[0]["id"] == add["id"]
    renamed = page(add=1, pages=5)
    renamed["data"]["segment"]["name"] = "Left carts"
    assert changes(made, renamed)[0]["id"] != add["id"]


@pytest.mark.parametrize("info", [None, {}, {"sync_task_id": None}, {"sync_task_id": "", "page_number": 2}, "absent"])
def test_a_body_without_a_task_is_a_sync_by_itself(tmp_path: Path, info: Any) -> None:
    made, body = source(tmp_path), page(add=1, remove=1)
    body["data"]["segment"] = {"id": "vip-users", "name": "VIP"}
    body["data"]["sync_info"] = info
    if info == "absent":
        del body["data"]["sync_info"]
    found = changes(made, body)
    assert [(one["add"], one["remove"]) for one in found] == [(["in-0"], []), ([], ["out-0"])]
    assert {one["cohort"]["id"] for one in found} == {"vip-users"}
    assert [(one["sync"]["page"], one["sync"]["pages"]) for one in found] == [(1, 1)] * 2
    assert len({one["sync"]["task"] for one in found}) == 1
    again = changes(made, body)
    assert again[0]["id"] != found[0]["id"], "who came, went and comes back is no duplicate"


DEEP = b"[" * LEVELS + b"]" * LEVELS


@pytest.mark.parametrize(
    "odd",
    [
        *(b'{"id":"cut \\ud83d"}', b'{"id":"caf\xe9"}', b"7", b'{"id":NaN}'),
        pytest.param(b'{"id":"x","more":%s}' % DEEP, marks=refused),
    ],
)
def test_what_the_decoder_refuses_of_one_user_costs_that_user(tmp_path: Path, odd: bytes) -> None:
    body = orjson.dumps(page(add=2, remove=1)).replace(b'{"id":"in-1"}', odd + b',{"id":"in-1"},{"id":""}')
    decoded = source(tmp_path).decode(Request(body))
    assert [orjson.loads(one)["add"] for one in decoded.bodies] == [["in-0", "in-1"], []]
    assert orjson.loads(decoded.bodies[1])["remove"] == ["out-0"]
    bad, nobody = decoded.unreadable
    assert bad.body == odd
    assert bad.reason.startswith("added user 2 is no user: ")
    assert "without an id" in nobody.reason


@pytest.mark.parametrize(("name", "taken"), [(b"VIP \\ud83d", "VIP \ufffd"), (b"caf\xe9", "caf\ufffd")])
def test_what_is_odd_beside_the_users_costs_nothing(tmp_path: Path, name: bytes, taken: str) -> None:
    body = orjson.dumps(page(add=1)).replace(b"Lost carts", name).replace(b'"fields":[]', b'"fields":' + DEEP)
    decoded = source(tmp_path).decode(Request(body))
    assert [orjson.loads(one)["cohort"]["name"] for one in decoded.bodies] == [taken]
    assert not decoded.unreadable


@pytest.mark.parametrize("odd", [b"{}", b'{"id":""}', b'{"id":[]}'])
def test_users_without_an_id_cost_little_and_too_many_are_refused(tmp_path: Path, odd: bytes) -> None:
    """Looked at as well: users that the decoder refuses, of which more than 1,000 are refused in every source."""
    body = orjson.dumps(page(add=1)).replace(b'{"id":"in-0"}', (odd + b",") * MOST_WITHOUT_ID + b'{"id":"in-0"}')
    decoded = source(tmp_path).decode(Request(body))
    assert [orjson.loads(one)["add"] for one in decoded.bodies] == [["in-0"]]
    (unreadable,) = decoded.unreadable
    assert "10,000" in unreadable.reason
    assert len(unreadable.body) < 10_000
    for more in (1, 400_000 // len(odd)):  # the larger body is read user by user
        with pytest.raises(Malformed, match="more than 10,000 users of the page have no id"):
            source(tmp_path).decode(Request(body.replace(odd, (odd + b",") * more + odd, 1)))


@pytest.mark.parametrize("odd", [b"9" * 99, b"[" * 700 + b"]" * 700, b"9" * 4000 + b".5", b"1e999"])
def test_an_id_of_any_kind_is_taken_or_told(tmp_path: Path, odd: bytes) -> None:
    """Some encoders refuse large integers and what is nested deep."""
    body = orjson.dumps(page(add=1)).replace(b'"in-0"', b'[%s]},{"id":"in-0"' % odd)
    decoded = source(tmp_path).decode(Request(body))
    assert [orjson.loads(one)["add"] for one in decoded.bodies] == [["in-0"]]
    assert len(decoded.unreadable) == 1


def test_what_is_made_of_a_page_is_a_small_multiple_of_it(tmp_path: Path) -> None:
    """Each change repeats the segment's name and id and the sync's id. Looked at as well: actions, page numbers."""
    body = page(task='"' * ID_CHARS)
    body["data"]["segment"] = {"id": '"' * ID_CHARS, "name": "\0" * 4_000_000}
    body["data"]["add"] = [{"id": n} for n in range(200_000)]
    made = source(tmp_path).decode(Request(orjson.dumps(body))).bodies
    assert {len(orjson.loads(one)["cohort"]["name"]) for one in made} == {NAME_CHARS}
    assert sum(map(len, made)) < 2 * sum(len(f'{{"id":{n}}},') for n in range(200_000))


@pytest.mark.parametrize("long", ["x" * (ID_CHARS + 1), 10**300])
@pytest.mark.parametrize(("table", "field"), [("segment", "id"), ("sync_info", "sync_task_id")])
def test_ids_of_segments_and_syncs_are_bounded(tmp_path: Path, table: str, field: str, long: str | int) -> None:
    body = page(add=1)
    body["data"][table][field] = long
    with pytest.raises(Malformed, match=field):
        source(tmp_path).decode(Request(json.dumps(body).encode()))


@pytest.mark.parametrize("field", ["page_number", "total_pages"])
def test_a_page_number_that_json_readers_do_not_tell_apart_is_malformed(tmp_path: Path, field: str) -> None:
    body = page(add=1)
    body["data"]["sync_info"][field] = 2**63
    with pytest.raises(Malformed, match=field):
        source(tmp_path).decode(Request(json.dumps(body).encode()))


def kept(made: HeapSegments, body: dict[str, Any]) -> None:
    made.kept(made.decode(Request(orjson.dumps(body))).bodies)


@pytest.mark.parametrize(
    ("numbers", "came"),
    [([1, 2, 3], 3), ([0, 1, 2], 3), ([3, 1, 2, 2], 3), ([1, 2, 2], 2), ([2], 1), ([1, 2, 7], 3), ([0, 2, 3], 3)],
)
def test_a_sync_of_which_pages_never_came_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], numbers: list[int], came: int
) -> None:
    made = source(tmp_path)
    for number in numbers:
        kept(made, page(add=1 + number, number=number, pages=3))
    kept(made, page(task="t2"))
    said = capsys.readouterr().out
    whole = numbers in ([1, 2, 3], [0, 1, 2], [3, 1, 2, 2])
    assert ("segment sync was incomplete" in said) is not whole
    assert whole or f"received={came}" in said
    assert made.incomplete == (not whole)
    assert whole or f"segment 9007199254740993 has {came} of 3 pages of sync t1, not " in made.notice


def test_a_page_counts_once_it_is_on_disk_and_for_its_sync_alone(tmp_path: Path) -> None:
    made = source(tmp_path)
    changes(made, page(add=1, number=1, pages=2))
    kept(made, page(add=1, number=2, pages=2))
    kept(made, page(task="t2", number=1, pages=2))
    assert made.incomplete == 1
    kept(made, page(add=1, number=1, pages=2))
    assert made.incomplete == 0, "its page came late, between those of another sync"
    kept(made, page(task="t2", number=2, pages=2))
    kept(made, page(action_type="segment.users.drain", task="t3", pages=9))
    made.look_after()
    assert (made.incomplete, made.notice) == (0, "")


def test_an_incomplete_sync_is_told_without_a_next_one_and_after_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, now = source(tmp_path), time.time()
    kept(before, page(add=1, number=2, pages=3))
    before.look_after()
    assert before.incomplete == 0
    after = source(tmp_path)
    after.recall(before.remember())
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    for _ in range(2):
        after.look_after()
    assert capsys.readouterr().out.count("segment sync was incomplete") == 1
    assert after.incomplete == 1
    once_more = source(tmp_path)
    once_more.recall(after.remember())
    assert "has 1 of 3 pages of sync t1, not 1, 3" in once_more.notice
    once_more.look_after()
    assert "segment sync was incomplete" not in capsys.readouterr().out
    monkeypatch.setattr(time, "time", lambda: now + 8 * 86400)
    assert once_more.incomplete == 0


def test_a_task_that_is_always_the_same_hides_no_incomplete_sync(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at as well: users who came and went told by a call each, a restart, memory of an earlier version."""
    made, now = source(tmp_path), time.time()
    for number in (1, 2):
        kept(made, page(add=number, number=number, pages=2))
        kept(made, page(remove=number, number=number, pages=2))
    kept(made, page(add=3, number=1, pages=2))
    assert made.incomplete == 0
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    made.look_after()
    assert "has 1 of 2 pages of sync t1, not 2;" in made.notice
    kept(made, page(add=4, number=1, pages=2))
    kept(made, page(add=5, number=2, pages=2))
    after = source(tmp_path)
    after.recall(made.remember())
    kept(after, page(add=6, number=1, pages=2))
    kept(after, page(add=7, number=1, pages=2))
    assert after.incomplete == 2, "the second sync and the fourth; the third is whole"
    assert capsys.readouterr().out.count("segment sync was incomplete") == 2
    before = source(tmp_path)
    sync = {"segment": "9007199254740993", "task": "t1", "pages": 2, "last": now, "came": [1], "told": True}
    before.recall(orjson.dumps([sync]).decode())
    kept(before, page(add=9, number=2, pages=2))
    assert before.incomplete == 0


def test_what_is_remembered_of_syncs_is_small_whatever_comes(tmp_path: Path) -> None:
    made = source(tmp_path)
    for number in range(3000):
        made._syncs.record(SavedPage("s", f"t{number // 2}", number % 20, 10_000, {"+": "c0ffee11"}), time.time())
    for number in range(12_000):
        made._syncs.record(
            SavedPage("s", f"long {number // 6000}", number % 6000, 10_000, {"+": "c0ffee11"}), time.time()
        )
    kept(made, page(number=1, pages=10**15, task="endless"))
    assert len(made.remember()) < 400_000
    assert made.incomplete <= 1024


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"action_type":"segment.users.sync"}', b"\xff\xfe", b'{"action_type":1,"data":{}}', NO_SEGMENT],
)
def test_what_is_no_sync_is_malformed(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(Malformed):
        source(tmp_path).decode(Request(body))


def test_a_call_that_heap_signed_passes(tmp_path: Path) -> None:
    body = orjson.dumps(page(add=1)).replace(b"9007199254740993", b"42")
    signed(tmp_path).verify(Request(body, header(body)))
    spaced = body.replace(b":", b": ", 3)
    signed(tmp_path, signed="reserialized").verify(Request(spaced.replace(b"42", b"4.20e1"), header(body)))
    with pytest.raises(Denied):
        signed(tmp_path).verify(Request(spaced, header(body)))
    source(tmp_path).verify(Request(body))


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, Denied),
        ({"Heap-Hash": "ts:1"}, Malformed),
        ({"Heap-Hash": "ts:now,hmac:aGk="}, Malformed),
        ({"Heap-Hash": "ts:1,hmac:%%%"}, Malformed),
        ({"Heap-Hash": ""}, Malformed),
        ({"Heap-Hash": "hmac:aGk="}, Malformed),
        ({"Heap-Hash": "ts:-1,hmac:aGk="}, Malformed),
        ({"Heap-Hash": "ts:1_0,hmac:aGk="}, Malformed),
        ({"Heap-Hash": f"ts:{'9' * 400},hmac:aGk="}, Malformed),
        ({"Heap-Hash": "ts:\u0661,hmac:aGk="}, Malformed),
        ({"Heap-Hash": "ts:1,hmac:\udcff"}, Malformed),
        ({"Heap-Hash": "ts:999999999999999,hmac:"}, Denied),
        (header(b"{}", secret="guessed"), Denied),
        (header(b'{"other":1}'), Denied),
        (header(b"{}", at=time.time() - 400), Denied),
        (header(b"{}", at=time.time() + 40_000), Denied),
        ({"Heap-Hash": header(b"{}")["Heap-Hash"].replace("ts:", "ts:0")}, Denied),
    ],
)
def test_forged_stale_and_malformed_signatures_are_refused(
    tmp_path: Path, headers: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        signed(tmp_path, max_age="300s").verify(Request(b"{}", headers))


@pytest.mark.parametrize(
    ("ahead", "said"), [(30, r"is from (29|30) s in the future"), (-70, r"is 7[0-9] s old, 60 s are allowed")]
)
def test_how_old_a_signature_is_is_told(tmp_path: Path, ahead: float, said: str) -> None:
    with pytest.raises(Denied, match=said):
        signed(tmp_path).verify(Request(b"{}", header(b"{}", at=time.time() + ahead)))
