"""A stand-in for Segment's batch API (Segment docs, HTTP API).

Segment answers 400 to a request that is too large or no JSON, and 200 to all others, also if it refuses calls later.
Switches choose what the documentation leaves open.
"""

import time
from base64 import b64decode
from binascii import Error
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import orjson
from aiohttp import web
from pydantic import Field

from relay.sandbox.doors import get
from relay.sandbox.server import Refused, StandIn
from relay.sandbox.switches import Seconds, ServerSwitches

MOST_CALLS: Final = 2500
MOST_BYTES: Final = 500_000
MOST_OF_CALL: Final = 32 << 10
MOST_OF_MESSAGE_ID: Final = 100
TYPES: Final = frozenset({"track", "identify", "page", "screen", "group", "alias"})


class SegmentSwitches(ServerSwitches):
    """Switches of Segment's batch API."""

    wrong_key: Literal["accept", "refuse"] = Field(
        "accept", description="A wrong write key: 200 and forgotten, as Segment; or 401, as RudderStack."
    )
    remember: Seconds = Field(86_400.0, description="How long it knows a messageId, in seconds of its clock.")
    bad_call: Literal["forget", "refuse"] = Field(
        "forget", description="A call without user, event or type: 200 and forgotten, or 400."
    )


class SegmentApi(StandIn):
    """A local server, as a context manager."""

    switches: SegmentSwitches

    def __init__(self, write_key: str = "key", *, clock: Callable[[], float] = time.time, **switches: Any) -> None:
        """`switches`: fields of `SegmentSwitches`."""
        super().__init__(SegmentSwitches(**switches), clock)
        self.calls: list[dict[str, Any]] = []
        """The calls that were taken."""
        self.refused = Counter[str]()
        """Calls that were answered 200 and refused later, by reason: the sender does not learn of them."""
        self.duplicates = 0
        self._write_key = write_key
        self._known: dict[str, float] = {}
        """When each messageId came."""
        self.doors = [get("events", self._show_calls), get("books", self._show_counts)]

    def list_routes(self) -> Iterable[web.RouteDef]:
        """Return the route of the API."""
        return [web.post("/v1/batch", self._take_batch)]

    def answer(self, status: int, message: str) -> web.Response:
        """Make an answer in the form of Segment."""
        said = {"success": True} if status < 300 else {"success": False, "message": message}
        return web.json_response(said, status=status)

    async def _take_batch(self, request: web.Request) -> web.Response:
        body = await request.read()
        if len(body) > MOST_BYTES:
            raise Refused(400, "request body exceeds 500 KB")
        try:
            fields = orjson.loads(body)
            calls = fields["batch"]
            too_large = any(len(orjson.dumps(call)) > MOST_OF_CALL for call in calls)
        except (ValueError, LookupError, TypeError):
            raise Refused(400, "malformed JSON") from None
        if too_large:
            raise Refused(400, "message exceeds 32 KB")
        has_key = self._write_key in (_read_key(request.headers), fields.get("writeKey"))
        if not has_key and self.switches.wrong_key == "refuse":
            raise Refused(401, "Invalid Authorization Header")
        good = [call for call in calls if _is_good(call)]
        if len(good) < len(calls) and self.switches.bad_call == "refuse":
            raise Refused(400, "invalid call")
        if reason := "wrong write key" if not has_key else "too many calls" if len(calls) > MOST_CALLS else "":
            self.refused[reason] += len(calls)
            return self.answer(200, "")
        self.refused["invalid call"] += len(calls) - len(good)
        for call in good:
            self._take(call)
        return self.answer(200, "")

    def _take(self, call: dict[str, Any]) -> None:
        key, now = call.get("messageId", f"none {len(self.calls)}"), self.clock()
        if now - self._known.get(key, float("-inf")) <= self.switches.remember:
            self.duplicates += 1
            return
        self._known[key] = now
        self.calls.append(call)

    def _show_calls(self, query: Any) -> Any:
        wanted = query.get("user")
        return [call for call in self.calls if wanted in (None, call.get("userId"), call.get("anonymousId"))]

    def _show_counts(self, _: Any) -> Any:
        return {
            "calls": len(self.calls),
            "refused": self.refused.total(),
            "reasons": dict(+self.refused),
            "duplicates": self.duplicates,
            "requests": dict(self.statuses),
        }


def _read_key(headers: Mapping[str, str]) -> str:
    """Return the write key, which is the user of Basic authentication; "" without a key."""
    try:
        return b64decode(headers.get("Authorization", "").removeprefix("Basic ")).decode().partition(":")[0]
    except (Error, UnicodeDecodeError):
        return ""


def _is_good(call: Any) -> bool:
    """Return whether Segment keeps a call."""
    if not isinstance(call, dict) or call.get("type") not in TYPES:
        return False
    user = call.get("userId") or call.get("anonymousId")
    key, name = call.get("messageId", ""), call.get("event") if call["type"] == "track" else "none"
    return (
        isinstance(user, str)
        and isinstance(key, str)
        and len(key) < MOST_OF_MESSAGE_ID
        and isinstance(name, str)
        and bool(name)
        and isinstance(call.get("properties", {}), dict)
        and isinstance(call.get("traits", {}), dict)
    )
