"""A stand-in for Heap's server-side API, single and bulk: `/api/track` and `/api/add_user_properties`.

It answers as Heap's documentation says (Track, Bulk track, Add user properties, Bulk add user properties). That it
refuses a whole body for one bad item, and answers 429 beyond its limits, is not documented but likely.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import orjson
from aiohttp import web

from relay.sandbox.server import StandIn

MINUTE_S: Final = 60.0
MOST_ITEMS: Final = 1000
MOST_CHARACTERS: Final = 1024
MOST_OF_IDENTITY: Final = 255


class Minute:
    """The events of the last minute, counted: in all and by identity."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, str]] = deque()
        self._counts: Counter[str] = Counter()
        self.most = 0
        """Events that one minute held at most."""
        self.most_of_one = 0
        """Events of one identity that one minute held at most."""

    def add(self, identities: list[str], now: float) -> None:
        """Count events."""
        while self._events and self._events[0][0] <= now - MINUTE_S:
            self._counts[self._events.popleft()[1]] -= 1
        self._events.extend((now, identity) for identity in identities)
        self._counts.update(identities)
        self.most = max(self.most, len(self._events))
        self.most_of_one = max([self.most_of_one, *(self._counts[identity] for identity in identities)])


class HeapApi(StandIn):
    """A local server, as a context manager. `faults` are statuses to answer with, one per request."""

    def __init__(
        self,
        app_id: str = "1",
        *,
        per_app: int = 15_000,
        per_identity: int = 1000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.faults = deque[int]()
        self.events: dict[str, dict[str, Any]] = {}
        """By idempotency key: of several with one key the first."""
        self.users: dict[str, dict[str, Any]] = {}
        """Properties by identity."""
        self.minute = Minute()
        self.statuses: Counter[int] = Counter()
        self.duplicates = 0
        self._app_id, self._per_app, self._per_identity, self._clock = app_id, per_app, per_identity, clock

    def routes(self) -> Iterable[web.RouteDef]:
        """The calls."""
        return [
            web.post("/api/track", self._track),
            web.post("/api/add_user_properties", self._add_user_properties),
        ]

    def capture(self, event: str, identities: Iterable[str]) -> None:
        """What Heap sees for itself, on the customer's pages."""
        for identity in identities:
            self.events[f"captured {len(self.events)}"] = {"event": event, "identity": identity}

    async def _track(self, request: web.Request) -> web.Response:
        items, wrong = self._items(await request.read(), "events", _wrong_with_event)
        if wrong or self.faults:
            return self._answer(self.faults.popleft() if self.faults else 400, wrong)
        self.minute.add([str(item.get("identity") or item.get("user_id")) for item in items], self._clock())
        if self.minute.most > self._per_app or self.minute.most_of_one > self._per_identity:
            return self._answer(429, "too many events in a minute")
        for item in items:
            key = item.get("idempotency_key") or f"none {len(self.events)}"
            self.duplicates += key in self.events
            self.events.setdefault(key, item)
        return self._answer(200, "")

    async def _add_user_properties(self, request: web.Request) -> web.Response:
        items, wrong = self._items(await request.read(), "users", _wrong_with_user)
        if wrong or self.faults:
            return self._answer(self.faults.popleft() if self.faults else 400, wrong)
        for item in items:
            self.users.setdefault(item["identity"], {}).update(item["properties"])
        return self._answer(200, "")

    def _items(
        self, body: bytes, key: str, wrong_with: Callable[[dict[str, Any]], Iterator[str]]
    ) -> tuple[list[dict[str, Any]], str]:
        """The items of a call, a single one as a list of one, and what is wrong with it."""
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError:
            return [], "the body is not JSON"
        if fields.get("app_id") != self._app_id:
            return [], "postBody.app_id is not known"
        items = fields.get(key, [fields])
        if len(items) > MOST_ITEMS:
            return [], f"postBody.{key} should have at most {MOST_ITEMS} items"
        found = (f"postBody.{key}[{n}].{what}" for n, item in enumerate(items) for what in wrong_with(item))
        return items, next(found, "")

    def _answer(self, status: int, said: str) -> web.Response:
        self.statuses[status] += 1
        return web.Response(status=status, text=said)


def _wrong_with_event(item: dict[str, Any]) -> Iterator[str]:
    if not isinstance(name := item.get("event"), str) or not 0 < len(name) <= MOST_CHARACTERS:
        yield "event should be a string of 1 to 1024 characters"
    if ("identity" in item) == ("user_id" in item):
        yield "identity or user_id should be there, not both"
    yield from _wrong_with_identity(item.get("identity", "none"))
    yield from _wrong_with_properties(item.get("properties", {}))


def _wrong_with_user(item: dict[str, Any]) -> Iterator[str]:
    yield from _wrong_with_identity(item.get("identity"))
    yield from _wrong_with_properties(item.get("properties"))


def _wrong_with_identity(identity: Any) -> Iterator[str]:
    if not isinstance(identity, str) or not 0 < len(identity) <= MOST_OF_IDENTITY:
        yield "identity should be a string of 1 to 255 characters"


def _wrong_with_properties(properties: Any) -> Iterator[str]:
    if not isinstance(properties, dict):
        yield "properties should be object"
        return
    for key, value in properties.items():
        if len(key) >= MOST_CHARACTERS or key.lower() == "id":
            yield f"properties.{key[:40]} is not allowed"
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            yield f"properties.{key[:40]} should be string or number"
        elif isinstance(value, str) and len(value) >= MOST_CHARACTERS:
            yield f"properties.{key[:40]} is too long"
