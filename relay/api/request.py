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
    """Refuse a request as a whole for its form: the answer is 400, and nothing of it is kept."""


class Denied(Exception):
    """Refuse a request for its credentials: the answer is 401."""


class Request(msgspec.Struct, gc=False):  # made in C: each request makes one
    """One request of a sender. In a test: `Request(b"...", {"X-Name": "value"})`."""

    body: bytes = b""
    """The bytes of the body, without Content-Encoding. Empty in `authorize`, and for every method but POST."""
    headers: Mapping[str, str] = {}
    """The headers by name, in any case."""
    query_string: str = ""
    """The part of the URL after its question mark, still encoded."""
    method: str = "POST"

    @property
    def query(self) -> dict[str, str]:
        """Return the parameters of the URL, decoded; of several with one name the first."""
        return dict(reversed(parse_qsl(self.query_string, keep_blank_values=True)))

    def header(self, name: str) -> str:
        """Return the value of a header that has to be there. Raises Malformed if it is missing or not UTF-8."""
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
        r"""Return the decoded body: an object or, with `kind`, a value of that type, such as a list.

        An unpaired surrogate escape comes from a text that was cut inside an emoji. It becomes `\ufffd`. Raises
        Malformed.
        """
        try:
            value = _decode_with_surrogates(self.body)
        except ValueError as error:
            raise Malformed(f"the body is not JSON: {error}") from None
        if not isinstance(value, kind):
            raise Malformed(f"the body is not {'an object' if kind is dict else f'of the type {kind.__name__}'}")
        return value


def _decode_with_surrogates(body: bytes) -> Any:
    """Decode JSON in which unpaired surrogates are no mistake. Raises ValueError."""
    try:
        return orjson.loads(body)
    except ValueError:
        if (tame := without_surrogates(body)) == body:
            raise
        return orjson.loads(tame)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that a source gives by itself, to a request that brings no events."""

    body: str | bytes = b""
    """At most 64 KiB."""
    content_type: str = "text/plain"
    status: int = 200
    """From 200 to 299. For all others raise Denied or Malformed."""
