"""What an HTTP answer means to a connector, and what is kept of it."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import inf, nan
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from relay.api import Delivered, Reject, Retry, Skipped, Unauthorized, check, retry_after
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
        (b"x" * 200, "x" * 200),
        (b"x" * 1000, "x" * 199 + "…"),
        (b"x" * 199 + "é".encode(), "x" * 198 + "…"),
        (b"not this word " * 20, "not this word " * 14 + "not…"),
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


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://new.example/in?key=hidden#x", " to https://new.example/in"),
        ("//anna:hidden@new.example/in", " to http://new.example/in"),
        ("/in?key=hidden", " to {url}/in"),
        ("http://[hidden", ""),
    ],
)
async def test_a_redirect_names_the_host_that_it_leads_to(location: str, told: str) -> None:
    async with (
        Destination(Answer(status=308, headers={"Location": location}, body=b"")) as destination,
        aiohttp.ClientSession() as session,
        session.post(destination.url, allow_redirects=False) as response,
    ):
        with pytest.raises(Unauthorized) as raised:
            check(response)
        assert raised.value.reason == "HTTP 308" + told.format(url=str(response.url.origin()))


@pytest.mark.parametrize("kind", FAILURES)
def test_without_an_answer_over_http_there_is_none(kind: type[Retry]) -> None:
    error = kind("the queue is full")
    assert (error.reason, error.status, error.answer) == ("the queue is full", None, "")


@pytest.mark.parametrize("kind", FAILURES)
def test_an_exception_given_as_the_reason_is_made_text(kind: Any) -> None:
    assert kind(OSError("the queue is full")).reason == "the queue is full"


NOW = datetime(2026, 11, 30, tzinfo=UTC)
YEAR_S = 365 * 86400.0


class Busy:
    """As much of an aiohttp answer as `check` looks at."""

    status, history = 429, ()

    def __init__(self, **headers: str) -> None:
        self.headers = CIMultiDict(headers)


def wait_of(**headers: str) -> float | None:
    with pytest.raises(Retry) as busy:
        check(Busy(**headers), b"")  # type: ignore[arg-type]
    return busy.value.after


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Mon, 30 Nov 2026 00:01:30 GMT", 90.0),
        ("Sun, 29 Nov 2026 23:00:00 GMT", 0.0),
        ("9" * 5000, YEAR_S),
        (format_datetime(NOW + timedelta(seconds=90)), 90.0),
        (format_datetime(NOW - timedelta(seconds=90)), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", YEAR_S),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Mon, 01 Jan 2026 00:00:00 +9999999999", None),
        ("-1", None),
        ("-5", None),
        ("0.5", None),
        ("soon", None),
        ("\xb2", None),
        ("", None),
        (None, None),
    ],
)
def test_a_retry_after_that_is_odd_asks_for_nothing_odd(header: str | None, seconds: float | None) -> None:
    """Looked at as well: `x-ratelimit-reset` (below), and Braze's own budget, which reads its headers itself."""
    assert retry_after(header, NOW) == seconds


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} -?\d+ \d+:\d+:\d+ [-+]?\d*", fullmatch=True))
def test_no_retry_after_is_taken_for_a_bug(header: str) -> None:
    found = retry_after(header, NOW)
    assert found is None or 0 <= found <= YEAR_S


@pytest.mark.parametrize("header", ["9" * 400, "9" * 5000, "1767225600000"])
def test_a_reset_far_away_is_a_year_at_most(header: str) -> None:
    assert wait_of(**{"x-ratelimit-reset": header}) == YEAR_S


@pytest.mark.parametrize("header", ["-5", "0", "abc", "1767225600.5", "", "\xb2"])
def test_a_reset_that_is_no_moment_asks_for_nothing(header: str) -> None:
    assert wait_of(**{"x-ratelimit-reset": header}) is None


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Retry("busy", after="60"), TypeError, "Retry: after is a number of seconds or None, got '60'"),
        (lambda: Retry("busy", after=True), TypeError, "Retry: after is a number of seconds or None, got True"),
        (lambda: Retry("busy", after=nan), ValueError, "Retry: after is a number of seconds, 0 or more, got nan"),
        (lambda: Retry("busy", after=inf), ValueError, "Retry: after is a number of seconds, 0 or more, got inf"),
        (lambda: Retry("busy", after=-1), ValueError, "Retry: after is a number of seconds, 0 or more, got -1"),
        (lambda: Retry("busy", hold_lane=1), TypeError, "Retry: hold_lane is True or False, got 1"),
        (lambda: Retry(60), TypeError, "Retry: reason is a text or an exception, got 60"),
        (lambda: Reject(None), TypeError, "Reject: reason is a text or an exception, got None"),
        (lambda: Reject(b"no"), TypeError, "Reject: reason is a text or an exception, got b'no'"),
        (lambda: Reject("no", status="400"), TypeError, "Reject: status is a whole number or None, got '400'"),
        (lambda: Reject("no", answer=b"x"), TypeError, "Reject: answer is a text, got b'x'"),
        (lambda: Reject("no", too_large="yes"), TypeError, "Reject: too_large is True or False, got 'yes'"),
        (lambda: Unauthorized({}), TypeError, "Unauthorized: reason is a text or an exception, got {}"),
        (lambda: Skipped(None), TypeError, "Skipped: reason is a text, got None"),
        (lambda: Delivered(7), TypeError, "Delivered: note is a text, got 7"),
    ],
)
def test_an_outcome_with_a_wrong_argument_fails_in_the_connector_at_once(make: Any, error: Any, said: str) -> None:
    """A connector that changes them afterwards: that event alone is its bug (test_buggy_connectors)."""
    with pytest.raises(error, match=re.escape(said)):
        make()
