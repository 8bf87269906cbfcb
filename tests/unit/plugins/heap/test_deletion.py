"""Heap's User Deletion API: users are deleted by their identity, in few requests, and asked after until it is done."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.api import DELIVERED, Retry, Skipped, Unauthorized, User
from relay.sandbox.heap.track import HeapApi
from relay.testing import Answer, Destination
from relay_plugins.heap import Heap, deletion

KEY = "s3cr3t"


@asynccontextmanager
async def connected(url: str, folder: Path, **settings: Any) -> AsyncIterator[Heap]:
    (folder / "key").write_text(KEY)
    api = {"mode": "api", "app_id": "1", "api_key": {"file": f"{folder}/key"}}
    made = Heap.Settings.model_validate({"type": "heap", "endpoint": url} | api | settings)
    connector = Heap("heap", made, folder=folder)
    yield connector
    await connector.release()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "ASK_S", (0.001, 0.001))


PENDING = "Heap has taken the deletion and not completed it yet"
ANNA, BERT = User("u1", ("anna",)), User("u2", ("bert",))
USERS = [User("u1", ("anna",)), User("u2", ("bert", "bertie")), User("u3")]


@pytest.mark.parametrize(
    ("identity", "deleted", "skipped"),
    [("external_user_id", ["anna", "bert", "bertie"], [2]), ("user_id", ["u1", "u2", "u3"], [])],
)
async def test_users_are_deleted_by_the_identity_that_they_have_in_heap(
    tmp_path: Path, identity: str, deleted: list[str], skipped: list[int]
) -> None:
    async with HeapApi(api_key=KEY) as heap, connected(heap.url, tmp_path, identity=identity) as connector:
        heap.capture("in", ["anna", "carl"])
        outcomes = await connector.erase(USERS)
        assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Skipped)] == skipped
        assert [outcome for outcome in outcomes if outcome == DELIVERED] == [DELIVERED] * (3 - len(skipped))
        assert heap.deletions.requests == [deleted]
        assert heap.deletions.deleted == deleted
        left = {event["identity"] for event in heap.events.values()}
        assert left == ({"carl"} if "anna" in deleted else {"anna", "carl"})


async def test_ten_thousand_users_go_in_one_request(tmp_path: Path) -> None:
    users = [User(None, (f"user-{number}",)) for number in range(10_001)]
    async with HeapApi(api_key=KEY) as heap, connected(heap.url, tmp_path) as connector:
        assert await connector.erase(users) == [DELIVERED] * 10_001
        assert [*map(len, heap.deletions.requests)] == [10_000, 1]


async def test_a_deletion_that_is_pending_is_asked_after_and_not_made_again(tmp_path: Path) -> None:
    async with HeapApi(api_key=KEY) as heap, connected(heap.url, tmp_path) as connector:
        heap.switches = heap.switches.replace(pending=3)
        *pending, skipped = await connector.erase(USERS)
        assert [(one.reason, one.after) for one in pending if isinstance(one, Retry)] == [(PENDING, 60)] * 2
        assert skipped == Skipped(deletion.UNKNOWN)
        assert heap.deletions.deleted == []
        assert await connector.erase(USERS) == [DELIVERED, DELIVERED, Skipped(deletion.UNKNOWN)]
        assert len(heap.deletions.requests) == 1


async def outcomes(connector: Heap, *users: User) -> list[str]:
    return [type(outcome).__name__ for outcome in await connector.erase(users) or ()]


async def test_who_comes_later_does_not_restart_what_is_pending(tmp_path: Path) -> None:
    async with HeapApi(api_key=KEY) as heap, connected(heap.url, tmp_path) as connector:
        heap.switches = heap.switches.replace(pending=4)  # looks; of a call there are two
        assert await outcomes(connector, ANNA) == ["Retry"]
        assert await outcomes(connector, ANNA, BERT) == ["Retry", "Retry"]
        assert await outcomes(connector, ANNA, BERT) == ["Delivered", "Retry"]
        assert await outcomes(connector, BERT) == ["Delivered"]
        assert heap.deletions.requests == [["anna"], ["bert"]]
        assert heap.deletions.deleted == ["anna", "bert"]


async def test_an_identity_that_is_deleted_waits_for_the_others_of_the_user(tmp_path: Path) -> None:
    async with HeapApi(api_key=KEY) as heap, connected(heap.url, tmp_path) as connector:
        heap.switches = heap.switches.replace(pending=2)
        assert await outcomes(connector, ANNA) == ["Retry"]
        both = User("u1", ("anna", "ann"))
        assert await outcomes(connector, both) == ["Retry"]
        assert await outcomes(connector, both) == ["Delivered"]
        assert heap.deletions.requests == [["anna"], ["ann"]]


async def test_who_is_to_be_erased_once_more_is_requested_once_more(tmp_path: Path) -> None:
    async with HeapApi(api_key=KEY) as heap, connected(heap.url, tmp_path) as connector:
        assert await outcomes(connector, ANNA) == ["Delivered"]
        assert await outcomes(connector, ANNA) == ["Delivered"]
        heap.switches = heap.switches.replace(pending=2)
        assert await outcomes(connector, ANNA) == ["Retry"]
        assert await outcomes(connector, ANNA, ANNA) == ["Retry", "Retry"]
        assert await outcomes(connector, ANNA, ANNA) == ["Delivered", "Delivered"]
        assert heap.deletions.requests == [["anna"]] * 4


TOKEN, TAKEN = Answer(body=b'{"access_token":"t"}'), b'{"deletion_request_id":"%d"}'
PENDS, DONE = Answer(body=b'{"status":"pending"}'), Answer(body=b'{"status":"complete"}')


def requested(heap: Destination) -> list[list[str]]:
    bodies = [request.body for request in heap.requests if request.target.endswith("user_deletion")]
    return [[user["identity"] for user in orjson.loads(body)["users"]] for body in bodies]


async def test_a_request_that_fails_is_made_again_and_the_others_go_on(tmp_path: Path) -> None:
    async with Destination() as heap, connected(heap.url, tmp_path) as connector:
        heap.script.extend([TOKEN, Answer(body=TAKEN % 1), PENDS, PENDS])
        assert await outcomes(connector, ANNA) == ["Retry"]
        heap.script.extend([TOKEN, Answer(status=400), PENDS, PENDS])
        assert await outcomes(connector, ANNA, BERT) == ["Retry", "Reject"]
        heap.script.extend([TOKEN, Answer(body=TAKEN % 2), PENDS, Answer(status=404), PENDS])
        assert await outcomes(connector, ANNA, BERT) == ["Retry", "Unauthorized"]
        heap.script.extend([TOKEN, Answer(body=TAKEN % 3), DONE, PENDS, DONE])
        assert await outcomes(connector, ANNA, BERT) == ["Delivered", "Delivered"]
        assert not heap.script
        assert requested(heap) == [["anna"], ["bert"], ["bert"], ["bert"]]
        assert [*dict.fromkeys(one.target[-1] for one in heap.requests if one.method == "GET")] == ["1", "2", "3"]


async def test_a_request_is_asked_after_again_when_heap_was_out_of_order(tmp_path: Path) -> None:
    async with Destination() as heap, connected(heap.url, tmp_path) as connector:
        heap.script.extend([TOKEN, Answer(body=TAKEN % 1), Answer(status=503)])
        assert await outcomes(connector, ANNA) == ["Retry"]
        heap.script.extend([TOKEN, DONE])
        assert await outcomes(connector, ANNA) == ["Delivered"]
        assert requested(heap) == [["anna"]]


async def test_what_is_found_out_in_time_counts_however_much_is_left_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Destination() as heap, connected(heap.url, tmp_path) as connector:
        heap.script.extend([TOKEN, Answer(body=TAKEN % 1), PENDS, PENDS])
        assert await outcomes(connector, ANNA) == ["Retry"]
        monkeypatch.setattr(deletion, "STATUS_S", 1.0)
        heap.script.extend([TOKEN, Answer(body=TAKEN % 2), DONE, Answer(hang=True)])
        assert await outcomes(connector, ANNA, BERT) == ["Delivered", "Retry"]
        heap.script.extend([TOKEN, DONE])
        assert await outcomes(connector, BERT) == ["Delivered"]
        assert requested(heap) == [["anna"], ["bert"]]


async def test_a_token_is_good_for_five_minutes_of_heaps_clock(tmp_path: Path) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 200
        return now[0]

    async with HeapApi(api_key=KEY, clock=clock) as heap, connected(heap.url, tmp_path) as connector:
        heap.switches = heap.switches.replace(pending=0)
        assert [type(outcome) for outcome in await connector.erase(USERS)] == [Unauthorized, Unauthorized, Skipped]


@pytest.mark.parametrize("options", [{"api_key": "other"}, {"api_key": KEY, "production": False}])
async def test_only_the_main_environment_and_the_right_key_may_delete(tmp_path: Path, options: dict[str, Any]) -> None:
    async with HeapApi(**options) as heap, connected(heap.url, tmp_path) as connector:
        with pytest.raises(Unauthorized, match="401") as raised:
            await connector.erase(USERS)
        assert KEY not in str(raised.value)
        assert heap.deletions.requests == []


@pytest.mark.parametrize("behaviour", [503, Answer(body=b"no json"), Answer(cut=True, body=b"{}")])
async def test_whatever_else_heap_answers_it_is_tried_again(tmp_path: Path, behaviour: Any) -> None:
    async with Destination() as heap, connected(heap.url, tmp_path) as connector:
        heap.behaviour = behaviour
        with pytest.raises(Retry):
            await connector.erase(USERS)


async def test_beside_the_webhook_users_are_deleted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API for it needs app_id and api_key only. Looked at as well: what check warns of, and its mistakes."""
    async with HeapApi(api_key=KEY) as heap, Destination() as webhook:
        monkeypatch.setattr(deletion, "HOST", heap.url)
        settings = {"mode": "webhook", "endpoint": webhook.url, "identity": "user_id"}
        async with connected(heap.url, tmp_path, **settings) as connector:
            heap.capture("in", ["u1", "anna"])
            assert await connector.erase([ANNA]) == [DELIVERED]
        assert heap.deletions.deleted == ["u1"]
        assert {event["identity"] for event in heap.events.values()} == {"anna"}
        assert webhook.requests == []


async def test_without_the_key_it_says_so(tmp_path: Path) -> None:
    for settings in ({"mode": "api", "app_id": "1"}, {"endpoint": "http://127.0.0.1:9/hook"}):
        made = Heap.Settings.model_validate({"type": "heap"} | settings)
        connector = Heap("heap", made, folder=tmp_path)
        assert {type(outcome) for outcome in await connector.erase(USERS)} == {Skipped}
        await connector.release()


async def test_what_the_stand_in_refuses(tmp_path: Path) -> None:
    async with HeapApi(api_key=KEY) as heap, connected(heap.url, tmp_path) as connector:
        url = f"{heap.url}/api/public/v0/"
        basic = {"Authorization": "Basic MTpzM2NyM3Q="}
        async with connector.http.post(url + "auth_token", headers=basic) as answer:
            bearer = {"Authorization": "Bearer " + (await answer.json())["access_token"]}
        for body, headers, status in (
            (b'{"users":[{"identity":"a"}]}', {}, 401),
            (b'{"users":[{"identity":"a","user_id":"b"}]}', bearer, 400),
            (b'{"users":[{}]}', bearer, 400),
            (b"no", bearer, 400),
            (orjson.dumps({"users": [{"identity": "a"}] * 10_001}), bearer, 400),
        ):
            async with connector.http.post(url + "user_deletion", data=body, headers=headers) as answer:
                assert answer.status == status, body[:50]
        for path, headers, status in (("deletion_status/0", bearer, 404), ("deletion_status/0", {}, 401)):
            async with connector.http.get(url + path, headers=headers) as answer:
                assert answer.status == status
        assert heap.deletions.requests == []
