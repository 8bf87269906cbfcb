from urllib.parse import urljoin

import aiohttp
import pytest

from relay.sandbox.heap.side_doors import make_webhook_doors
from relay.sandbox.heap.webhook import HeapWebhook
from relay.sandbox.server import Fault

GOOD = {"events": [{"event_type": "a", "id": "1"}, {"event_type": "a", "id": "2"}, {"event_type": "b", "id": "3"}]}


async def post(url: str, token: str | None = None, **options) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as http, http.post(url, headers=headers, **options) as answer:
        return answer.status


async def test_ids_and_types_are_remembered_and_duplicates_counted():
    async with HeapWebhook() as heap:
        assert await post(heap.url, json=GOOD) == 200
        assert await post(heap.url, json={"events": [*GOOD["events"][:2], {"event_type": "b", "id": "4"}]}) == 200
    assert heap.ids == {"1", "2", "3", "4"}
    assert heap.types == {"a": 2, "b": 2}
    assert heap.duplicates == 2


async def test_a_duplicate_within_one_request_is_counted():
    async with HeapWebhook() as heap:
        await post(heap.url, json={"events": [GOOD["events"][0]] * 3})
    assert (heap.types, heap.duplicates) == ({"a": 1}, 2)


@pytest.mark.parametrize("body", [{"data": b""}, {"json": {"events": []}}, {"json": GOOD}])
async def test_a_wrong_token_is_refused_even_without_events(body):
    async with HeapWebhook(token="right") as heap:
        assert await post(heap.url, **body) == 401
        assert await post(heap.url, "wrong", **body) == 401
        assert not heap.ids
        assert await post(heap.url, "right", **body) == 200


async def test_faults_are_answered_in_turn_and_take_nothing():
    async with HeapWebhook() as heap:
        heap.faults.extend([503, 429])
        assert [await post(heap.url, json=GOOD) for _ in range(3)] == [503, 429, 200]
    assert heap.duplicates == 0


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"events":[1]}', b'{"events":[{"id":"1"}]}', b'{"events":3}'])
async def test_what_is_not_of_the_agreed_shape_is_refused(body):
    async with HeapWebhook() as heap:
        assert await post(heap.url, data=body) == 400
    assert not heap.ids


def event(number: int, **user: str) -> dict:
    properties = {"campaign_name": "Carts", "media_urls": ["u"]}
    return {"event_type": "a.Send", "id": str(number), "time": 1_760_000_000, "user": user, "properties": properties}


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, ("anna", "a.Send", {"campaign_name", "media_urls"})),
        ({"identity": "user_id"}, ("b1", "a.Send", {"campaign_name", "media_urls"})),
        ({"prefix": True}, ("anna", "braze-a.Send", {"braze-campaign_name", "braze-media_urls"})),
    ],
)
async def test_events_become_those_of_heap(switches, expected):
    seen = {}
    async with HeapWebhook(take=seen.__setitem__, **switches) as heap:
        await post(heap.url, json={"events": [event(1, external_user_id="anna", user_id="b1")] * 2})
    found = seen.pop("1")
    assert (found["identity"], found["event"], found["properties"].keys()) == expected
    assert found["timestamp"] == "2025-10-09T08:53:20+00:00"
    assert not seen


async def test_events_without_the_chosen_identity_are_forgotten_or_refused():
    seen = {}
    mixed = {"events": [event(1, user_id="b1"), event(2, external_user_id="anna")]}
    async with HeapWebhook(take=seen.__setitem__) as heap:
        assert await post(heap.url, json=mixed) == 200
        assert (seen.keys(), heap.without_identity) == ({"2"}, 1)
        heap.switches = heap.switches.replace(without_identity="refuse")
        assert await post(heap.url, json={"events": [event(3, user_id="b1"), event(4, external_user_id="x")]}) == 400
        assert seen.keys() == {"2"}


async def test_a_webhook_alone_shows_its_newest_events_and_counts_them_all():
    heap = HeapWebhook()
    heap.doors = make_webhook_doors(heap)
    async with heap:
        await post(heap.url, json={"events": [event(1, external_user_id="anna"), event(2, external_user_id="bert")]})
        await post(heap.url, json={"events": [event(2, external_user_id="bert"), event(3, user_id="b1")]})
        doors = urljoin(heap.url, "/_sandbox/")
        async with aiohttp.ClientSession(doors) as http:
            async with http.get("events", params={"identity": "bert"}) as answer:
                assert [one["identity"] for one in await answer.json()] == ["bert"]
            async with http.get("books") as answer:
                counts = {"events": 2, "duplicates": 1, "without_identity": 1, "requests": {"200": 2}}
                assert await answer.json() == counts


async def test_it_can_be_slow_and_read_half_of_a_body_only():
    async with HeapWebhook(slow=0.01) as heap:
        heap.faults.append(Fault(cut=True))
        with pytest.raises(aiohttp.ClientError):
            await post(heap.url, json=GOOD)
        assert not heap.ids
        assert await post(heap.url, json=GOOD) == 200
