"""Heap's server-side API: bulk track for events, bulk add user properties for changed profiles.

A request that Heap refuses is taken apart until the refused event stands alone; after half of the connector's `timeout`
that goes on in the next attempt. Events beyond Heap's limits are to be tried again when there is room; all others go
meanwhile.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from relay.api import DELIVERED, REDACTED, Batch, Event, Outcome, Reject, Retry, Skipped, Unauthorized
from relay_plugins.heap.limits import shared
from relay_plugins.heap.translate import (
    CUSTOM_EVENT,
    HeapProfile,
    identity_of,
    moment,
    own_name,
    profile,
    readable,
    track,
)

HOSTS: Final = {"us": "https://heapanalytics.com", "eu": "https://c.eu.heap-api.com"}
MOST_ITEMS: Final = 1000
"""Events or users of one request (Heap docs, Bulk Track)."""
PROFILE: Final = "users.profile.Update"
NAMED: Final = re.compile(r"\b(?:events|users)\[(\d+)\]")
"""How Heap says which item it means: `postBody.events[3].properties should be object`."""
OF_THE_APP: Final = re.compile(r"(?<![\w.-])(?:postBody\.)?app_id\b")
"""How it says that the app is what it means, and no item; events have properties of that name."""
NOT_FOR_HEAP: Final = {
    kind: Skipped(f"{kind} {why}")
    for kind, why in {
        "cohort.Change": "tells of a segment's users, and is no event of one",
        "users.UserDeleteRequest": "would create the user in Heap again",
        "users.UserOrphan": "would create the user in Heap again",
    }.items()
}
"""Types of events that Heap is not to have."""
LIMITS: Final = "Heap's limits: 1,000 events a minute per identity, 15,000 per app"
NOTHING_OF_THE_USER: Final = Skipped("the update tells nothing of the user")
OWN_NAME: Final = "{name}"
"""What stands in `names` for the event's own name."""
NOT_SENT: Final = Retry("not sent", after=0, hold_lane=False)
HEADERS: Final = {"Content-Type": "application/json"}
UNFIT: Final = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RecursionError)
"""What an odd event may raise: it is that event's fault."""


class HeapCall(NamedTuple):
    """A bulk call, and what its list is called."""

    name: str
    key: str


TRACK, PROFILES = HeapCall("track", "events"), HeapCall("add_user_properties", "users")


class Item(NamedTuple):
    """One entry of a request, and the events of the batch that it stands for."""

    numbers: Sequence[int]
    identity: str
    entry: dict[str, Any]


Change = tuple[float, int, str, HeapProfile]
"""An update of a profile: when, its number in the batch, whose, and what it tells."""


class HeapApp:
    """One app at Heap."""

    def __init__(self, settings: Any, post: Callable[..., Awaitable[object]]) -> None:
        self._settings, self._post = settings, post
        self.url = (settings.endpoint or HOSTS[settings.region]).rstrip("/")
        field, kind = f"user.{settings.identity}", Reject if settings.without_identity == "park" else Skipped
        self._anonymous = {
            False: kind(f"has no {field}, which is the identity in Heap"),
            True: kind(f"has no {field}, which is the identity in Heap: Braze has redacted it"),
        }
        """What becomes of events without an identity, by whether Braze has redacted it."""
        self._limits = shared(urlsplit(self.url).netloc, settings.app_id)

    async def deliver(self, batch: Batch) -> list[Outcome]:
        """Send the events; return what became of each."""
        outcomes: list[Outcome] = [NOT_SENT] * len(batch)
        events, profiles = self._items(batch, outcomes)
        await self._send(TRACK, events, outcomes)
        await self._send(PROFILES, profiles, outcomes)
        return outcomes

    def _items(self, batch: Batch, outcomes: list[Outcome]) -> tuple[list[Item], list[Item]]:
        """What to track, and which profiles to set; what cannot be sent gets its outcome."""
        events, changes = list[Item](), list[Change]()
        field, prefix = self._settings.identity, self._settings.prefix
        for number, event in enumerate(batch):
            name = event.type
            if name in NOT_FOR_HEAP:
                outcomes[number] = NOT_FOR_HEAP[name]
                continue
            try:
                user = event.user
                identity = identity_of(user, field)
                if identity is None:
                    outcomes[number] = self._anonymous[user.get(field) == REDACTED]
                elif name != PROFILE:
                    events.append(Item((number,), identity, track(event, user, identity, self._name(event), prefix)))
                else:
                    changes.append((moment(event), number, identity, profile(event, prefix)))
            except Reject as refusal:
                outcomes[number] = refusal
            except UNFIT as error:
                outcomes[number] = Reject(f"cannot be brought into Heap's form: {type(error).__name__}: {error}")
        # Make one entry for each identity: the newest value of each property; a newest null leaves the property out
        merged: dict[str, Item] = {}
        for _, number, identity, update in sorted(changes, key=lambda change: change[:2]):
            before = merged.get(identity, Item((), identity, {"identity": identity, "properties": {}}))
            entry = {"identity": identity, "properties": update.over(before.entry["properties"])}
            merged[identity] = Item((*before.numbers, number), identity, entry)
        profiles = [*merged.values()]
        _note(outcomes, (one for one in profiles if not one.entry["properties"]), NOTHING_OF_THE_USER)
        return events, [one for one in profiles if one.entry["properties"]]

    def _name(self, event: Event) -> str:
        name: str | None = self._settings.names.get(event.type)
        if name is None:
            return own_name(event) if event.type == CUSTOM_EVENT else readable(event.type)
        return name.replace(OWN_NAME, own_name(event)) if OWN_NAME in name else name

    async def _send(self, call: HeapCall, items: Sequence[Item], outcomes: list[Outcome]) -> None:
        """Send the items. What is refused is taken apart; what there is no time for any more goes the next time. Raises
        Reject where time was up before any item had its outcome: smaller batches get further."""
        parts, until = [items], time.monotonic() + self._settings.timeout / 2
        refusal, settled = Reject("refused"), False
        while parts and time.monotonic() < until:
            part, outcome = await self._attempt(call, parts.pop(), outcomes)
            if isinstance(outcome, Reject) and len(part) > 1:
                parts, refusal = [*parts, *reversed(_parts(part, outcome))], outcome
                continue
            settled = True
            _note(outcomes, part, outcome)
            if isinstance(outcome, Retry | Unauthorized):  # the others would fare no better
                return _note(outcomes, chain(*parts), outcome)
        if parts and not settled:
            raise refusal
        return _note(outcomes, chain(*parts), Retry("taken apart for a refused one", after=0, hold_lane=False))

    async def _attempt(
        self, call: HeapCall, items: Sequence[Item], outcomes: list[Outcome]
    ) -> tuple[Sequence[Item], Outcome]:
        """Send as many as Heap's limits allow for now, the others get their outcome; return those, and theirs."""
        if call is PROFILES:
            return items, await self._request(call, items)
        booking, allowed = self._limits.book([item.identity for item in items], now := time.monotonic())
        sent = items
        if len(allowed) < len(items):
            sent = [items[number] for number in allowed]
            for number in {*range(len(items))}.difference(allowed):
                after = self._limits.delay(items[number].identity, now)
                _note(outcomes, [items[number]], Retry(LIMITS, after=after, hold_lane=False))
        try:
            return sent, await self._request(call, sent)
        finally:
            self._limits.answered(booking, time.monotonic())

    async def _request(self, call: HeapCall, items: Sequence[Item]) -> Outcome:
        if not items:
            return DELIVERED
        body = orjson.dumps({"app_id": self._settings.app_id, call.key: [item.entry for item in items]})
        try:
            await self._post(f"{self.url}/api/{call.name}", body, HEADERS)
        except Reject as refusal:
            # Heap refuses the app, not the events. The status is left out: a 400 would not say so
            if not NAMED.search(refusal.answer) and OF_THE_APP.search(refusal.answer):
                return Unauthorized(f"Heap does not take app_id {self._settings.app_id} ({refusal})")
            return refusal
        except (Retry, Unauthorized) as failure:
            return failure
        return DELIVERED


def _note(outcomes: list[Outcome], items: Iterable[Item], outcome: Outcome) -> None:
    for item in items:
        for number in item.numbers:
            outcomes[number] = outcome


def _parts(items: Sequence[Item], refusal: Reject) -> tuple[Sequence[Item], Sequence[Item]]:
    """The item that the refusal names, and the others; or two halves."""
    named = NAMED.search(refusal.answer)
    if named and (number := int(named[1])) < len(items):
        return items[number : number + 1], [*items[:number], *items[number + 1 :]]
    middle = len(items) // 2
    return items[:middle], items[middle:]
