"""The source type `heap_segments`: pages of a segment sync become changes of a cohort."""

import base64
import hmac
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.api import Denied, Malformed
from relay_plugins.heap_segments import USERS, HeapSegments

SECRET = "whispered"
NO_TASK = b'{"action_type":"segment.users.sync","data":{"segment":{"id":1},"add":[{"id":"a"}]}}'


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
    return [orjson.loads(one) for one in made.decode(orjson.dumps(body)).bodies]


def test_a_page_becomes_one_change(tmp_path: Path) -> None:
    (change,) = changes(source(tmp_path), page(add=1, number=2, pages=3))
    assert change.pop("time") == pytest.approx(time.time(), abs=2)
    assert change == {
        "event_type": "cohort.Change",
        "id": "heap:9007199254740993:t1:2:0",
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


def test_a_page_without_users_still_tells_a_new_name_and_a_drain_empties_the_cohort(tmp_path: Path) -> None:
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
    assert made.decode(b"  ").bodies == ()


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
    decoded = source(tmp_path).decode(orjson.dumps(body))
    assert [orjson.loads(one)["add"] for one in decoded.bodies] == [["in-0", "in-1", "17"], []]
    (unreadable,) = decoded.unreadable
    assert "without an id that is text or an integer: 4;" in unreadable.reason
    assert orjson.loads(unreadable.body)["ids"] == [None, "", None, True]


def test_prefixes_that_name_nobody_are_unreadable_and_the_others_are_taken(tmp_path: Path) -> None:
    body = page()
    users = ["17", "alias:crm:17", "alias:crm", "alias:crm:", "alias::17", "alias:", "external_id:", "device_id:x"]
    body["data"]["add"] = [{"id": user} for user in users]
    decoded = source(tmp_path, match="prefix").decode(orjson.dumps(body))
    assert orjson.loads(decoded.bodies[0])["add"] == ["17", "alias:crm:17", "device_id:x"]
    assert orjson.loads(decoded.unreadable[0].body)["ids"] == users[2:7]
    assert changes(source(tmp_path), body)[0]["add"] == users, "elsewhere they are ids like any other"


@pytest.mark.parametrize(
    ("numbers", "came"), [([1, 2, 3], 3), ([0, 1, 2], 3), ([3, 1, 2, 2], 3), ([1, 2, 2], 2), ([2], 1)]
)
def test_a_sync_of_which_pages_never_came_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], numbers: list[int], came: int
) -> None:
    made = source(tmp_path)
    for number in numbers:
        changes(made, page(add=1, number=number, pages=3))
    changes(made, page(task="t2"))
    said = capsys.readouterr().out
    assert ("segment sync was incomplete" in said) == (came < 3)
    assert f"pages=3 received={came}" in said or came == 3


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"action_type":"segment.users.sync"}', b"\xff\xfe", b'{"action_type":1,"data":{}}', NO_TASK]
)
def test_what_is_no_sync_is_malformed(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(Malformed):
        source(tmp_path).decode(body)


def test_a_call_that_heap_signed_passes(tmp_path: Path) -> None:
    body = orjson.dumps(page(add=1))
    signed(tmp_path).verify(header(body), body)
    spaced = body.replace(b":", b": ", 3)
    signed(tmp_path, signed="reserialized").verify(header(body), spaced)
    with pytest.raises(Denied):
        signed(tmp_path).verify(header(body), spaced)
    source(tmp_path).verify({}, body)


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
        (header(b"{}", at=time.time() + 400), Denied),
        ({"Heap-Hash": header(b"{}")["Heap-Hash"].replace("ts:", "ts:0")}, Denied),
    ],
)
def test_forged_stale_and_malformed_signatures_are_refused(
    tmp_path: Path, headers: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        signed(tmp_path, max_age="300s").verify(headers, b"{}")


@pytest.mark.parametrize(
    ("ahead", "said"), [(30, r"is from (29|30) s in the future"), (-70, r"is 7[0-9] s old, 60 s are allowed")]
)
def test_how_old_a_signature_is_is_told(tmp_path: Path, ahead: float, said: str) -> None:
    with pytest.raises(Denied, match=said):
        signed(tmp_path).verify(header(b"{}", at=time.time() + ahead), b"{}")
