"""Reads the body of a call of Heap's Segments Sync webhook. Pure.

No field is marked required in Heap's specification. A body without `sync_info` or without a task is a sync by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated, Any, Final

import msgspec

from relay.api import UNREADABLE, Malformed, Unreadable, Walk, is_dense, is_utf8, read_entries, without_surrogates
from relay.api import why_unreadable as why

SYNC, DRAIN = "segment.users.sync", "segment.users.drain"
ID_CHARS: Final = 256
"""Longest id of a segment or a sync: each change that relay makes of a page repeats the id."""
MOST_WITHOUT_ID: Final = 10_000
"""Most users without an id in a page; relay refuses a body with more of them."""
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Id = Annotated[str, msgspec.Meta(max_length=ID_CHARS)] | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class SegmentUser(msgspec.Struct):
    """A user, by the value of the matching key. A user without a value has no id."""

    id: Any = None


class HeapSegment(msgspec.Struct):
    """The synced segment."""

    id: Id
    name: str | None = None


class SyncInfo(msgspec.Struct):
    """The number of the page, and its sync."""

    sync_task_id: Id | None = None
    page_number: Natural | None = None
    total_pages: Natural | None = None


class Data(msgspec.Struct):
    """The changes of a page."""

    segment: HeapSegment
    sync_info: SyncInfo | None = None
    add: list[SegmentUser] | None = None
    remove: list[SegmentUser] | None = None


class SegmentCall(msgspec.Struct):
    """The body of a call, without the fields that relay does not need."""

    action_type: str
    data: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a sync, from one call."""

    action: str
    segment: HeapSegment = field(default_factory=lambda: HeapSegment(""))
    task: str = ""
    """Id of the sync; empty: the page is a sync by itself."""
    number: int = 1
    pages: int = 1
    add: Sequence[SegmentUser] = ()
    remove: Sequence[SegmentUser] = ()
    unreadable: Sequence[Unreadable] = ()
    """Users that the decoder refuses."""


decode_call: Final = msgspec.json.Decoder(SegmentCall).decode
decode_data: Final = msgspec.json.Decoder(Data).decode
decode_user: Final = msgspec.json.Decoder(SegmentUser).decode
decode_segment: Final = msgspec.json.Decoder(HeapSegment).decode
decode_info: Final = msgspec.json.Decoder(SyncInfo | None).decode


def read_page(body: bytes) -> Page:
    """Return the page in a body. A page with an unknown action has nothing else in it. Raises Malformed."""
    try:
        if is_utf8(body) and not is_dense(body):
            call = decode_call(body)
            if call.action_type not in (SYNC, DRAIN):
                return Page(call.action_type)
            data = decode_data(call.data)
            return _make_page(call.action_type, data.segment, data.sync_info, data.add or (), data.remove or ())
    except UNREADABLE:
        pass
    try:  # read only what is needed, and each user alone
        found = Walk(body).object()
        action = msgspec.json.decode(found.get(b"action_type", b"null"), type=str)
        if action not in (SYNC, DRAIN):
            return Page(action)
        parts = Walk(bytes(found.get(b"data", b"null"))).object()
        segment = decode_segment(_repair(parts.get(b"segment", b"null")))
        info = decode_info(_repair(parts.get(b"sync_info", b"null")))
        add, odd = _read_users(parts.get(b"add", b"null"), "added user")
        remove, more = _read_users(parts.get(b"remove", b"null"), "removed user")
        return _make_page(action, segment, info, add, remove, [*odd, *more])
    except UNREADABLE as error:
        raise Malformed(f"the body is no segment sync: {why(error)}") from None


def _read_users(array: bytes | memoryview, word: str) -> tuple[list[SegmentUser], list[Unreadable]]:
    """Return the users of an array, and its unreadable elements. Raises Malformed if too many users have no id."""
    text = bytes(array)
    if text == b"null":
        return [], []
    without_id = count(1)

    def decode(entry: bytes) -> SegmentUser:
        user = decode_user(entry)
        if not is_id(user.id):
            check_without_id(next(without_id))
        return user

    # an element is small: as bytes it takes a quarter of the memory of a view
    users, _, unreadable = read_entries(enumerate(map(bytes, Walk(text).elements()), 1), decode, word, "user")
    return users, unreadable


def is_id(value: Any) -> bool:
    """Return whether a value can be a user's id: text that is not empty, or an integer."""
    return isinstance(value, str | int) and value != "" and not isinstance(value, bool)


def check_without_id(number: int) -> None:
    """Raise Malformed if a page has too many users without an id."""
    if number > MOST_WITHOUT_ID:
        raise Malformed(
            f"more than {MOST_WITHOUT_ID:,} users of the page have no id: is the webhook's matching key right?"
        )


def _repair(part: bytes | memoryview) -> bytes:
    """Replace invalid UTF-8 and unpaired surrogates, which the decoder refuses."""
    return without_surrogates(str(part, "utf-8", "replace").encode())


def _make_page(
    action: str,
    segment: HeapSegment,
    info: SyncInfo | None,
    add: Sequence[SegmentUser],
    remove: Sequence[SegmentUser],
    unreadable: Sequence[Unreadable] = (),
) -> Page:
    """Return a page. Without a task the page is a sync by itself."""
    if info is None or info.sync_task_id in (None, ""):
        return Page(action, segment, add=add, remove=remove, unreadable=unreadable)
    number, pages = (1 if one is None else one for one in (info.page_number, info.total_pages))
    return Page(action, segment, str(info.sync_task_id), number, pages, add, remove, unreadable)
