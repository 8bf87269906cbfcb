"""Who knows a secret is told from who does not, in the forms that senders of webhooks use."""

import base64
import hmac
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import Denied, Malformed, Request, Secret, Source, SourceSettings, check_hmac, check_secret

SECRET, BODY = b"whispered", b'{"id": 1}'
HEX = hmac.digest(SECRET, BODY, "sha256").hex()
BASE64 = base64.b64encode(hmac.digest(SECRET, BODY, "sha256")).decode()


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (HEX, {}),
        (HEX.upper(), {}),
        (f"sha256={HEX}", {"prefix": "sha256="}),
        (BASE64, {"encoding": "base64"}),
        (f"v1,{BASE64}", {"prefix": "v1,", "encoding": "base64"}),
        (["00" * 32, HEX], {}),
        (hmac.digest(SECRET, BODY, "sha1").hex(), {"algorithm": "sha1"}),
    ],
)
def test_a_signature_in_its_form_passes(given: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET.decode())
    check_hmac(given, SECRET, BODY, **options)
    check_hmac(given, Secret("env", "HOOK"), BODY, **options)


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (None, {}, "is missing"),
        ("", {}, "is missing"),
        ([], {}, "is missing"),
        (["", ""], {}, "is missing"),
        (HEX, {"prefix": "sha256="}, "does not fit"),
        (f"sha256={HEX}", {}, "does not fit"),
        (HEX[:-1], {}, "does not fit"),
        (HEX[:-2], {}, "does not fit"),
        (HEX, {"encoding": "base64"}, "does not fit"),
        (BASE64, {}, "does not fit"),
        ("\u0661" * 64, {}, "does not fit"),
        ("\ud83d", {"encoding": "base64"}, "does not fit"),
        ("sha256=", {"prefix": "sha256="}, "does not fit"),
        (["00" * 32, "no"], {}, "does not fit"),
    ],
)
def test_any_other_is_denied(given: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(Denied, match=said):
        check_hmac(given, SECRET, BODY, **options)


@pytest.mark.parametrize("write", [lambda at: str(int(at)), lambda at: str(int(at * 1000)), lambda at: f"{at:.3f}"])
def test_a_timestamp_is_of_late(write: Callable[[float], str]) -> None:
    now = time.time()
    for age in (0, 250, -250):
        check_hmac(HEX, SECRET, BODY, timestamp=write(now - age))
    for age, said in ((400, "4[0-9][0-9] s old, 300 s are allowed"), (-400, "in the future")):
        with pytest.raises(Denied, match=said):
            check_hmac(HEX, SECRET, BODY, timestamp=write(now - age))
    check_hmac(HEX, SECRET, BODY, timestamp=write(now - 400), tolerance=600)


@pytest.mark.parametrize("timestamp", ["", "soon", "nan", "inf", "-1", "1e400", "0x10"])
def test_what_is_no_timestamp_is_denied(timestamp: str) -> None:
    with pytest.raises(Denied, match=r"timestamp|old"):
        check_hmac(HEX, SECRET, BODY, timestamp=timestamp)


@given(st.text(), st.sampled_from(["hex", "base64"]), st.text(max_size=3))
def test_whatever_is_sent_it_is_denied_and_nothing_else(text: str, encoding: Any, prefix: str) -> None:
    with pytest.raises(Denied):
        check_hmac(text, SECRET, BODY, encoding=encoding, prefix=prefix, timestamp=str(time.time()))


def test_a_request_has_its_query_headers_and_json() -> None:
    request = Request(b'{"a": 1}', {"X-Event": "push"}, "a=1&b=%26+x&a=2&c", "GET")
    assert request.query == {"a": "1", "b": "& x", "c": ""}
    assert (request.header("X-Event"), request.json(), request.method) == ("push", {"a": 1}, "GET")
    assert (Request().query, Request().method, Request(b"x").headers) == ({}, "POST", {})
    with pytest.raises(Malformed, match="the header X-Other is missing"):
        request.header("X-Other")
    for body in (b"", b"{", b"\xff", b"[" * 5000):
        with pytest.raises(Malformed, match="the body is not JSON"):
            Request(body).json()
    with pytest.raises(Malformed, match="not an object"):
        Request(b"[]").json()
    assert Request(b"[1]").json(list) == [1]
    assert Request(b'{"cut": "\\ud83d"}').json() == {"cut": "\ufffd"}
    for value, said in (("", "is missing"), ("\ud83d", "not UTF-8")):
        with pytest.raises(Malformed, match=said):
            Request(headers={"X-Id": value}).header("X-Id")


def test_a_secret_is_compared_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "whispered \u00e9")
    check_secret("whispered \u00e9", Secret("env", "HOOK"))
    for offered, said in ((None, "missing"), ("", "missing"), ("whispered", "wrong"), ("\ud83d", "wrong")):
        with pytest.raises(Denied, match=said):
            check_secret(offered, Secret("env", "HOOK"))


def test_what_a_sender_knows_is_compared_in_a_time_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that may fit is compared, also behind what fits. Looked at: signatures, secrets, bearer tokens."""
    compared: list[bytes] = []

    def compare(given: bytes, known: bytes) -> bool:
        compared.append(given)
        return given == known

    monkeypatch.setattr("hmac.compare_digest", compare)
    monkeypatch.setenv("HOOK", "whispered")
    check_hmac([HEX, "00" * 32], SECRET, BODY)
    check_secret("whispered", Secret("env", "HOOK"))
    tokens = [{"env": "HOOK"}] * 2
    hook = Source("hook", SourceSettings.model_validate({"type": "hook", "path": "/hook", "tokens": tokens}))
    hook.authorize(Request(headers={"Authorization": "Bearer whispered"}))
    assert compared == [bytes.fromhex(HEX), bytes(32), b"whispered", *[b"Bearer whispered"] * 2]


def test_a_type_that_is_none_is_the_senders_fault() -> None:
    class Hook(Source):
        pass

    hook = Hook("hook", SourceSettings.model_validate({"type": "hook", "path": "/hook"}))
    assert hook.kind("a") is hook.kind("a") is hook.kinds()["a"]
    assert hook.kind("a", "number").id_field == "number"
    for odd in ("", "t" * 257, "\ud83d"):
        with pytest.raises(Malformed, match="the event type has"):
            hook.kind(odd)
    with pytest.raises(TypeError):
        hook.kind(7)  # type: ignore[arg-type]
