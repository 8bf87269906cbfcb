"""The source type `heap_segments`: who entered and left a Heap segment, as Heap's Segments Sync webhook says it.

Each call is a page of a sync: the users who came in or went since the last one. It becomes events of the type
`cohort.Change` with at most 1,000 users each, which the connector `braze_cohorts` understands.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import uuid4

import msgspec
import orjson
from pydantic import Field

from relay.api import (
    Contradiction,
    Decoded,
    Duration,
    Malformed,
    Secret,
    Source,
    SourceSettings,
    Unreadable,
    check_utf8,
)
from relay_plugins.heap_segments.signature import HEADER, check_signature

USERS: Final = 1000
"""Users of one event: as many as Braze takes in a request."""
PAGES: Final = 1000
SEGMENTS: Final = 4096
"""Pages of a sync and segments whose completeness is watched."""
WEEK_S: Final = 7 * 86400.0
SYNC, DRAIN = "segment.users.sync", "segment.users.drain"
EVENT_TYPE: Final = "cohort.Change"

NOBODY: Final = re.compile(r"(external_id|device_id|email):|alias:[^:]*:?|alias::.*", re.DOTALL)
"""Prefixes without anybody."""

Natural = Annotated[int, msgspec.Meta(ge=0)]


class User(msgspec.Struct):
    """A user, by the value of the property that the customer chose as matching key; who has no value has no id."""

    id: Any = None


class Segment(msgspec.Struct):
    """The segment that was synced."""

    id: int | str
    name: str | None = None


class SyncInfo(msgspec.Struct):
    """Which page of which sync this is."""

    sync_task_id: str | int
    page_number: Natural = 1
    total_pages: Natural = 1


class Data(msgspec.Struct):
    """What has changed."""

    segment: Segment
    sync_info: SyncInfo | None = None
    add: list[User] | None = None
    remove: list[User] | None = None


class Call(msgspec.Struct):
    """The body of a call; all else in it is not needed."""

    action_type: str
    data: msgspec.Raw = msgspec.Raw(b"null")


Part = tuple[Sequence[str], Sequence[str]]
"""Who came and who went."""
decode_call = msgspec.json.Decoder(Call).decode
decode_data = msgspec.json.Decoder(Data).decode


@dataclass(frozen=True, slots=True)
class Pages:
    """How much of a sync has come."""

    task: str
    pages: int
    came: set[int]


class HeapSegments(Source, type="heap_segments"):
    """Takes `segment.users.sync`. Answers 200: Heap sends again for everything else. (Heap docs, Segments Sync.)"""

    accepted_status: ClassVar[int] = 200
    known_by: ClassVar[str] = "secret"
    makes: ClassVar[tuple[str, ...]] = (EVENT_TYPE,)

    class Settings(SourceSettings):
        """How Heap proves that a call comes from it, and what its user ids are in Braze."""

        secret: Secret | None = None
        """The webhook secret: checks `Heap-Hash: ts:<ms>,hmac:<base64>`, HMAC-SHA256 over timestamp and body."""
        signed: Literal["raw", "reserialized"] = "raw"
        """What the HMAC is over: the bytes that came or, as Heap's reference server does it, `JSON.stringify` of the
        parsed body."""
        dedupe: Duration = Field(WEEK_S, ge=0, le=WEEK_S)
        """A page that comes again may be older than what has come since: it is left out unless this is 0."""
        max_age: Duration = Field(60.0, gt=0)
        """How old a signature may be; it may be a second ahead."""
        match: str = Field("external_id", pattern=r"^(external_id|device_id|email|prefix|alias:.+)$")
        """What the ids are: `external_id`, `device_id`, `email`, `alias:LABEL`, or `prefix`: each says so itself, as in
        `external_id:17`, `device_id:...`, `email:...`, `alias:LABEL:...`."""

        @property
        def is_open(self) -> bool:
            """Whether calls need neither signature nor token."""
            return self.secret is None and super().is_open

        def contradictions(self) -> Iterator[Contradiction]:
            """Two ways to prove who one is, of which Heap has one."""
            if self.secret is not None and self.tokens:
                reason = "secret and tokens: Heap signs its calls and sends no bearer token; leave tokens out"
                yield "secret tokens", reason

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._secret = settings.secret.reveal().encode() if settings.secret else None
        self._syncs: dict[str, Pages] = {}
        """Of each segment the last sync."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise `Denied` unless the call is signed, of late; `Malformed` if the header is not of the agreed form."""
        if self._secret is None:
            return
        header, reserialize = headers.get(HEADER), self.settings.signed == "reserialized"
        check_signature(header, body, self._secret, max_age=self.settings.max_age, reserialize=reserialize)

    def decode(self, body: bytes) -> Decoded:
        """Turn a page into changes of a cohort; ids that are none are unreadable. Raises `Malformed`."""
        body = body.strip()
        if not body:
            return Decoded((), ())
        check_utf8(body)
        try:
            call = decode_call(body)
            if call.action_type not in (SYNC, DRAIN):
                self.log.warning("unknown action of Heap left out", action=call.action_type[:80])
                return Decoded((), ())
            data = decode_data(call.data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"the body is no segment sync: {error}") from None
        return self._drain(data) if call.action_type == DRAIN else self._sync(data)

    def _sync(self, data: Data) -> Decoded:
        info = data.sync_info
        if info is None:
            raise Malformed("the body is no segment sync: data.sync_info is missing")
        self._tell_missing(str(data.segment.id), info)
        add, remove = data.add or [], data.remove or []
        changes = [*self._changes(data.segment, info, [*_parts(self._ids(add), self._ids(remove))])]
        return self._decoded(changes, [*self._unreadable(data.segment, [*add, *remove])])

    def _drain(self, data: Data) -> Decoded:
        """An empty membership, as a sync of one page: this retired action may come without `sync_info`."""
        task = data.sync_info.sync_task_id if data.sync_info else uuid4()
        return self._decoded([*self._changes(data.segment, SyncInfo(f"{task}:drain"), [([], [])], full=True)])

    def _decoded(self, changes: Sequence[dict[str, Any]], unreadable: Sequence[Unreadable] = ()) -> Decoded:
        kinds, ids = [self.kind(EVENT_TYPE)] * len(changes), [change["id"] for change in changes]
        return Decoded(kinds, [orjson.dumps(change) for change in changes], unreadable, ids)

    def _changes(
        self, segment: Segment, info: SyncInfo, parts: Sequence[Part], *, full: bool = False
    ) -> Iterator[dict[str, Any]]:
        now = int(time.time())
        for number, (add, remove) in enumerate(parts):
            yield {
                "event_type": EVENT_TYPE,
                "id": f"{self.name}:{segment.id}:{info.sync_task_id}:{info.page_number}:{number}",
                "time": now,
                "cohort": {"id": str(segment.id), "name": segment.name or ""},
                "match": self._match(),
                "add": add,
                "remove": remove,
                "sync": {
                    "task": str(info.sync_task_id),
                    "page": info.page_number,
                    "pages": info.total_pages,
                    "part": number,
                    "parts": len(parts),
                    "full": full,
                },
            }

    def _match(self) -> str | dict[str, str]:
        kind, _, label = self.settings.match.partition(":")
        return {"alias_label": label} if kind == "alias" else kind

    def _ids(self, users: Iterable[User]) -> list[str]:
        return [str(user.id) for user in users if self._is_id(user.id)]

    def _is_id(self, value: Any) -> bool:
        if not isinstance(value, str | int) or value == "" or isinstance(value, bool):
            return False
        return self.settings.match != "prefix" or not NOBODY.fullmatch(str(value))

    def _unreadable(self, segment: Segment, users: Iterable[User]) -> Iterator[Unreadable]:
        """Those whom nobody could find, all in one."""
        if strange := [user.id for user in users if not self._is_id(user.id)]:
            what = "with a prefix and nobody behind it, or " if self.settings.match == "prefix" else ""
            reason = f"users of a page {what}without an id that is text or an integer: {len(strange):,}"
            body = orjson.dumps({"segment": str(segment.id), "ids": strange})
            yield Unreadable(body, f"{reason}; the others are taken")

    def _tell_missing(self, segment: str, info: SyncInfo) -> None:
        """A sync that begins says of the one before if pages of it never came; their users stay as they are."""
        task, before = str(info.sync_task_id), self._syncs.get(segment)
        if before is None or before.task != task:
            if before is not None and (came := len(before.came)) < before.pages:
                numbers = {"received": came, "pages": before.pages}
                self.log.warning("segment sync was incomplete", segment=segment, task=before.task, **numbers)
            if len(self._syncs) >= SEGMENTS:
                self._syncs.clear()
            before = self._syncs[segment] = Pages(task, min(info.total_pages, PAGES), set())
        if len(before.came) < PAGES:
            before.came.add(info.page_number)


def _parts(add: Sequence[str], remove: Sequence[str]) -> Iterator[Part]:
    """The users who came and who went, in portions; one that is empty still tells the segment's name."""
    both = chain(
        ((add[at : at + USERS], []) for at in range(0, len(add), USERS)),
        (([], remove[at : at + USERS]) for at in range(0, len(remove), USERS)),
    )
    return both if add or remove else iter([([], [])])
