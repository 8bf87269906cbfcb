"""What an HTTP answer means to a connector, and what is kept of it."""

from typing import Any

import aiohttp
import pytest

from relay.api import Reject, Retry, Unauthorized, check
from relay.testing import Answer, Destination

FAILURES = (Retry, Reject, Unauthorized)


async def answered(answer: Answer, body: bytes | None = None) -> Exception:
    """What `check` raises for an answer of a real server."""
    async with (
        Destination(answer) as destination,
        aiohttp.ClientSession() as session,
        session.post(destination.url) as response,
    ):
        with pytest.raises(FAILURES) as raised:
            check(response, await response.read() if body is None else body)
    return raised.value


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (422, Reject), (413, Reject), (503, Retry)])
async def test_what_is_raised_has_the_status_and_the_first_bytes_of_the_body(
    status: int, kind: type[Exception]
) -> None:
    error = await answered(Answer(status=status, body=b'{"error":\r\n\t"why   not"}\n'))
    assert isinstance(error, FAILURES)
    assert isinstance(error, kind)
    assert (error.status, error.answer) == (status, '{"error": "why not"}')
    assert error.reason == f'HTTP {status}: {{"error": "why not"}}'


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"", ""),
        (b" \n ", ""),
        (b"x" * 1000, "x" * 200),
        (b"x" * 199 + "é".encode(), "x" * 199),
        (b"x" * 198 + "é".encode() + b"y", "x" * 198 + "é"),
        (b"not \xff UTF-8", "not \ufffd UTF-8"),
    ],
)
async def test_200_bytes_are_kept_as_text_in_one_line(body: bytes, kept: str) -> None:
    error = await answered(Answer(status=500, body=b"other"), body)
    assert isinstance(error, Retry)
    assert error.answer == kept
    assert error.reason == ("HTTP 500: " + kept if kept else "HTTP 500")


async def test_a_redirect_that_was_followed_counts_with_its_own_status() -> None:
    async with (
        Destination(Answer(status=302, headers={"Location": "/?key=hidden"}), 200) as destination,
        aiohttp.ClientSession() as session,
        session.post(destination.url) as response,
    ):
        with pytest.raises(Unauthorized, match="configure the final address") as raised:
            check(response)
    assert (raised.value.status, raised.value.answer) == (302, "")
    assert "hidden" not in raised.value.reason


@pytest.mark.parametrize("kind", FAILURES)
def test_without_an_answer_over_http_there_is_none(kind: type[Retry]) -> None:
    error = kind("the queue is full")
    assert (error.reason, error.status, error.answer) == ("the queue is full", None, "")


@pytest.mark.parametrize("kind", FAILURES)
def test_an_exception_given_as_the_reason_is_made_text(kind: Any) -> None:
    assert kind(OSError("the queue is full")).reason == "the queue is full"
