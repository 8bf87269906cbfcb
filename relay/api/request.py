"""What a sender's request is to a source, and what a source may say to it by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import orjson


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
        """The value of a header that has to be there. Raises Malformed."""
        if (value := self.headers.get(name)) is None:
            raise Malformed(f"the header {name} is missing")
        return value

    def json(self) -> Any:
        """The body, decoded. Raises Malformed."""
        try:
            return orjson.loads(self.body)
        except ValueError as error:
            raise Malformed(f"the body is not JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Response:
    """What a source answers by itself: no events come of the request."""

    body: str | bytes = b""
    """64 KiB at most."""
    content_type: str = "text/plain"
    status: int = 200
    """From 200 to 299. For all else a source raises Denied or Malformed."""
