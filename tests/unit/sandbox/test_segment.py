"""The stand-in of Segment, as others see it over HTTP."""

from typing import Any

import aiohttp
import pytest

from relay.sandbox import SegmentApi

CALL = {"type": "track", "event": "Email Sent", "userId": "anna", "messageId": "m-1"}


async def post(api: SegmentApi, body: Any, key: str = "key") -> tuple[int, Any]:
    given: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with aiohttp.ClientSession() as http:
        auth = aiohttp.encode_basic_auth(key, "") if hasattr(aiohttp, "encode_basic_auth") else None
        headers = {"Authorization": auth} if auth else {"Authorization": aiohttp.BasicAuth(key).encode()}
        async with http.post(f"{api.url}/v1/batch", headers=headers, **given) as answer:
            return answer.status, await answer.json()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "malformed JSON"),
        (b"[]", "malformed JSON"),
        ({"calls": []}, "malformed JSON"),
        ({"batch": [CALL | {"properties": {"text": "x" * 33_000}}]}, "message exceeds 32 KB"),
        ({"batch": [CALL | {"properties": {"text": "x" * 30_000}}] * 17}, "request body exceeds 500 KB"),
    ],
)
async def test_only_a_request_of_the_wrong_size_or_form_is_refused(body: Any, said: str) -> None:
    async with SegmentApi() as api:
        assert await post(api, body) == (400, {"success": False, "message": said})
        assert not api.calls


async def test_calls_that_segment_does_not_keep_are_answered_200() -> None:
    async with SegmentApi() as api:
        bad = [
            CALL | {"type": "tracked"},
            {"type": "track", "event": "x"},
            CALL | {"event": ""},
            CALL | {"messageId": "m" * 100},
            CALL | {"properties": []},
        ]
        assert await post(api, {"batch": [*bad, CALL]}) == (200, {"success": True})
        assert (api.calls, api.refused.total()) == ([CALL], 5)
        many = [CALL | {"messageId": f"n-{number}"} for number in range(2501)]
        assert (await post(api, {"batch": many}))[0] == 200
        assert (await post(api, {"batch": [CALL]}, "wrong"))[0] == 200
        assert (len(api.calls), api.refused) == (1, {"invalid call": 5, "too many calls": 2501, "wrong write key": 1})
        api.switches = api.switches.replace(bad_call="refuse", wrong_key="refuse")
        assert (await post(api, {"batch": bad}))[0] == 400
        assert (await post(api, {"batch": [CALL]}, "wrong"))[0] == 401
        assert (await post(api, {"batch": [CALL | {"messageId": "b"}], "writeKey": "key"}, "wrong"))[0] == 200
        assert len(api.calls) == 2


async def test_an_id_that_comes_again_counts_once_while_it_is_remembered() -> None:
    now = 0.0
    async with SegmentApi(clock=lambda: now, remember=100) as api:
        for later in (0.0, 99.0, 201.0):
            now = later
            await post(api, {"batch": [CALL]})
        assert (len(api.calls), api.duplicates) == (2, 1)
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{api.url}/_sandbox/events?user=anna") as answer:
                assert await answer.json() == [CALL, CALL]
            async with http.get(f"{api.url}/_sandbox/books") as answer:
                assert await answer.json() == {
                    "calls": 2,
                    "refused": 0,
                    "reasons": {},
                    "duplicates": 1,
                    "requests": {"200": 3},
                }
