"""A stand-in for Heap's webhook, which takes the events of a Custom HTTP Current.

Heap does not document the name that it gives to an event. Here the name is the Currents type.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Any, Final, Literal, Self

import orjson
from aiohttp import web
from pydantic import Field

from relay.sandbox.server import Refused, StandIn
from relay.sandbox.switches import ServerSwitches

PREFIX: Final = "braze-"
NEWEST: Final = 1000
"""Events that the stand-in keeps to show them."""


class WebhookSwitches(ServerSwitches):
    """Switches of Heap's webhook."""

    identity: Literal["external_user_id", "user_id"] = Field(
        "external_user_id", description="The field of Braze that is the identity."
    )
    prefix: bool = Field(False, description=f"Names of events and properties start with {PREFIX}.")
    without_identity: Literal["drop", "refuse"] = Field(
        "drop", description="Events without that field: forgotten, or the whole request is answered 400."
    )


class HeapWebhook(StandIn):
    """A local server, as a context manager. It remembers ids and types of accepted events.

    It calls `take` with the id and the form in Heap of each event that it has not had before.
    """

    switches: WebhookSwitches

    def __init__(
        self,
        *,
        token: str | None = None,
        take: Callable[[str, Mapping[str, Any]], None] | None = None,
        **switches: Any,
    ) -> None:
        """`switches`: fields of `WebhookSwitches`."""
        super().__init__(WebhookSwitches(**switches))
        self.ids: set[str] = set()
        self.types: Counter[str] = Counter()
        """Events per type, without duplicates."""
        self.duplicates = 0
        self.without_identity = 0
        """Events without the chosen identity."""
        self.newest = deque[Mapping[str, Any]](maxlen=NEWEST)
        """The last events with identity, in their form in Heap."""
        self._expected = f"Bearer {token}".encode() if token else None
        self._hand_over = take

    def list_routes(self) -> Iterable[web.RouteDef]:
        """Return the route of the webhook."""
        return [web.post("/webhook", self._take)]

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.url += "/webhook"
        return self

    async def _take(self, request: web.Request) -> web.Response:
        offered = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if self._expected and not compare_digest(offered, self._expected):
            raise Refused(401, "wrong token")
        body = await request.read()
        try:
            events = orjson.loads(body)["events"] if body else []
            seen = [(event["id"], event["event_type"], self._map_event(event)) for event in events]
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
            raise Refused(400, 'expected {"events":[...]}, each with id and event_type') from None
        if self.switches.without_identity == "refuse" and any(mapped is None for _, _, mapped in seen):
            raise Refused(400, f"an event without {self.switches.identity}")
        for event_id, kind, mapped in seen:
            if event_id in self.ids:
                self.duplicates += 1
                continue
            self.ids.add(event_id)
            self.types[kind] += 1
            self.without_identity += mapped is None
            if mapped is not None:
                self.newest.append(mapped)
                if self._hand_over is not None:
                    self._hand_over(event_id, mapped)
        return web.json_response({"taken": len(events)})

    def _map_event(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the form of an event in Heap; None without identity."""
        identity = event.get("user", {}).get(self.switches.identity)
        if not identity:
            return None
        prefix = PREFIX if self.switches.prefix else ""
        return {
            "identity": identity,
            "event": prefix + event["event_type"],
            "timestamp": datetime.fromtimestamp(event.get("time", 0), UTC).isoformat(),
            "properties": {prefix + name: value for name, value in event.get("properties", {}).items()},
        }
