"""What a sender's request is to a source, and what a source may say to it by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload
from urllib.parse import parse_qsl

import msgspec
import orjson

from relay.api.json_parts import without_surrogates

T = TypeVar("T")


class Malformed(Exception):
    """The request as a whole is not of the agreed shape: the answer is 400 and nothing of it is kept."""


class Denied(Exception):
    """The sender's credentials are missing or wrong: the answer is 401."""


class Request(msgspec.Struct, gc=False):  # made in C: each request makes one
    """One request of a sender. In a test, `Request(b"...", {"X-Name": "value"})` is one."""

    body: bytes = b""
    """As it came, but for its Content-Encoding; empty while the source authorizes the sender, and of any method but
    POST."""
    headers: Mapping[str, str] = {}
    """By name, in any case."""
    query_string: str = ""
    """What the URL has behind its question mark, still encoded."""
    method: str = "POST"

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the URL, decoded; of several with one name the first."""
        return dict(reversed(parse_qsl(self.query_string, keep_blank_values=True)))

    def header(self, name: str) -> str:
        """The value of a header that has to be there, and to be UTF-8. Raises Malformed."""
        if not (value := self.headers.get(name)):
            raise Malformed(f"the header {name} is missing")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Malformed(f"the header {name} is not UTF-8") from None
        return value

    @overload
    def json(self) -> dict[str, Any]: ...

    @overload
    def json(self, kind: type[T]) -> T: ...

    def json(self, kind: type[Any] = dict) -> Any:
        r"""The body, decoded: an object or, if `kind` says so, a list for instance. An unpaired surrogate escape, of a
        text that was cut inside an emoji, becomes `\ufffd`. Raises Malformed."""
        try:
            value = _decoded(self.body)
        except ValueError as error:
            raise Malformed(f"the body is not JSON: {error}") from None
        if not isinstance(value, kind):
            raise Malformed(f"the body is not {'an object' if kind is dict else f'of the type {kind.__name__}'}")
        return value


def _decoded(body: bytes) -> Any:
    """Raises ValueError."""
    try:
        return orjson.loads(body)
    except ValueError:
        if (tame := without_surrogates(body)) == body:
            raise
        return orjson.loads(tame)


@dataclass(frozen=True, slots=True)
class Response:
    """What a source answers by itself: no events come of the request."""

    body: str | bytes = b""
    """64 KiB at most."""
    content_type: str = "text/plain"
    status: int = 200
    """From 200 to 299. For all else a source raises Denied or Malformed."""
