"""Refusals of requests that cannot be read: fixed words, never a byte of the request."""

from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Final, Literal

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, BadStatusLine, InvalidURLError, LineTooLong

from relay.listen.limits import HEAD_BYTES, LINE_BYTES

Cause = Literal["malformed", "too_large", "timeout", "full", "evicted", "bug"]
"""A label of the metrics."""
PROBLEM_JSON: Final = "application/problem+json"


@dataclass(frozen=True)
class Refusal:
    """The answer to an invalid or incomplete request."""

    cause: Cause
    status: int
    reason: str
    retry_after: int = 0
    """Seconds; 0: sending again is useless."""

    @property
    def _headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)} if self.retry_after else {}

    @cached_property
    def _body(self) -> bytes:
        problem = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.reason}
        return msgspec.json.encode(problem)

    def make_response(self) -> web.Response:
        """Make the answer for aiohttp."""
        response = web.Response(status=self.status, body=self._body, content_type=PROBLEM_JSON, headers=self._headers)
        response.force_close()
        return response

    @cached_property
    def answer(self) -> bytes:
        """The answer in bytes, for use without a request of aiohttp."""
        headers = {
            "Content-Type": PROBLEM_JSON,
            "Content-Length": str(len(self._body)),
            "Connection": "close",
            **self._headers,
        }
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self._body


TLS: Final = Refusal("malformed", 400, "this is TLS, and the listener speaks plain HTTP")
NO_HTTP: Final = Refusal(
    "malformed", 400, "this is no HTTP/1.1 request, or a body without Content-Length was before it"
)
BAD_TARGET: Final = Refusal("malformed", 400, "the request line has no valid path")
BAD_MESSAGE: Final = Refusal("malformed", 400, "a header, or the framing of the body, is not valid HTTP/1.1")
BAD_BODY: Final = Refusal("malformed", 400, "the framing of the body is not valid HTTP/1.1")
LONG_LINE: Final = Refusal("too_large", 431, f"the request line or a header is longer than {LINE_BYTES >> 10} KiB")
LONG_HEAD: Final = Refusal("too_large", 431, f"the headers are longer than {HEAD_BYTES >> 10} KiB")
MANY_HEADERS: Final = Refusal("too_large", 431, "there are too many headers")
ODD_EXPECT: Final = Refusal("malformed", 417, "Expect may only be 100-continue")
BUG: Final = Refusal("bug", 500, "relay failed to answer; its log has more")

PARSER_ERRORS: Final = ((LineTooLong, LONG_LINE), (InvalidURLError, BAD_TARGET), (BadStatusLine, NO_HTTP))


def make_refusal(error: BaseException | None) -> Refusal:
    """Make the refusal for an error of aiohttp's parser. The error's own words hold parts of the request."""
    said = getattr(error, "message", "")
    if isinstance(error, BadHttpMethod) and said.startswith("Received HTTPS"):
        return TLS
    if said.startswith("Too many headers"):
        return MANY_HEADERS
    return next((refusal for kind, refusal in PARSER_ERRORS if isinstance(error, kind)), BAD_MESSAGE)
