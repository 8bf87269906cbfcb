"""References to secrets: one value however it is read, and what no header can carry is told.

Looked at as well: the tokens of the admin listener and of connectors, headers of `http`, TLS files.
"""

from pathlib import Path

import pytest

from relay.api import Secret
from relay.api.secret import BearerToken, HeaderSecret
from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry

VALUE = "s3cret-value"


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a secret of this content for each way to refer to one."""

    def made(content: bytes, kind: type[Secret] = Secret) -> list[Secret]:
        (tmp_path / "token").write_bytes(content)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        ways = {"credential": "token", "file": str(tmp_path / "token")}
        if b"\0" not in content:
            monkeypatch.setenv("RELAY_SECRET", content.decode("utf-8", "surrogateescape"))
            ways["env"] = "RELAY_SECRET"
        return [kind(how, name) for how, name in ways.items()]

    return made


@pytest.mark.parametrize(
    "content",
    [
        b"s3cret-value",
        b"s3cret-value\n",
        b"\r\n\t s3cret-value \t\r\n\n",
        b"\xef\xbb\xbfs3cret-value\r\n",
        b" \xef\xbb\xbf s3cret-value\xef\xbb\xbf\n",
        "\u00a0s3cret-value\u2003".encode(),
    ],
)
def test_white_space_and_a_byte_order_mark_are_left_out(read, content) -> None:
    assert [one.reveal() for one in read(content)] == [VALUE] * 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b" \n", "it is empty"),
        (b"\xef\xbb\xbf\n", "it is empty"),
        (b"\xff\xfes\x003\x00", "it is not UTF-8"),
        (b"s3cret-value\xff", "it is not UTF-8"),
    ],
)
def test_what_is_no_text_is_told(read, content, said) -> None:
    for one in read(content):
        assert str(one.problem).endswith(f"cannot be read: {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"s3cret\nvalue", "a line break"),
        (b"s3cret\r\nvalue", "a line break"),
        (b"s3cret\tvalue", "a control character (U+0009)"),
        (b"s3cret\0value", "a control character (U+0000)"),
        (b"s3cret\x1b[31mvalue", "a control character (U+001B)"),
        (b"s3cret\xe2\x80\x8bvalue", "zero width space (U+200B)"),
    ],
)
@pytest.mark.parametrize("kind", [HeaderSecret, BearerToken])
def test_what_no_header_can_carry_is_a_mistake(read, content, said, kind) -> None:
    for one in read(content, kind):
        assert one.problem == f"{one} cannot be sent in a header: it holds {said}"
    assert all(one.problem is None for one in read(content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"'s3cret-value'\n", "stands in quotes: they are part of the secret"),
        (b'"s3cret value"', "stands in quotes: they are part of the secret"),
        ("s3cr\u00e9t".encode(), "holds characters beyond ASCII: many programs do not send them in a header"),
    ],
)
def test_what_is_probably_not_meant_is_a_doubt(read, content, said) -> None:
    for one in read(content, HeaderSecret):
        assert (one.doubt, one.problem) == (f"{one} {said}", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"TOK=s3cret", "looks like NAME=value: only the value is the secret"),
        (b"export TOK='s3cret'\n", "looks like NAME=value: only the value is the secret"),
        (b'{"token": "s3cret"}', "looks like JSON: only the value in it is the secret"),
        (b"s3cret-value==", None),
        (b"c2VjcmV0=", None),
    ],
)
def test_a_secret_that_was_copied_with_its_surroundings_is_a_doubt(read, content, said) -> None:
    """Looked at as well: other headers, of which a cookie has the form NAME=value."""
    for kind in (Secret, BearerToken):
        for one in read(content, kind):
            assert (one.doubt, one.problem) == (said and f"{one} {said}", None)
    assert all(one.doubt is None for one in read(content, HeaderSecret))


@pytest.mark.parametrize("kind", [HeaderSecret, BearerToken])
def test_a_secret_that_is_too_long_for_a_header_is_a_doubt(read, kind) -> None:
    for one in read(b"x" * (32 << 10), kind):
        said = "is longer than the 32 KiB that relay and most servers take of a header"
        assert (one.doubt, one.problem) == (f"{one} {said}", None)
    assert all(one.doubt is None for one in read(b"x" * (31 << 10), kind))


def test_a_token_has_no_space_but_another_header_may(read) -> None:
    assert read(b"Basic abc", HeaderSecret)[0].doubt is None
    assert (
        read(b"Basic abc", BearerToken)[0].doubt
        == '{ credential = "token" } holds a space, and a token has none: was it copied whole?'
    )


@pytest.mark.parametrize(("name", "advice"), [("$TOK", True), ("${TOK}", True), ("TOK", False), ("$T-K", False)])
def test_a_variable_is_named_without_a_dollar(name: str, *, advice: bool) -> None:
    said = str(Secret("env", name).problem)
    assert f"the environment has no variable {name}" in said
    assert said.endswith(': write the name without the $, env = "TOK"') is advice


def test_a_check_names_the_setting_of_such_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "s3cret\nvalue")
    monkeypatch.setenv("QUOTED", '"s3cret"')
    (tmp_path / "a.toml").write_text("""
[source.s]
type = "currents"
path = "/s"
tokens = [{ env = "BROKEN" }, { env = "QUOTED" }]
[admin]
tokens = [{ env = "BROKEN" }]
[connector.h]
type = "http"
url = "https://a.example"
token = { env = "BROKEN" }
headers = { X-Key = { env = "BROKEN" }, X-Other = { env = "QUOTED" } }
[connector.heap]
type = "heap"
endpoint = "https://a.example"
token = { env = "BROKEN" }
""")
    with pytest.raises(ConfigError) as error:
        load([tmp_path], Registry.discover(()))
    told = {mistake.key for mistake in error.value.mistakes if "cannot be sent in a header" in mistake.reason}
    assert told == {
        "source.s.tokens[0]",
        "admin.tokens[0]",
        "connector.h.token",
        "connector.h.headers.X-Key",
        "connector.heap.token",
    }
    doubts = {warning.key for warning in error.value.warnings if "stands in quotes" in warning.reason}
    assert doubts == {"source.s.tokens[1]", "connector.h.headers.X-Other"}
    assert "s3cret" not in f"{error.value.mistakes}{error.value.warnings}"
