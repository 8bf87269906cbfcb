"""Secrets do not get into logs and parked events, however a destination repeats them."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import Field

from relay.api import ConnectorSettings, Secret, Settings
from relay.api.text import cut
from relay.config.redaction import SHORTEST, LogRedaction, Redaction

TOKEN, KEY, PASSWORD, IN_SET = "tok/en+Hunter2==", "Bearer k3y-Value", "p\u00e4ss  word", "9876"


class Inner(Settings):
    password: Secret


class Chatty(ConnectorSettings):
    token: Secret | None = None
    headers: dict[str, str | Secret] = Field(default_factory=dict)
    inner: tuple[Inner, ...] = ()
    others: frozenset[Secret] = frozenset()


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Any:
    def secret(name: str, value: str) -> Secret:
        monkeypatch.setenv(name, value)
        return Secret("env", name)

    settings = Chatty(
        type="chatty",
        token=secret("A", TOKEN),
        headers={"env": secret("B", KEY), "X-Plain": "plain text", "X-Short": secret("C", "abc")},
        inner=(Inner(password=secret("D", PASSWORD)),),
        others=frozenset({secret("E", IN_SET), Secret("env", "NOT_THERE")}),
    )
    return Redaction(settings).clean


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"HTTP 403: no {TOKEN}, sorry", "HTTP 403: no ..., sorry"),
        (f"{TOKEN}{TOKEN} {IN_SET}", "...... ..."),
        (f"token={quote(TOKEN, safe='')}&x=1", "token=...&x=1"),
        (f"token={quote(TOKEN)}&x=1", "token=...&x=1"),
        (urlencode({"token": TOKEN}), "token=..."),
        (f"TOKEN={TOKEN.upper()} {quote(TOKEN, safe='').lower()} ", "TOKEN=... ... "),
        (f"you sent {KEY!r}", "you sent '...'"),
        ("you sent k3y-Value", "you sent ..."),
        (f"{PASSWORD}! p\u00e4ss word!", "...! ...!"),
        ("plain text and abc stay", "plain text and abc stay"),
        ("HTTP 500: tok/en", "HTTP 500: ..."),
        ("HTTP 500: tok%2Fen", "HTTP 500: ..."),
        ("HTTP 500: tok", "HTTP 500: tok"),
        ("a tok/en like others", "a tok/en like others"),
        ("9879879876", "987987..."),
        ("", ""),
    ],
)
def test_secrets_are_hidden_in_every_form(clean: Any, text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.promise(9)
@given(
    secret=st.text(st.sampled_from("abA/ +%\u00e9"), min_size=SHORTEST, max_size=30),
    before=st.text(st.sampled_from("abA/ +%\u00e9."), max_size=30),
    encode=st.sampled_from([str, quote, lambda text: quote(text, safe="")]),
    cut=st.integers(0, 100),
)
def test_no_cut_leaves_a_piece_of_a_secret(secret: str, before: str, encode: Any, cut: int) -> None:
    secret = secret.strip()  # as it is read
    assume(len(secret) >= SHORTEST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A", secret)
        clean = Redaction(Chatty(type="chatty", token=Secret("env", "A"))).clean
    echo = encode(secret)
    cleaned = clean((before + echo)[: len(before) + SHORTEST + cut])
    assert echo.lower() not in cleaned.lower()
    assert not cleaned.lower().endswith(tuple(echo[:n].lower() for n in range(SHORTEST, len(echo) + 1)))


HOOK = "https://hooks.example/services/T0/xyz7/A1b2C3d4?token=s3cr&v=2"


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("url", "text", "cleaned"),
    [
        (HOOK, f"InvalidURL: {HOOK}", "InvalidURL: https://hooks.example..."),
        (HOOK, "no hook A1b2C3d4 of services", "no hook ... of services"),
        (HOOK, "GET /services/T0/xyz7/A1b2C3d4?tok", "GET ..."),
        ("https://a.example/t%C3%B6ken-1/", "301 to https://a.example/t\u00f6ken-1/x", "301 to https://a.example.../x"),
        ("http://relay:hunter2@a.example/", "http://relay:hunter2@a.example: no", "http://relay:...@a.example: no"),
        ("https://k3y-value@a.example", "401 for k3y-value", "401 for ..."),
        ("https://a.example/", "GET / of a.example", "GET / of a.example"),
    ],
)
def test_of_urls_the_host_alone_is_told(url: str, text: str, cleaned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URL", url)
    assert Redaction(Chatty(type="chatty", headers={"x": url})).clean(text) == cleaned
    by_reference = Redaction(Chatty(type="chatty", token=Secret("env", "URL"))).clean(text)
    assert by_reference in (cleaned, text.replace(url, "..."))


def test_without_secrets_nothing_is_changed() -> None:
    assert Redaction(ConnectorSettings(type="file")).clean("HTTP 400: ...") == "HTTP 400: ..."


class Odd:
    def __str__(self) -> str:
        return "odd s3cret-token"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError


def test_no_value_of_a_line_tells_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONG", "s3cret-token")
    monkeypatch.setenv("SHORT", "s3cr")
    log = LogRedaction()
    log.note("source", "hook", Chatty(type="chatty", token=Secret("env", "LONG")))
    log.note("connector", "sink", Chatty(type="chatty", token=Secret("env", "SHORT")))
    values = {"text": "a s3cret-token", "list": ["s3cret-token", 7], "table": {"s": Odd()}, "odd": Mute(), "none": None}
    line: dict[str, Any] = {"event": "got s3cret-token", "level": "info", **values, "large": "E" * 5_000_000}
    log.clean(line)
    assert line.pop("large") == "E" * 20_000
    assert line.pop("odd") == "its text cannot be read: its __str__ fails"
    clean = {"text": "a ...", "list": ["...", 7], "table": {"s": "odd ..."}, "none": None}
    assert line == {"event": "got ...", "level": "info", **clean}
    short: dict[str, Any] = {"event": "s3cr", "reason": "s3cr"}
    log.clean(short)
    assert short["reason"] == "s3cr", "a short secret may be a word: it is hidden in lines of its connector alone"
    log.clean(short := short | {"connector": "sink"})
    assert short == {"event": "...", "reason": "...", "connector": "sink"}


def test_a_text_whose_key_is_named_like_a_secret_is_one() -> None:
    """Also in a table that is no settings, for its mistakes."""
    assert Redaction({"password": "hunter2", "name": "plain"}).clean("hunter2 is plain") == "... is plain"


def test_a_secret_of_a_table_with_mistakes_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONG", "s3cret-token")
    assert Redaction({"type": 7, "token": {"env": "LONG"}}).clean("no s3cret-token") == "no ..."


def test_a_secret_that_a_cut_goes_through_is_hidden() -> None:
    redaction = Redaction({"token": "s3cr3t/token+1"})
    said = cut("x" * 30 + "s3cr3t/token+1", 40)
    assert said.endswith("s3cr3t/to…")
    assert redaction.clean(said) == "x" * 30 + "...…"
