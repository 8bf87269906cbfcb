"""Finds the users of an event, and erases them from events and from rows about events. Pure.

An event is a user's if the user's id is in `user.user_id` or `user.external_user_id`, or if it says that another
profile was merged into the user's. Events that name many users, changes of a cohort, lose the erased users and stay.
Ids are compared after decoding, so a sender's way to write them does not matter.
"""

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import orjson

from relay.api import ERASED, REDACTED, Block, OtherId, User, without_surrogates
from relay.store.block import make_block
from relay.store.cursor import Cursor
from relay.store.parked import ParkedRow

K = TypeVar("K")
NOBODY: Final = frozenset[int]()
LEFT: Final = b"{}"
"""The body of a tombstone."""
LISTS: Final = {"cohort.Change": ("add", "remove")}
"""Types of events that name many users, and the lists with those users."""
EXTERNAL_ID, DEVICE_ID, EMAIL = "external_id", "device_id", "email"
"""Kinds of ids in such a list, which its `match` names."""
PREFIX: Final = "prefix"
"""The `match` of a list whose ids begin with their kind, as in `device_id:17`."""
HIDDEN: Final = "..."
ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")


class _Ids(msgspec.Struct):
    user_id: Any = None
    external_user_id: Any = None
    device_id: Any = None


class _Properties(msgspec.Struct):
    orphaned_by_id: Any = None
    email_address: Any = None


class _Head(msgspec.Struct):
    user: _Ids | None = None
    properties: _Properties | None = None


_HEAD: Final = msgspec.json.Decoder(_Head)


def find_user(body: bytes) -> User:
    """Return the user of an event with all ids in it; without any id if the event is about nobody."""
    head = _decode_head(body)
    ids, properties = head.user or _Ids(), head.properties or _Properties()
    external = _normalize_id(ids.external_user_id)
    others = (OtherId(DEVICE_ID, _normalize_id(ids.device_id)), OtherId(EMAIL, _normalize_id(properties.email_address)))
    return User(
        _normalize_id(ids.user_id) or None,
        (external,) if external else (),
        tuple(other for other in others if other.id),
    )


class Wanted:
    """The users to erase, by the numbers of their erasures."""

    def __init__(self, users: Mapping[int, User]) -> None:
        self.users = users
        self._by_user_id = _index_pairs((user.user_id, number) for number, user in users.items() if user.user_id)
        self._by_external_id = _index_pairs(
            (one, number) for number, user in users.items() for one in user.external_ids
        )
        self._by_other_id = _index_pairs(
            ((kind, one), number) for number, user in users.items() for kind, one in user.other_ids
        )
        others = _index_pairs((one, number) for (_, one), numbers in self._by_other_id.items() for number in numbers)
        ids = self._by_user_id.keys() | self._by_external_id.keys() | others.keys()
        self._ids = {one: self._find_id(one) | others.get(one, NOBODY) for one in sorted(ids, key=len, reverse=True)}
        """All ids, the longest first: an id may be part of another."""

    def find_numbers(self, body: bytes) -> frozenset[int]:
        """Return the erasures whose users an event is about."""
        head = _decode_head(body)
        found = NOBODY
        if head.user is not None:
            found |= self._by_user_id.get(_normalize_id(head.user.user_id), NOBODY)
            found |= self._by_external_id.get(_normalize_id(head.user.external_user_id), NOBODY)
        if head.properties is not None:
            found |= self._by_user_id.get(_normalize_id(head.properties.orphaned_by_id), NOBODY)
        return found

    def find_by_user_id(self, body: bytes) -> frozenset[int]:
        """Return the erasures that an event's `user.user_id` belongs to."""
        user = _decode_head(body).user
        return NOBODY if user is None else self._by_user_id.get(_normalize_id(user.user_id), NOBODY)

    def find_more_ids(self, bodies: Iterable[bytes]) -> dict[int, User]:
        """Find further ids of the users in their events, by the number of the erasure.

        Events with a known user id tell external ids. Events with a known user id or external id tell device ids and
        e-mail addresses.
        """
        found: dict[int, User] = {}
        for body in bodies:
            known = self.find_by_user_id(body)
            user = find_user(body)
            for number in known.union(*(self._by_external_id.get(one, NOBODY) for one in user.external_ids)):
                fresh = User(None, user.external_ids if number in known else (), user.other_ids)
                found[number] = merge_users(found.get(number, fresh), fresh)
        return found

    def remove_users(self, type: str, body: bytes) -> tuple[bytes, frozenset[int]]:
        """Remove these users from an event of a type in LISTS; return the event and the erasures found in it."""
        try:
            data = orjson.loads(without_surrogates(body))
        except ValueError:
            return body, NOBODY
        match = data.get("match", EXTERNAL_ID)
        kind = f"alias:{match.get('alias_label')}" if isinstance(match, dict) else _normalize_id(match)
        found = NOBODY
        for name in LISTS[type]:
            users = data.get(name)
            for user in users if isinstance(users, list) else ():
                found |= self._find_listed(_normalize_id(user), kind)
            if found and isinstance(users, list):
                data[name] = [user for user in users if not self._find_listed(_normalize_id(user), kind)]
        return (orjson.dumps(data), found) if found else (body, NOBODY)

    def find_named(self, text: str) -> frozenset[int]:
        """Return the erasures whose ids stand by themselves in a text."""
        text = ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
        return NOBODY.union(
            *(whose for one, whose in self._ids.items() if one in text and _compile_alone(one).search(text))
        )

    def hide(self, text: str) -> str:
        """Return the text with "..." for every id."""
        for one in self._ids:
            text = _compile_alone(one).sub(HIDDEN, text) if one in text else text
        return text

    def hide_in(self, value: Any) -> Any:
        """Return a JSON value with "..." for every id in its texts."""
        if isinstance(value, dict):
            return {key: self.hide_in(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.hide_in(one) for one in value]
        return self.hide(value) if isinstance(value, str) else value

    def hide_in_json(self, text: str) -> str:
        """Return a JSON text with "..." for every id in its texts; the same text without any id."""
        before = json.loads(text)
        after = self.hide_in(before)
        return text if after == before else json.dumps(after)

    def find_by_key(self, key: str | None) -> frozenset[int]:
        """Return the erasures of an ordering key."""
        return self._find_id(key or "")

    def _find_listed(self, user: str, kind: str) -> frozenset[int]:
        """Return the erasures of an entry of such a list. Its ids are of one kind, or begin with their kind."""
        if kind not in (EXTERNAL_ID, PREFIX):
            return self._by_other_id.get((kind, user), NOBODY)
        found = self._by_external_id.get(user.removeprefix(f"{EXTERNAL_ID}:"), NOBODY)
        found |= self._by_external_id.get(user, NOBODY)
        if kind == PREFIX:
            own, _, rest = user.partition(":")
            if own == "alias":
                label, _, rest = rest.partition(":")
                own = f"alias:{label}"
            found |= self._by_other_id.get((own, rest), NOBODY)
        return found

    def _find_id(self, one: str) -> frozenset[int]:
        return self._by_user_id.get(one, NOBODY) | self._by_external_id.get(one, NOBODY)


class Erased:
    """A block without these users' events, and the users of its events."""

    def __init__(self, block: Block, wanted: Wanted) -> None:
        self.erased: dict[int, frozenset[int]] = {}
        """The users whose events were at these offsets."""
        self.changed: dict[int, frozenset[int]] = {}
        """The users who were named, among others, at these offsets."""
        self._bodies: dict[int, bytes] = {}
        for number, (body, index) in enumerate(zip(block.bodies(), block.index, strict=True)):
            offset, kind = block.offsets[number], block.kinds[index]
            if kind.is_erased:
                continue
            if whose := wanted.find_numbers(body):
                self.erased[offset] = whose
            elif kind.type in LISTS:
                rest, named = wanted.remove_users(kind.type, body)
                if named:
                    self.changed[offset], self._bodies[number] = named, rest
        self._block = block

    @property
    def block(self) -> Block:
        """The rest: the same block if nothing was erased."""
        if not self.erased and not self.changed:
            return self._block
        block, base = self._block, self._block.offsets[0]
        kinds = [block.kinds[kind] for kind in block.index]
        bodies = [self._bodies.get(number, body) for number, body in enumerate(block.bodies())]
        for offset in self.erased:
            kinds[offset - base], bodies[offset - base] = ERASED, LEFT
        return make_block(base, round(block.received * 1e6), kinds, bodies)


def _decode_head(body: bytes) -> _Head:
    try:
        return _HEAD.decode(body)
    except (msgspec.DecodeError, RecursionError):
        body = without_surrogates(body)
    try:  # user or properties are no objects, or there was an unpaired surrogate
        data = orjson.loads(body)
    except ValueError:
        return _Head()
    user, properties = (data.get(key) if isinstance(data, dict) else None for key in ("user", "properties"))
    ids = _Ids(*map(user.get, _Ids.__struct_fields__)) if isinstance(user, dict) else None
    more = _Properties(*map(properties.get, _Properties.__struct_fields__)) if isinstance(properties, dict) else None
    return _Head(ids, more)


def _normalize_id(value: Any) -> str:
    """Return an id as text; "" if it is no id, or redacted. Senders also write ids as numbers."""
    is_id = isinstance(value, str | int) and not isinstance(value, bool) and value != REDACTED
    return str(value) if is_id else ""


def _compile_alone(one: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(one)}(?!\w)")


def _index_pairs(pairs: Iterable[tuple[K, int]]) -> dict[K, frozenset[int]]:
    found: dict[K, frozenset[int]] = {}
    for one, number in pairs:
        found[one] = found.get(one, NOBODY) | {number}
    return found


def merge_users(*users: User) -> User:
    """Merge several users who are the same into a user with all ids. The first user id wins."""
    return User(
        next((one.user_id for one in users if one.user_id), None),
        tuple(sorted({each for one in users for each in one.external_ids})),
        tuple(sorted({each for one in users for each in one.other_ids})),
    )


class ParkedErasure(NamedTuple):
    """What parked events lose."""

    removed: Sequence[int]
    """Numbers of events that are removed."""
    changes: Sequence[tuple[str, object, int]]
    """Column, value and number of each change to an event that stays."""
    emptied: set[int | None]
    """Offsets at which the lane has no parked event any more. A replay has its own ledger."""

    def count_settled(self, cursor: Cursor) -> int:
        """Return how many of these offsets a cursor counts as parked."""
        return sum(one is not None and cursor.start <= one and cursor.is_settled(one) for one in self.emptied)


class RowErasure:
    """Erases users from the rows of one connector, or with None from the sources' rows."""

    def __init__(self, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]) -> None:
        """`offsets`: the users by offset of their events in the log."""
        self._connector, self._wanted, self._offsets = connector, wanted, offsets
        self._sorted = sorted(offsets)
        self._named_in = lru_cache(10_000)(wanted.find_named)  # answers are much alike
        self.counts: dict[str, Counter[int]] = {"parked": Counter(), "unreadable": Counter(), "attempts": Counter()}
        """What was found of each erasure, by its number."""

    def find_parked(self, rows: Iterable[ParkedRow]) -> ParkedErasure:
        """Find the users' parked events, and the users in the events that stay."""
        removed: list[ParkedRow] = []
        left: set[int | None] = set()
        """Offsets of which a parked event stays."""
        changes: list[tuple[str, object, int]] = []
        for row in rows:
            whose = self._wanted.find_numbers(row.body)
            if self._connector is None:
                whose |= self._wanted.find_named(row.body.decode(errors="replace"))
            else:
                whose |= self._offsets.get(-1 if row.offset is None else row.offset, NOBODY)
                whose |= self._wanted.find_by_key(row.key)
            if whose:
                removed.append(row._replace(body=b""))
                self.counts["parked" if self._connector else "unreadable"].update(whose)
            else:
                left.add(None if row.replay else row.offset)
                changes += self._list_changes(row)
        emptied = {row.offset for row in removed if row.replay is None} - left
        return ParkedErasure([row.number for row in removed], changes, emptied)

    def _list_changes(self, row: ParkedRow) -> list[tuple[str, object, int]]:
        texts = {name: getattr(row, name) for name in ("reason", "answer") if self._named_in(getattr(row, name))}
        found: list[tuple[str, object, int]] = [(n, self._wanted.hide(text), row.number) for n, text in texts.items()]
        if row.type in LISTS:
            body, named = self._wanted.remove_users(row.type, row.body)
            found += [("body", body, row.number)] if named else []
        return found

    def find_answers(self, answers: Iterable[tuple[int, Sequence[tuple[int, int]], str]]) -> list[int]:
        """Find the answers that are about the users' events, or name the users: row, offsets, text."""
        found: list[int] = []
        for row, ranges, answer in answers:
            whose = self._named_in(answer)
            for start, stop in ranges:
                offsets = self._sorted[bisect_left(self._sorted, start) : bisect_left(self._sorted, stop)]
                whose = whose.union(*(self._offsets[offset] for offset in offsets))
            if whose:
                found.append(row)
                self.counts["attempts"].update(whose)
        return found
