"""The connector type `segment`: events as calls of Segment's batch API, which RudderStack and Jitsu speak, too."""

import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, NamedTuple

from pydantic import AfterValidator, Field

from relay.api import (
    DELIVERED,
    Batch,
    Connector,
    Contradiction,
    Event,
    HttpConnectorSettings,
    HttpUrl,
    Outcome,
    Reject,
    Retry,
    Secret,
    Skipped,
    Unauthorized,
)
from relay_plugins.braze_events import check_event_name

MOST_CALLS: Final = 2500
"""Calls of a request. Segment answers 200 to more, and forgets them."""
MOST_BYTES: Final = 500_000
"""Bytes of a request (Segment docs, HTTP API: 500 KB)."""
MOST_OF_CALL: Final = 32 << 10
"""Bytes of a call (Segment docs, HTTP API: 32 KB)."""
PATH: Final = "/v1/batch"
FRAME: Final = len(b'{"batch":[]}')
UNFIT: Final = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RecursionError)
"""Errors that an odd event may cause. relay rejects that event only."""
NO_CALL: Final = {
    "cohort.Change": Skipped("cohort.Change tells of a segment's users, and is no event of one"),
    "users.UserDeleteRequest": Skipped("users.UserDeleteRequest would create the user in Segment again"),
    "users.UserOrphan": Skipped("users.UserOrphan would create the user in Segment again"),
}
"""Types of events that relay does not send to Segment."""
EventName = Annotated[str, Field(min_length=1), AfterValidator(check_event_name)]


class Call(NamedTuple):
    """An entry of a request."""

    number: int
    """Number of the event in the batch."""
    body: bytes


class SegmentConnector(Connector, type="segment", batch={"events": 500, "size": "450KiB", "age": "100ms"}):
    """Sends events to Segment as `track` calls, and updates of profiles as `identify` calls.

    `messageId` is the id of the event: Segment drops calls that come again, for as long as it remembers the id.
    """

    per_type_settings: ClassVar[tuple[str, ...]] = ("names",)

    class Settings(HttpConnectorSettings):
        """Where Segment takes calls, and whose they are."""

        write_key: Secret
        """Write key of the source in Segment."""
        endpoint: HttpUrl = "https://api.segment.io"
        """Where relay posts to, without `/v1/batch`. Name Segment's host for the EU, the data plane of RudderStack, or
        Jitsu."""
        identity: Literal["external_user_id", "user_id"] = "external_user_id"
        """The field of `user` that is `userId`. Without that field the `device_id` becomes `anonymousId`."""
        without_identity: Literal["park", "skip"] = "park"
        """What happens to events with neither of both. `"park"`: relay parks the events. `"skip"`: the events count as
        filtered."""
        names: dict[str, EventName] = Field(default_factory=dict)
        """Names of events by event type, such as `{ "users.behaviors.Purchase" = "Order Completed" }`. Other types
        have the names that Braze gives to Segment.

        Usual names read `Email Sent`, `Push Notification Tapped`, `Canvas Entered`. A custom event has its own name.
        `{name}` stands for the event's own name (`properties.name`): `{ "users.behaviors.CustomEvent" = "App: {name}"
        }`.
        """

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield an endpoint with the path that relay adds."""
            yield from super().contradictions()
            if self.endpoint.rstrip("/").endswith(PATH):
                yield "endpoint", f"endpoint: leave out {PATH}, which relay adds"

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        self._url = settings.endpoint.rstrip("/") + PATH
        key = b64encode(f"{settings.write_key.reveal()}:".encode()).decode()
        self._headers = {"Content-Type": "application/json", "Authorization": f"Basic {key}"}
        kind = Reject if settings.without_identity == "park" else Skipped
        self._anonymous = kind(f"has neither user.{settings.identity} nor user.device_id, one of which Segment needs")

    async def probe(self) -> str:
        """Connect to the host. Raises `Retry`."""
        return await self.reach(self._url)

    async def deliver(self, batch: Batch) -> list[Outcome]:
        """Send the events; return an outcome for each. Raises UnreadableEvent.

        relay halves a refused request until the refused call is alone. After half of `timeout` the next attempt goes
        on. Raises Reject if no call has an outcome in time: a smaller batch gets further.
        """
        outcomes: list[Outcome] = [DELIVERED] * len(batch)
        parts = [*_cut(self._make_calls(batch, outcomes))][::-1]
        until, refusal, settled = time.monotonic() + self.settings.timeout / 2, Reject("refused"), False
        while parts and time.monotonic() < until:
            part = parts.pop()
            outcome = await self._send(part)
            if isinstance(outcome, Reject) and len(part) > 1:
                refusal = outcome
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            settled = True
            _set_outcome(outcomes, part, outcome)
            if isinstance(outcome, Retry | Unauthorized):  # the other parts would fail as well
                _set_outcome(outcomes, [call for rest in parts for call in rest], outcome)
                return outcomes
        if parts and not settled:
            raise refusal
        late = Retry("no time was left to send it", after=0, hold_lane=False)
        _set_outcome(outcomes, [call for rest in parts for call in rest], late)
        return outcomes

    def _make_calls(self, batch: Batch, outcomes: list[Outcome]) -> list[Call]:
        """Return the calls of a batch. Set the outcomes of events that relay does not send."""
        calls = list[Call]()
        for number, event in enumerate(batch):
            made = NO_CALL.get(event.type) or self._make_call(event)
            if isinstance(made, bytes):
                calls.append(Call(number, made))
            else:
                outcomes[number] = made
        return calls

    def _make_call(self, event: Event) -> bytes | Outcome:
        from relay_plugins.segment.translate import find_identity, make_call  # a relay without the type needs neither

        try:
            identity = find_identity(event.user, self.settings.identity)
            if not identity:
                return self._anonymous
            body = make_call(event, identity, self.settings.names)
        except Reject as refusal:
            return refusal
        except UNFIT as error:
            return Reject(f"cannot be brought into Segment's form: {type(error).__name__}: {error}")
        if len(body) > MOST_OF_CALL:
            return Reject(f"has {len(body):,} bytes in Segment's form; a call has at most {MOST_OF_CALL:,}")
        return body

    async def _send(self, calls: Sequence[Call]) -> Outcome:
        """Send calls in one request; return its outcome."""
        body = b'{"batch":[%b]}' % b",".join(call.body for call in calls)
        try:
            await self.post(self._url, body, self._headers)
        except (Reject, Retry, Unauthorized) as outcome:
            return outcome
        return DELIVERED


def _cut(calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
    """Yield the calls in parts that one request may have."""
    part, size = list[Call](), FRAME
    for call in calls:
        if part and (len(part) == MOST_CALLS or size + len(call.body) + 1 > MOST_BYTES):
            yield part
            part, size = [], FRAME
        part.append(call)
        size += len(call.body) + 1
    if part:
        yield part


def _set_outcome(outcomes: list[Outcome], calls: Sequence[Call], outcome: Outcome) -> None:
    for call in calls:
        outcomes[call.number] = outcome
