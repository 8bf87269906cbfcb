import aiohttp
import pytest

from relay.sandbox.heap import HeapWebhook

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
