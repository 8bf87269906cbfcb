"""Error answers, as RFC 9457 problem bodies."""

from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web

from relay.api.internal import cut
from relay.words import REASON_CHARS

JOURNAL_AWAY: Final = "the journal takes no events at the moment"
"""What a sender reads for an error of a database: its own words name hosts, users and schemas."""


class Problem(Exception):
    """Raised for a request that is not accepted, with the reason for its reader."""

    told = ""
    """What the sender reads in place of the detail; "": the detail."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = cut(detail, REASON_CHARS)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def make_response(self, request: web.BaseRequest) -> web.Response:
        """Make the answer to this request."""
        body = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.told or self.detail}
        response = web.Response(
            status=self.status,
            body=orjson.dumps(body),
            content_type="application/problem+json",
            headers=self.headers,
        )
        uninvited = "Expect" in request.headers and not request.content.is_eof()
        if uninvited or self.headers.get("Connection") == "close":
            response.force_close()  # what comes next on the connection may be the body, or another request
        return response


def make_busy(detail: str, retry_after_s: int, told: str = "") -> Problem:
    """Make a 503: nothing is wrong with the request, and the sender is to send it again.

    `told`: what the sender reads in place of the detail, which goes into log and status.
    """
    problem = Problem(503, detail, Retry_After=str(retry_after_s))
    problem.told = told
    return problem
