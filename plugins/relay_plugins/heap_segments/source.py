"""The source type `heap_segments`: who entered and left a Heap segment, as Heap's Segments Sync webhook says it.

Each call is a page of a sync: the users who came in or went since the last one. It becomes events of the type
`cohort.Change` with at most 1,000 users each, which the connector `braze_cohorts` understands.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, ClassVar, Final, Literal
from uuid import uuid4

import msgspec
import orjson
from pydantic import Field

from relay.api import Contradiction, Decoded, Duration, Request, Secret, Source, SourceSettings, Unreadable
from relay_plugins.heap_segments.page import DRAIN, SYNC, Page, SegmentUser, check_nobodies, is_id, read_page
from relay_plugins.heap_segments.signature import HEADER, check_signature
from relay_plugins.heap_segments.sync_watch import TOLD, Came, Sync, SyncWatch, told_in_words

USERS: Final = 1000
"""Users of one event: as many as Braze takes in a request."""
NAME_CHARS: Final = 256
"""What is kept of a segment's name at most: each change that is made of a page repeats it."""
WEEK_S: Final = 7 * 86400.0
EVENT_TYPE: Final = "cohort.Change"

NOBODY: Final = re.compile(r"(external_id|device_id|email):|alias:[^:]*:?|alias::.*", re.DOTALL)
"""Prefixes without anybody."""
STRANGE_IDS: Final = 1000
"""Ids that are none and are parked, of one page."""

Part = tuple[Sequence[str], Sequence[str]]
"""Who came and who went."""


class SyncOf(msgspec.Struct):
    """Which page of which sync a change is from."""

    task: str
    page: int
    pages: int
    full: bool


class CohortOf(msgspec.Struct):
    """Which segment it is."""

    id: str


class ChangeHead(msgspec.Struct):
    """What is read of a change of ours once it is on disk."""

    id: str
    cohort: CohortOf
    sync: SyncOf
    add: list[msgspec.Raw]
    remove: list[msgspec.Raw]

    @property
    def came(self) -> Came:
        """The page that it is a part of."""
        content, sides = self.id.rpartition(":")[2][:8], "+" * bool(self.add) + "-" * bool(self.remove)
        return Came(self.cohort.id, self.sync.task, self.sync.page, self.sync.pages, dict.fromkeys(sides, content))


decode_change = msgspec.json.Decoder(ChangeHead).decode


class HeapSegments(Source, type="heap_segments"):
    """Accepts Heap segments: the users who entered or left a segment, from Heap's Segments Sync webhook.

    Each page of a sync becomes events of the type `cohort.Change`, with at most 1,000 users each. The answer is 200:
    Heap sends again after any other answer.
    """

    accepted_status: ClassVar[int] = 200  # Heap docs, Segments Sync
    auth_setting: ClassVar[str] = "secret"
    emitted_types: ClassVar[tuple[str, ...]] = (EVENT_TYPE,)
    watches: ClassVar[bool] = True

    class Settings(SourceSettings):
        """How Heap proves that a call comes from it, and what its user ids are in Braze."""

        secret: Secret | None = None
        """Secret of the webhook in Heap: relay checks the signature in the header `Heap-Hash`. Heap sends no bearer
        token, so leave `tokens` out."""
        signed: Literal["raw", "reserialized"] = "raw"
        """What Heap's signature covers. `"raw"`: the bytes of the body. `"reserialized"`: `JSON.stringify` of the
        parsed body, as in Heap's reference server.

        With `"reserialized"` relay writes numbers, the order of names and surrogates as JavaScript does: `1.0` is `1`.
        """
        dedupe: Duration = Field(WEEK_S, ge=0, le=WEEK_S)
        """Time in which relay leaves out a page that comes again. If other users have come with the same number since,
        relay applies the page again. 0: relay applies every page."""
        incomplete_after: Duration = Field(3600.0, ge=60)
        """Time that a sync may wait for its next page. After that relay reports the sync as incomplete. relay checks
        once a minute."""
        max_age: Duration = Field(60.0, gt=0)
        """Maximum age of a signature. A signature may be one second ahead of the clock."""
        match: str = Field("external_id", pattern=r"^(external_id|device_id|email|prefix|alias:.+)$")
        """What the ids of users are in Braze: `"external_id"`, `"device_id"`, `"email"`, `"alias:LABEL"`, or
        `"prefix"`.

        `"email"` needs a connector of type `braze_cohorts` in the mode `attribute`. With `"prefix"` each id names its
        kind: `external_id:ID`, `device_id:ID`, `email:ADDRESS` or `alias:LABEL:NAME`. An id without such a prefix is
        an external id. relay parks an id with nothing after its prefix.
        """

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
        self._syncs = SyncWatch()

    def verify(self, request: Request) -> None:
        """Raise `Denied` unless the call is signed, of late; `Malformed` if the header is not of the agreed form."""
        if self._secret is None:
            return
        header, reserialize = request.headers.get(HEADER), self.settings.signed == "reserialized"
        check_signature(header, request.body, self._secret, max_age=self.settings.max_age, reserialize=reserialize)

    def decode(self, request: Request) -> Decoded:
        """Turn a page into changes of a cohort; ids that are none are unreadable. Raises `Malformed`."""
        body = request.body.strip()
        if not body:
            return Decoded((), ())
        page = read_page(body)
        if page.action not in (SYNC, DRAIN):
            self.log.warning("unknown action of Heap left out", action=page.action[:80])
            return Decoded((), ())
        # Take the retired action `drain` as an empty membership of one page; `sync_info` may be missing
        return (
            self._decoded(Page(DRAIN, page.segment, f"{page.task or uuid4()}:drain"), [([], [])], full=True)
            if page.action == DRAIN
            else self._decoded(page, [*_parts(self._ids(page.add), self._ids(page.remove))], self._unreadable(page))
        )

    def _decoded(
        self, page: Page, parts: Sequence[Part], odd: Iterable[Unreadable] = (), *, full: bool = False
    ) -> Decoded:
        task = page.task or str(uuid4())
        changes = [*self._changes(page, task, parts, full=full)]
        kinds, ids = [self.kind(EVENT_TYPE)] * len(changes), [change["id"] for change in changes]
        subject = f"page {self.name}:{page.segment.id}:{task}:{page.number}"
        return Decoded(kinds, [orjson.dumps(change) for change in changes], [*page.unreadable, *odd], ids, subject)

    def _changes(self, page: Page, task: str, parts: Sequence[Part], *, full: bool) -> Iterator[dict[str, Any]]:
        """A page that comes again has the same ids, so that it can be left out; one with other users has others."""
        now, name = int(time.time()), (page.segment.name or "")[:NAME_CHARS]
        content = blake2b(orjson.dumps([name, parts]), digest_size=8).hexdigest()
        for number, (add, remove) in enumerate(parts):
            yield {
                "event_type": EVENT_TYPE,
                "id": f"{self.name}:{page.segment.id}:{task}:{page.number}:{number}:{content}",
                "time": now,
                "cohort": {"id": str(page.segment.id), "name": name},
                "match": self._match(),
                "add": add,
                "remove": remove,
                "sync": {
                    "task": task,
                    "page": page.number,
                    "pages": page.pages,
                    "part": number,
                    "parts": len(parts),
                    "full": full,
                },
            }

    def _match(self) -> str | dict[str, str]:
        kind, _, label = self.settings.match.partition(":")
        return {"alias_label": label} if kind == "alias" else kind

    def _ids(self, users: Iterable[SegmentUser]) -> list[str]:
        return [str(user.id) for user in users if self._is_id(user.id)]

    def _is_id(self, value: Any) -> bool:
        return is_id(value) and (self.settings.match != "prefix" or not NOBODY.fullmatch(str(value)))

    def _unreadable(self, page: Page) -> Iterator[Unreadable]:
        """Those whom nobody could find, all in one."""
        if strange := [user.id for user in (*page.add, *page.remove) if not self._is_id(user.id)]:
            check_nobodies(len(strange))
            what = "with a prefix and nobody behind it, or " if self.settings.match == "prefix" else ""
            reason = f"users of a page {what}without an id that is text or an integer: {len(strange):,}"
            body = msgspec.json.encode({"segment": str(page.segment.id), "ids": strange[:STRANGE_IDS]})
            yield Unreadable(body, f"{reason}; the others are taken")

    @property
    def notice(self) -> str:
        """Which syncs are incomplete."""
        return told_in_words(self._syncs.incomplete(time.time()))

    @property
    def incomplete(self) -> int:
        """How many they are."""
        return len(self._syncs.incomplete(time.time()))

    def kept(self, bodies: Sequence[Any]) -> None:
        """Count the pages that are on disk. A sync that begins says of those before if pages of them never came."""
        for head in map(decode_change, bodies):
            if head.sync.full:
                continue
            done, late = self._syncs.came(head.came, time.time())
            if done is not None:
                self.log.info("segment sync is complete after all", segment=done.segment, task=done.task)
            self._tell(late)

    def look_after(self) -> None:
        """Tell of syncs that wait for a page."""
        self._tell(self._syncs.overdue(time.time() - self.settings.incomplete_after))

    def _tell(self, late: Iterable[Sync]) -> None:
        for one in late:
            numbers = {"received": len(one.came), "pages": one.pages, "missing": one.missing[:TOLD]}
            which = {"segment": one.segment, "task": one.task, "reason": str(one)}  # each differs: all are told
            self.log.warning("segment sync was incomplete", **which, **numbers)

    def remember(self) -> str:
        """The syncs."""
        return self._syncs.dump()

    def recall(self, memory: str) -> None:
        """The syncs."""
        self._syncs.load(memory)


def _parts(add: Sequence[str], remove: Sequence[str]) -> Iterator[Part]:
    """The users who came and who went, in portions; one that is empty still tells the segment's name."""
    both = chain(
        ((add[at : at + USERS], []) for at in range(0, len(add), USERS)),
        (([], remove[at : at + USERS]) for at in range(0, len(remove), USERS)),
    )
    return both if add or remove else iter([([], [])])
