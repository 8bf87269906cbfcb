"""The source type `heap_segments`: who entered and left a Heap segment, as Heap's Segments Sync webhook says it.

Each call is a page of a sync: the users who came in or went since the last one. It becomes events of the type
`cohort.Change` with at most 1,000 users each, which the connector `braze_cohorts` understands.
"""

import base64
import hmac
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import msgspec
import orjson
from pydantic import Field, model_validator

from relay.api import Decoded, Denied, Duration, Malformed, Secret, Source, SourceSettings, check_utf8

USERS: Final = 1000
"""Users of one event: as many as Braze takes in a request."""
PAGES: Final = 1000
SEGMENTS: Final = 4096
"""Pages of a sync and segments whose completeness is watched."""
SYNC, DRAIN = "segment.users.sync", "segment.users.drain"
EVENT_TYPE: Final = "cohort.Change"

Positive = Annotated[int, msgspec.Meta(ge=1)]


class User(msgspec.Struct):
    """A user, by the value of the property that the customer chose as matching key."""

    id: str | int


class Segment(msgspec.Struct):
    """The segment that was synced."""

    id: int | str
    name: str = ""


class SyncInfo(msgspec.Struct):
    """Which page of which sync this is."""

    sync_task_id: str | int
    page_number: Positive = 1
    total_pages: Positive = 1


class Data(msgspec.Struct):
    """What has changed."""

    segment: Segment
    sync_info: SyncInfo
    add: list[User] = []
    remove: list[User] = []


class Call(msgspec.Struct):
    """The body of a call; all else in it is not needed."""

    action_type: str
    data: Data


decode_call = msgspec.json.Decoder(Call).decode


class HeapSegments(Source, type="heap_segments"):
    """Takes `segment.users.sync`. Answers 200: Heap sends again for everything else. (Heap docs, Segments Sync.)"""

    accepted_status: ClassVar[int] = 200
    makes: ClassVar[tuple[str, ...]] = (EVENT_TYPE,)

    class Settings(SourceSettings):
        """How Heap proves that a call comes from it, and what its user ids are in Braze."""

        secret: Secret | None = None
        """The webhook secret: checks `Heap-Hash: ts:<ms>,hmac:<base64>`, HMAC-SHA256 over timestamp and body."""
        signed: Literal["raw", "reserialized"] = "raw"
        """What the HMAC is over: the bytes that came or, as Heap's reference server does it, `JSON.stringify` of the
        parsed body."""
        max_age: Duration = Field(60.0, gt=0)
        """How old a signature may be; it may be a second ahead."""
        match: str = Field("external_id", pattern=r"^(external_id|device_id|prefix|alias:.+)$")
        """What the ids are: `external_id`, `device_id`, `alias:LABEL`, or `prefix`: each says so itself, as in
        `external_id:17`, `device_id:...`, `alias:LABEL:...`."""

        @property
        def is_open(self) -> bool:
            """Whether calls need neither signature nor token."""
            return self.secret is None and super().is_open

        @model_validator(mode="after")
        def _some_credentials(self) -> Self:
            if self.secret is not None and self.tokens:
                raise ValueError("secret and tokens: Heap signs its calls and sends no bearer token; leave one out")
            return self

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._secret = settings.secret.reveal().encode() if settings.secret else None
        self._syncs: dict[str, tuple[str, set[int]]] = {}
        """For each segment the pages of the last sync that are still to come."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise `Denied` unless the call is signed, of late; `Malformed` if the header is not of the agreed form."""
        if self._secret is None:
            return
        stamp, given = _signature(headers.get("Heap-Hash"))
        age = time.time() - stamp / 1000
        if age > self.settings.max_age or age < -1:
            limit = self.settings.max_age
            raise Denied(f"the signature is {age:.0f} s old, {limit:g} s are allowed: is a clock wrong?")
        signed = body if self.settings.signed == "raw" else _reserialized(body)
        expected = hmac.digest(self._secret, str(stamp).encode() + signed, "sha256")
        if not hmac.compare_digest(expected, given):
            raise Denied("the signature does not fit: is the secret the webhook's?")

    def decode(self, body: bytes) -> Decoded:
        """Turn a page into changes of a cohort. Raises `Malformed`."""
        body = body.strip()
        if not body:
            return Decoded((), ())
        check_utf8(body)
        try:
            call = decode_call(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"the body is no segment sync: {error}") from None
        if call.action_type not in (SYNC, DRAIN):
            self.log.warning("unknown action of Heap left out", action=call.action_type[:80])
            return Decoded((), ())
        self._tell_missing(call.data)
        changes = [*self._changes(call)]
        bodies, ids = [orjson.dumps(change) for change in changes], [change["id"] for change in changes]
        return Decoded([self.kind(EVENT_TYPE)] * len(bodies), bodies, ids=ids)

    def _changes(self, call: Call) -> Iterator[dict[str, Any]]:
        data, drained = call.data, call.action_type == DRAIN
        parts = [*_parts(data)] if not drained else [([], [])]
        info, now = data.sync_info, int(time.time())
        for number, (add, remove) in enumerate(parts):
            yield {
                "event_type": EVENT_TYPE,
                "id": f"{self.name}:{info.sync_task_id}:{info.page_number}:{number}",
                "time": now,
                "cohort": {"id": str(data.segment.id), "name": data.segment.name or str(data.segment.id)},
                "match": self._match(),
                "add": add,
                "remove": remove,
                "sync": {
                    "task": str(info.sync_task_id),
                    "page": info.page_number,
                    "pages": info.total_pages,
                    "part": number,
                    "parts": len(parts),
                    "full": drained,
                },
            }

    def _match(self) -> str | dict[str, str]:
        kind, _, label = self.settings.match.partition(":")
        return {"alias_label": label} if kind == "alias" else kind

    def _tell_missing(self, data: Data) -> None:
        """A sync that begins says which pages of the one before never came; their users stay as they are."""
        segment, task = str(data.segment.id), str(data.sync_info.sync_task_id)
        known, missing = self._syncs.get(segment, (task, set()))
        if known != task:
            if missing:
                pages = sorted(missing)
                self.log.warning("segment sync was incomplete", segment=segment, task=known, pages=pages)
            missing = set()
        if known != task or segment not in self._syncs:
            missing = set(range(1, min(data.sync_info.total_pages, PAGES) + 1))
        if len(self._syncs) >= SEGMENTS:
            self._syncs.clear()
        self._syncs[segment] = task, missing - {data.sync_info.page_number}


def _parts(data: Data) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """The users who came and who went, in portions; one that is empty still tells the segment's name."""
    add, remove = ([str(user.id) for user in users] for users in (data.add, data.remove))
    both = chain(
        ((add[at : at + USERS], []) for at in range(0, len(add), USERS)),
        (([], remove[at : at + USERS]) for at in range(0, len(remove), USERS)),
    )
    return both if add or remove else iter([([], [])])


def _signature(header: str | None) -> tuple[int, bytes]:
    """The timestamp in milliseconds and the HMAC. Raises Denied if there is none, Malformed."""
    if header is None:
        raise Denied("the header Heap-Hash is missing")
    fields = dict(part.strip().partition(":")[::2] for part in header.split(","))
    try:
        return int(fields["ts"]), base64.b64decode(fields["hmac"], validate=True)
    except (KeyError, ValueError):
        raise Malformed("the header Heap-Hash is not of the form ts:<milliseconds>,hmac:<base64>") from None


def _reserialized(body: bytes) -> bytes:
    """The body as JavaScript's `JSON.stringify` writes it. Raises Malformed."""
    try:
        return orjson.dumps(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
