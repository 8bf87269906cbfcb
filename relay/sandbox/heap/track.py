"""A stand-in for Heap's server-side API: events, properties of users and of accounts, single and bulk, and identify.

It answers as Heap's documentation says. Two answers are likely, not documented: it refuses a whole body for one bad
item, and answers 429 beyond its limits. Switches change both. `deletion` deletes users.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Any, Final, Literal

import orjson
from aiohttp import web
from pydantic import Field

from relay.sandbox.heap.deletion import Deletions, DeletionSwitches
from relay.sandbox.heap.validation import (
    Check,
    check_account,
    check_event,
    check_identify,
    check_user,
    convert_properties,
)
from relay.sandbox.limits import RateWindow
from relay.sandbox.server import Refused, StandIn
from relay.sandbox.switches import ServerSwitches

MINUTE_S, HALF_MINUTE_S, MONTH_S = 60.0, 30.0, 30 * 86_400.0
MOST_ITEMS: Final = 1000
MOST_DEVICES: Final = 10
"""Anonymous users that may get the same identity in a month."""
HOSTS: Final = {"us": "heapanalytics.com", "eu": "c.eu.heap-api.com"}

Items = Sequence[Mapping[str, Any]]


class ApiSwitches(DeletionSwitches, ServerSwitches):
    """Switches of Heap's server-side API."""

    per_app: int = Field(15_000, ge=1, description="Events that bulk calls may bring in a minute of its clock ...")
    per_identity: int = Field(1000, ge=1, description="... and of one identity.")
    per_single: int = Field(30, ge=1, description="Single calls for one identity in half a minute.")
    over_limit: Literal["refuse", "drop"] = Field("refuse", description="Beyond: 429, or 200 and forgotten.")
    partial: bool = Field(False, description="Take the good items of a bulk call with bad ones, and answer 200.")
    region: Literal["us", "eu"] = Field("us", description="Which of Heap's two hosts it is.")
    wrong_region: Literal["accept", "refuse", "lose"] = Field(
        "accept", description="Calls with the other's name in their Host header: as usual, 400, or 200 and forgotten."
    )


class HeapApi(StandIn):
    """A local server, as a context manager."""

    switches: ApiSwitches

    def __init__(
        self, app_id: str = "1", *, api_key: str = "key", clock: Callable[[], float] = time.time, **switches: Any
    ) -> None:
        """`switches`: fields of `ApiSwitches`."""
        super().__init__(ApiSwitches(**switches), clock)
        self.events: dict[str, dict[str, Any]] = {}
        """Events by idempotency key. The first event with a key stays."""
        self.users: dict[str, dict[str, Any]] = {}
        """Properties by identity, of every identity that a call has named."""
        self.accounts: dict[str, dict[str, Any]] = {}
        """Properties by account."""
        self.identities: dict[str, str] = {}
        """Identities of anonymous users, by `user_id`."""
        self.minute = RateWindow(MINUTE_S)
        self.duplicates = 0
        self.deletions = Deletions(f"{app_id}:{api_key}", lambda: self.switches, clock, self._forget)
        self._app_id = app_id
        self._singles = {"events": RateWindow(HALF_MINUTE_S), "users": RateWindow(HALF_MINUTE_S)}
        self._month = RateWindow(MONTH_S)

    def list_routes(self) -> Iterable[web.RouteDef]:
        """Return the routes of the calls."""
        add_to_users = partial(_add_properties, self.users, "identity")
        add_to_accounts = partial(_add_properties, self.accounts, "account_id")
        return [
            self._make_route("/api/track", "events", check_event, self._track),
            self._make_route("/api/add_user_properties", "users", check_user, add_to_users),
            self._make_route("/api/add_account_properties", "accounts", check_account, add_to_accounts),
            self._make_route("/api/v1/identify", "", check_identify, self._identify),
            *self.deletions.list_routes(),
        ]

    def remember(self, key: str, event: Mapping[str, Any]) -> None:
        """Take an event, unless an event with this key is there."""
        if key in self.events:
            self.duplicates += 1
            return
        self.events[key] = {"timestamp": datetime.fromtimestamp(self.clock(), UTC).isoformat(), **event}
        if "identity" in event:
            self.users.setdefault(event["identity"], {})

    def capture(self, event: str, identities: Iterable[str]) -> None:
        """Take an event of each user, as Heap sees them itself on the customer's pages."""
        for identity in identities:
            self.remember(f"captured {len(self.events)}", {"event": event, "identity": identity})

    def _forget(self, identities: Iterable[str]) -> None:
        deleted = {*identities}
        self.events = {key: event for key, event in self.events.items() if event.get("identity") not in deleted}
        for identity in deleted:
            self.users.pop(identity, None)

    def _make_route(self, path: str, key: str, check: Check, take: Callable[[Items], None]) -> web.RouteDef:
        async def answer(request: web.Request) -> web.Response:
            fields = self._read_fields(await request.read())
            items = fields.get(key, [fields])
            good, complaint = _sort_items(items, key or "events", check)
            if complaint and not (self.switches.partial and key in fields):
                raise Refused(400, complaint)
            other = HOSTS["eu" if self.switches.region == "us" else "us"]
            is_elsewhere = request.host == other and self.switches.wrong_region != "accept"
            if is_elsewhere and self.switches.wrong_region == "refuse":
                raise Refused(400, f"this app's data does not belong to {other}")
            if not is_elsewhere and self._fits(good, key, bulk=key in fields):
                take(good)
            return self.answer(200, complaint)

        return web.post(path, answer)

    def _read_fields(self, body: bytes) -> dict[str, Any]:
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Refused(400, "the body is not JSON") from None
        if not isinstance(fields, dict):
            raise Refused(400, "postBody should be object")
        if fields.get("app_id") != self._app_id:
            raise Refused(400, "postBody.app_id is not known")
        return fields

    def _fits(self, items: Items, key: str, *, bulk: bool) -> bool:
        """Count items, if they are within the limits, and return whether they are. Raises Refused."""
        identities = [str(item.get("identity") or item.get("user_id")) for item in items]
        if bulk:
            most, of_one = self.switches.per_app, self.switches.per_identity
            fits = key != "events" or self.minute.fits(identities, self.clock(), most=most, most_of_one=of_one)
        else:
            window = self._singles.get(key)
            most_of_one = self.switches.per_single
            fits = window is None or window.fits(identities, self.clock(), most=inf, most_of_one=most_of_one)
        if not fits and self.switches.over_limit == "refuse":
            raise Refused(429, "too many calls or events for this time")
        return fits

    def _track(self, items: Items) -> None:
        for item in items:
            kept = {key: value for key, value in item.items() if key != "app_id"}
            key = item.get("idempotency_key") or f"none {len(self.events)}"
            self.remember(key, kept | {"properties": convert_properties(item.get("properties", {}))})

    def _identify(self, items: Items) -> None:
        """Give an anonymous user an identity, once. Beyond the limits it does nothing, and says nothing."""
        for item in items:
            user_id, identity = item["user_id"], item["identity"]
            if user_id in self.identities:
                continue
            if self._month.fits([identity], self.clock(), most=inf, most_of_one=MOST_DEVICES):
                self.identities[user_id] = identity
                self.users.setdefault(identity, {})
                for event in self.events.values():
                    if event.get("user_id") == user_id:
                        del event["user_id"]
                        event["identity"] = identity


def _add_properties(owners: dict[str, dict[str, Any]], key: str, items: Items) -> None:
    """Add the properties of items to their owners. `key`: the field of an item that names its owner."""
    for item in items:
        owners.setdefault(item[key], {}).update(convert_properties(item["properties"]))


def _sort_items(items: Any, key: str, check: Check) -> tuple[Items, str]:
    """Return the good items, and the complaint about the first bad item. Raises Refused."""
    if not isinstance(items, list) or len(items) > MOST_ITEMS:
        raise Refused(400, f"postBody.{key} should be an array of at most {MOST_ITEMS} items")
    good, complaint = [], ""
    for number, item in enumerate(items):
        said = next((f".{wrong}" for wrong in check(item)), "") if isinstance(item, dict) else " should be object"
        if said:
            complaint = complaint or f"postBody.{key}[{number}]{said}"
        else:
            good.append(item)
    return good, complaint
