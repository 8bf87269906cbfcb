"""The source type `heap_segments`: users who entered or left a Heap segment, from Heap's Segments Sync webhook.

Each call is a page of a sync: the users who entered or left since the last sync. A page becomes events of the type
`cohort.Change` with at most 1,000 users each, which the connector `braze_cohorts` understands.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, Final, Literal
from uuid import uuid4

import msgspec
import orjson
from pydantic import Field

from relay.api import Contradiction, Decoded, Duration, Request, Secret, Source, SourceSettings, Unreadable
from relay_plugins.heap_segments.page import DRAIN, SYNC, Page, SegmentUser, check_without_id, is_id, read_page
from relay_plugins.heap_segments.signature import HEADER, check_signature
from relay_plugins.heap_segments.sync_watch import PAGES_SHOWN, SavedPage, Sync, SyncWatch, describe

USERS: Final = 1000
"""Most users of one event: Braze takes as many in a request."""
NAME_CHARS: Final = 256
"""Characters of a segment's name that relay keeps: each change that relay makes of a page repeats the name."""
WEEK_S: Final = 7 * 86400.0
EVENT_TYPE: Final = "cohort.Change"

EMPTY_PREFIX: Final = re.compile(r"(external_id|device_id|email):|alias:[^:]*:?|alias::.*", re.DOTALL)
"""Prefixes without a user."""
STRANGE_IDS: Final = 1000
"""Most unusable ids of a page that relay parks."""
Part = tuple[Sequence[str], Sequence[str]]
"""Ids of added users, and ids of removed users."""


class SyncOf(msgspec.Struct):
    """The page and the sync of a change."""

    task: str
    page: int
    pages: int
    full: bool


class CohortOf(msgspec.Struct):
    """The segment of a change."""

    id: str


class ChangeHead(msgspec.Struct):
    """The fields that relay reads of its own change once the change is on disk."""

    id: str
    cohort: CohortOf
    sync: SyncOf
    add: list[msgspec.Raw]
    remove: list[msgspec.Raw]

    @property
    def page(self) -> SavedPage:
        """The page of the change."""
        content, sides = self.id.rpartition(":")[2][:8], "+" * bool(self.add) + "-" * bool(self.remove)
        return SavedPage(self.cohort.id, self.sync.task, self.sync.page, self.sync.pages, dict.fromkeys(sides, content))


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
        """How relay recognises calls of Heap, and what Heap's user ids are in Braze."""

        secret: Secret | None = None
        """Secret of the webhook in Heap: relay checks the signature in the header `Heap-Hash`. Heap sends no bearer
        token, so leave `tokens` out."""
        signed: Literal["raw", "reserialized"] = "raw"
        """What Heap's signature covers. `"raw"`: the bytes of the body. `"reserialized"`: `JSON.stringify` of the
        parsed body, as in Heap's reference server.

        With `"reserialized"` relay writes numbers, the order of names and surrogates as JavaScript does: `1.0` is `1`.
        """
        dedupe: Duration = Field(WEEK_S, ge=0, le=WEEK_S)
        """Time in which relay leaves out a page that comes again. relay applies a page again if a different page with
        the same page number came in between. 0: relay applies every page."""
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
            """Return whether calls need neither signature nor token."""
            return self.secret is None and super().is_open

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield `secret` with `tokens`: Heap sends no bearer token."""
            if self.secret is not None and self.tokens:
                reason = "secret and tokens: Heap signs its calls and sends no bearer token; leave tokens out"
                yield "secret tokens", reason

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._secret = settings.secret.reveal().encode() if settings.secret else None
        self._syncs = SyncWatch()

    def verify(self, request: Request) -> None:
        """Raise `Denied` unless the call has a valid signature; `Malformed` if the signature cannot be read."""
        if self._secret is None:
            return
        header, reserialize = request.headers.get(HEADER), self.settings.signed == "reserialized"
        check_signature(header, request.body, self._secret, max_age=self.settings.max_age, reserialize=reserialize)

    def decode(self, request: Request) -> Decoded:
        """Turn a page into changes of a cohort. Unusable ids are unreadable. Raises `Malformed`."""
        body = request.body.strip()
        if not body:
            return Decoded((), ())
        page = read_page(body)
        if page.action not in (SYNC, DRAIN):
            self.log.warning("unknown action of Heap left out", action=page.action[:80])
            return Decoded((), ())
        if page.action == DRAIN:
            # Take the retired action as an empty membership of one page; `sync_info` may be missing
            page = Page(DRAIN, page.segment, f"{page.task or uuid4()}:drain")
        task = page.task or str(uuid4())
        changes = [*self._make_changes(page, task)]
        kinds, ids = [self.kind(EVENT_TYPE)] * len(changes), [change["id"] for change in changes]
        subject = f"page {self.name}:{page.segment.id}:{task}:{page.number}"
        unreadable = [*page.unreadable]
        if strange := [user.id for user in (*page.add, *page.remove) if not self._is_id(user.id)]:
            check_without_id(len(strange))
            what = "with a prefix and nobody behind it, or " if self.settings.match == "prefix" else ""
            reason = f"users of a page {what}without an id that is text or an integer: {len(strange):,}"
            parked = msgspec.json.encode({"segment": str(page.segment.id), "ids": strange[:STRANGE_IDS]})
            unreadable.append(Unreadable(parked, f"{reason}; the others are taken"))
        return Decoded(kinds, [orjson.dumps(change) for change in changes], unreadable, ids, subject)

    def _make_changes(self, page: Page, task: str) -> Iterator[dict[str, Any]]:
        """Yield the changes of a page. A repeated page has the same ids, so that relay can leave the page out. A page
        with other users has other ids."""
        kind, _, label = self.settings.match.partition(":")
        add, remove = self._list_ids(page.add), self._list_ids(page.remove)
        parts: list[Part] = [(add[at : at + USERS], []) for at in range(0, len(add), USERS)]
        parts += [([], remove[at : at + USERS]) for at in range(0, len(remove), USERS)]
        parts = parts or [([], [])]  # a part without users still brings the segment's name
        now, name = int(time.time()), (page.segment.name or "")[:NAME_CHARS]
        content = blake2b(orjson.dumps([name, parts]), digest_size=8).hexdigest()
        for number, (added, removed) in enumerate(parts):
            sync = {"task": task, "page": page.number, "pages": page.pages, "part": number, "parts": len(parts)}
            yield {
                "event_type": EVENT_TYPE,
                "id": f"{self.name}:{page.segment.id}:{task}:{page.number}:{number}:{content}",
                "time": now,
                "cohort": {"id": str(page.segment.id), "name": name},
                "match": {"alias_label": label} if kind == "alias" else kind,
                "add": added,
                "remove": removed,
                "sync": sync | {"full": page.action == DRAIN},
            }

    def _list_ids(self, users: Iterable[SegmentUser]) -> list[str]:
        return [str(user.id) for user in users if self._is_id(user.id)]

    def _is_id(self, value: Any) -> bool:
        return is_id(value) and (self.settings.match != "prefix" or not EMPTY_PREFIX.fullmatch(str(value)))

    @property
    def notice(self) -> str:
        """Return a sentence on incomplete syncs."""
        return describe(self._syncs.list_incomplete(time.time()))

    @property
    def incomplete(self) -> int:
        """Return the number of incomplete syncs."""
        return len(self._syncs.list_incomplete(time.time()))

    def kept(self, bodies: Sequence[Any]) -> None:
        """Record the pages that are on disk. Log earlier syncs of a segment that lack pages once a new sync begins."""
        for head in map(decode_change, bodies):
            if head.sync.full:
                continue
            done, late = self._syncs.record(head.page, time.time())
            if done is not None:
                self.log.info("segment sync is complete after all", segment=done.segment, task=done.task)
            self._log_incomplete(late)

    def look_after(self) -> None:
        """Log syncs that wait too long for a page."""
        self._log_incomplete(self._syncs.take_overdue(time.time() - self.settings.incomplete_after))

    def _log_incomplete(self, syncs: Iterable[Sync]) -> None:
        for sync in syncs:
            numbers = {"received": len(sync.came), "pages": sync.pages, "missing": sync.missing[:PAGES_SHOWN]}
            # the reasons differ, so that the log has every sync
            which = {"segment": sync.segment, "task": sync.task, "reason": str(sync)}
            self.log.warning("segment sync was incomplete", **which, **numbers)

    def remember(self) -> str:
        """Return the syncs as text."""
        return self._syncs.dump()

    def recall(self, memory: str) -> None:
        """Go on with the syncs of `remember`."""
        self._syncs.load(memory)
