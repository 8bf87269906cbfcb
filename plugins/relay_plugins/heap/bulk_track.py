"""Heap's server-side API: bulk track for events, bulk add user properties for changed profiles.

If Heap refuses a request, relay splits the request until the refused event is alone. After half of the connector's
`timeout` the next attempt goes on. Events beyond Heap's limits wait for the next attempt; other events go meanwhile.
"""

import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.json import Encoder

from relay.api import DELIVERED, REDACTED, Batch, Outcome, Reject, Retry, Skipped, Unauthorized
from relay_plugins.braze_events import CUSTOM_EVENT, OWN_NAME, PROFILE
from relay_plugins.heap.limits import share_limits
from relay_plugins.heap.plain_event import read_plain_event
from relay_plugins.heap.translate import (
    Flat,
    HeapProfile,
    find_identity,
    find_own_name,
    make_entry,
    make_profile,
    make_readable,
    read_change_time,
)

encode: Final = Encoder().encode
HOSTS: Final = {"us": "https://heapanalytics.com", "eu": "https://c.eu.heap-api.com"}
MOST_ITEMS: Final = 1000
"""Most events or users of one request (Heap docs, Bulk Track)."""
NAMED: Final = re.compile(r"\b(?:events|users)\[(\d+)\]")
"""Finds the number of an item in a refusal: `postBody.events[3].properties should be object`."""
OF_THE_APP: Final = re.compile(r"(?<![\w.-])(?:postBody\.)?app_id\b")
"""Finds a refusal of the app itself. Events have properties of that name, too."""
NOT_FOR_HEAP: Final = {
    kind: Skipped(f"{kind} {why}")
    for kind, why in {
        "cohort.Change": "tells of a segment's users, and is no event of one",
        "users.UserDeleteRequest": "would create the user in Heap again",
        "users.UserOrphan": "would create the user in Heap again",
    }.items()
}
"""Types of events that relay does not send to Heap."""
LIMITS: Final = "Heap's limits: 1,000 events a minute per identity, 15,000 per app"
NOTHING_OF_THE_USER: Final = Skipped("the update tells nothing of the user")
NOT_SENT: Final = Retry("not sent", after=0, hold_lane=False)
HEADERS: Final = {"Content-Type": "application/json"}
UNFIT: Final = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RecursionError)
"""Errors that an odd event may cause. relay rejects that event only."""


class HeapCall(NamedTuple):
    """A bulk call of Heap's API."""

    name: str
    key: str
    """Name of the list in the body."""


TRACK, PROFILES = HeapCall("track", "events"), HeapCall("add_user_properties", "users")


class Item(Struct, frozen=True, gc=False):
    """An entry of a request."""

    numbers: Sequence[int]
    """Numbers of its events in the batch."""
    identity: str
    entry: bytes
    """The entry as JSON."""


Change = tuple[float, int, str, HeapProfile]
"""An update of a profile: time, number in the batch, identity, properties."""


class HeapApp:
    """Sends events and profiles to one app at Heap."""

    def __init__(self, settings: Any, post: Callable[..., Awaitable[object]]) -> None:
        self._settings, self._post, self._names = settings, post, settings.names
        self.url = (settings.endpoint or HOSTS[settings.region]).rstrip("/")
        field, kind = f"user.{settings.identity}", Reject if settings.without_identity == "park" else Skipped
        self._anonymous = {
            False: kind(f"has no {field}, which is the identity in Heap"),
            True: kind(f"has no {field}, which is the identity in Heap: Braze has redacted it"),
        }
        """Outcome of events without an identity, by whether Braze has redacted the identity."""
        self._limits = share_limits(urlsplit(self.url).netloc, settings.app_id)

    async def deliver(self, batch: Batch) -> list[Outcome]:
        """Send the events; return an outcome for each. Raises Reject if a smaller batch would get further."""
        outcomes: list[Outcome] = [NOT_SENT] * len(batch)
        events, profiles = self._make_items(batch, outcomes)
        await self._send(TRACK, events, outcomes)
        await self._send(PROFILES, profiles, outcomes)
        return outcomes

    def _make_items(self, batch: Batch, outcomes: list[Outcome]) -> tuple[list[Item], list[Item]]:
        """Return the events to track and the profiles to set. Set the outcomes of events that relay does not send."""
        events, changes = list[Item](), list[Change]()
        field, prefix = self._settings.identity, self._settings.prefix
        for number, event in enumerate(batch):
            name = event.type
            if name in NOT_FOR_HEAP:
                outcomes[number] = NOT_FOR_HEAP[name]
                continue
            try:
                content = event if name == PROFILE else read_plain_event(event) or event
                user = content.user
                identity = find_identity(user, field)
                if identity is None:
                    outcomes[number] = self._anonymous[user.get(field) == REDACTED]
                elif name != PROFILE:
                    entry = make_entry(content, identity, self._choose_name(content.properties, name), prefix)
                    events.append(Item((number,), identity, encode(entry)))
                else:
                    changes.append((read_change_time(event), number, identity, make_profile(event, prefix)))
            except Reject as refusal:
                outcomes[number] = refusal
            except UNFIT as error:
                outcomes[number] = Reject(f"cannot be brought into Heap's form: {type(error).__name__}: {error}")
        return events, _merge_changes(changes, outcomes)

    def _choose_name(self, properties: Mapping[str, Any], event_type: str) -> str:
        name: str | None = self._names.get(event_type)
        if name is None:
            return find_own_name(properties, event_type) if event_type == CUSTOM_EVENT else make_readable(event_type)
        return name.replace(OWN_NAME, find_own_name(properties, event_type)) if OWN_NAME in name else name

    async def _send(self, call: HeapCall, items: Sequence[Item], outcomes: list[Outcome]) -> None:
        """Send the items and set their outcomes. Split refused requests; leave the rest to the next attempt if there is
        no time. Raises Reject if no item has an outcome in time: a smaller batch gets further."""
        parts, until = [items], time.monotonic() + self._settings.timeout / 2
        refusal, settled = Reject("refused"), False
        while parts and time.monotonic() < until:
            part, outcome = await self._attempt(call, parts.pop(), outcomes)
            if isinstance(outcome, Reject) and len(part) > 1:
                refusal, named = outcome, NAMED.search(outcome.answer)
                if named and (number := int(named[1])) < len(part):
                    parts += [[*part[:number], *part[number + 1 :]], part[number : number + 1]]
                else:  # the refusal names no item: try the halves
                    parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            settled = True
            _set_outcome(outcomes, part, outcome)
            if isinstance(outcome, Retry | Unauthorized):  # the other parts would fail as well
                return _set_outcome(outcomes, chain(*parts), outcome)
        if parts and not settled:
            raise refusal
        return _set_outcome(outcomes, chain(*parts), Retry("taken apart for a refused one", after=0, hold_lane=False))

    async def _attempt(
        self, call: HeapCall, items: Sequence[Item], outcomes: list[Outcome]
    ) -> tuple[Sequence[Item], Outcome]:
        """Send the items that Heap's limits allow; return these items and their outcome. Set the outcomes of the other
        items."""
        if call is PROFILES:
            return items, await self._request(call, items)
        reservation, allowed = self._limits.reserve([item.identity for item in items], now := time.monotonic())
        sent = items
        if len(allowed) < len(items):
            sent = [items[number] for number in allowed]
            for number in {*range(len(items))}.difference(allowed):
                after = self._limits.estimate_delay(items[number].identity, now)
                _set_outcome(outcomes, [items[number]], Retry(LIMITS, after=after, hold_lane=False))
        try:
            return sent, await self._request(call, sent)
        finally:
            self._limits.finish(reservation, time.monotonic())

    async def _request(self, call: HeapCall, items: Sequence[Item]) -> Outcome:
        """Send items in one request; return its outcome."""
        if not items:
            return DELIVERED
        entries = b",".join([item.entry for item in items])
        body = b'{"app_id":%b,"%b":[%b]}' % (encode(self._settings.app_id), call.key.encode(), entries)
        try:
            await self._post(f"{self.url}/api/{call.name}", body, HEADERS)
        except Reject as refusal:
            # Heap refuses the app, not the events, whatever the status
            if not NAMED.search(refusal.answer) and OF_THE_APP.search(refusal.answer):
                return Unauthorized(f"Heap does not take app_id {self._settings.app_id} ({refusal})")
            return refusal
        except (Retry, Unauthorized) as failure:
            return failure
        return DELIVERED


def _merge_changes(changes: Iterable[Change], outcomes: list[Outcome]) -> list[Item]:
    """Return an item for each identity, with the newest value of each property. A newest null leaves the property out.
    Set the outcomes of updates that leave nothing to send."""
    numbers, merged = defaultdict[str, list[int]](list), dict[str, Flat]()
    for _, number, identity, update in sorted(changes, key=lambda change: change[:2]):
        numbers[identity].append(number)
        merged[identity] = update.apply_to(merged.get(identity, {}))
    items = []
    for identity, properties in merged.items():
        if properties:
            items.append(Item(numbers[identity], identity, encode({"identity": identity, "properties": properties})))
        for number in () if properties else numbers[identity]:
            outcomes[number] = NOTHING_OF_THE_USER
    return items


def _set_outcome(outcomes: list[Outcome], items: Iterable[Item], outcome: Outcome) -> None:
    for item in items:
        for number in item.numbers:
            outcomes[number] = outcome
