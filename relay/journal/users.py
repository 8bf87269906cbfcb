"""Whose an event is, and what is left of it when these users are erased. Pure.

An event is a user's if it has their id in `user.user_id` or `user.external_user_id`, or says that another profile was
merged into theirs. Events that name many users, changes of a cohort, lose those of them and stay. The ids are compared
once decoded, so it does not matter how a sender has written them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import orjson

from relay.api import ERASED, REDACTED, Block, OtherId, User, without_surrogates
from relay.journal.record import make_block

K = TypeVar("K")
NOBODY: Final = frozenset[int]()
LEFT: Final = b"{}"
"""The content of an erased event."""
LISTS: Final = {"cohort.Change": ("add", "remove")}
"""Types of events that name many users, and the lists in which they do."""
EXTERNAL_ID, DEVICE_ID, EMAIL = "external_id", "device_id", "email"
"""Kinds of ids in such a list, which its `match` names."""
PREFIX: Final = "prefix"
"""The `match` of a list in which each id says its kind itself, as in `device_id:17`."""
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


def user_of(body: bytes) -> User:
    """The user that an event is about, with all ids in it; without any id if it is about none."""
    head = _head(body)
    ids, properties = head.user or _Ids(), head.properties or _Properties()
    external = _text(ids.external_user_id)
    others = (OtherId(DEVICE_ID, _text(ids.device_id)), OtherId(EMAIL, _text(properties.email_address)))
    return User(
        _text(ids.user_id) or None, (external,) if external else (), tuple(other for other in others if other.id)
    )


class Wanted:
    """The users that are to be erased, by the numbers of their erasures."""

    def __init__(self, users: Mapping[int, User]) -> None:
        self.users = users
        self._by_user_id = _index((user.user_id, number) for number, user in users.items() if user.user_id)
        self._by_external_id = _index((one, number) for number, user in users.items() for one in user.external_ids)
        self._by_other_id = _index(
            ((kind, one), number) for number, user in users.items() for kind, one in user.other_ids
        )
        others = _index((one, number) for (_, one), numbers in self._by_other_id.items() for number in numbers)
        ids = self._by_user_id.keys() | self._by_external_id.keys() | others.keys()
        self._ids = {one: self._of(one) | others.get(one, NOBODY) for one in sorted(ids, key=len, reverse=True)}
        """All of them, the longest first: one may be a part of another."""

    def whose(self, body: bytes) -> frozenset[int]:
        """Whose an event is, as the numbers of erasures."""
        head = _head(body)
        found = NOBODY
        if head.user is not None:
            found |= self._by_user_id.get(_text(head.user.user_id), NOBODY)
            found |= self._by_external_id.get(_text(head.user.external_user_id), NOBODY)
        if head.properties is not None:
            found |= self._by_user_id.get(_text(head.properties.orphaned_by_id), NOBODY)
        return found

    def of_user_id(self, body: bytes) -> frozenset[int]:
        """Whose an event is by `user.user_id`."""
        user = _head(body).user
        return NOBODY if user is None else self._by_user_id.get(_text(user.user_id), NOBODY)

    def more_ids(self, bodies: Iterable[bytes]) -> dict[int, User]:
        """The ids that these users have in their events: external ids where the user id is theirs, device ids and
        e-mail addresses where one of either is."""
        found: dict[int, User] = {}
        for body in bodies:
            known = self.of_user_id(body)
            user = user_of(body)
            for number in known.union(*(self._by_external_id.get(one, NOBODY) for one in user.external_ids)):
                fresh = User(None, user.external_ids if number in known else (), user.other_ids)
                found[number] = merged_users(found.get(number, fresh), fresh)
        return found

    def without(self, type: str, body: bytes) -> tuple[bytes, frozenset[int]]:
        """An event of a type in LISTS without these users, and who they were."""
        try:
            data = orjson.loads(without_surrogates(body))
        except ValueError:
            return body, NOBODY
        gone, match = NOBODY, _kind_of(data.get("match", EXTERNAL_ID))
        for name in LISTS[type]:
            users = data.get(name)
            for user in users if isinstance(users, list) else ():
                gone |= self._listed(_text(user), match)
            if gone and isinstance(users, list):
                data[name] = [user for user in users if not self._listed(_text(user), match)]
        return (orjson.dumps(data), gone) if gone else (body, NOBODY)

    def named_in(self, text: str) -> frozenset[int]:
        """Who is named in a text that is no event: by an id that stands there for itself."""
        text = ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
        return NOBODY.union(*(whose for one, whose in self._ids.items() if one in text and _alone(one).search(text)))

    def hide(self, text: str) -> str:
        """The text with "..." for every id."""
        for one in self._ids:
            text = _alone(one).sub(HIDDEN, text) if one in text else text
        return text

    def hide_in(self, value: Any) -> Any:
        """The same in all texts of a JSON value."""
        if isinstance(value, dict):
            return {key: self.hide_in(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.hide_in(one) for one in value]
        return self.hide(value) if isinstance(value, str) else value

    def by_key(self, key: str | None) -> frozenset[int]:
        """Whose id that is which an event stays in order with."""
        return self._of(key or "")

    def _listed(self, user: str, kind: str) -> frozenset[int]:
        """Who is meant by an entry of such a list, where all ids are of one kind or say their kind themselves."""
        if kind in (EXTERNAL_ID, PREFIX):
            found = self._by_external_id.get(user.removeprefix(f"{EXTERNAL_ID}:"), NOBODY)
            found |= self._by_external_id.get(user, NOBODY)
            return found if kind == EXTERNAL_ID else found | self._prefixed(user)
        return self._by_other_id.get((kind, user), NOBODY)

    def _prefixed(self, user: str) -> frozenset[int]:
        kind, _, rest = user.partition(":")
        if kind == "alias":
            label, _, rest = rest.partition(":")
            kind = f"alias:{label}"
        return self._by_other_id.get((kind, rest), NOBODY)

    def _of(self, one: str) -> frozenset[int]:
        return self._by_user_id.get(one, NOBODY) | self._by_external_id.get(one, NOBODY)


class Erased:
    """A block without these users' events, and which of its events were whose."""

    def __init__(self, block: Block, wanted: Wanted) -> None:
        self.gone: dict[int, frozenset[int]] = {}
        """Whose the events at these offsets were."""
        self.changed: dict[int, frozenset[int]] = {}
        """Who was named, among others, in the events at these offsets."""
        self._bodies: dict[int, bytes] = {}
        for number, (body, kind) in enumerate(zip(block.bodies(), block.index, strict=True)):
            if not block.kinds[kind].is_erased:
                self._look(block, number, body, wanted)
        self._block = block

    def _look(self, block: Block, number: int, body: bytes, wanted: Wanted) -> None:
        offset, kind = block.offsets[number], block.kinds[block.index[number]]
        if whose := wanted.whose(body):
            self.gone[offset] = whose
        elif kind.type in LISTS:
            rest, named = wanted.without(kind.type, body)
            if named:
                self.changed[offset], self._bodies[number] = named, rest

    @property
    def block(self) -> Block:
        """What is left: the same block if nothing went."""
        if not self.gone and not self.changed:
            return self._block
        block, base = self._block, self._block.offsets[0]
        kinds = [block.kinds[kind] for kind in block.index]
        bodies = [self._bodies.get(number, body) for number, body in enumerate(block.bodies())]
        for offset in self.gone:
            kinds[offset - base], bodies[offset - base] = ERASED, LEFT
        return make_block(base, round(block.received * 1e6), kinds, bodies)


def _head(body: bytes) -> _Head:
    try:
        return _HEAD.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return _odd_head(without_surrogates(body))


def _odd_head(body: bytes) -> _Head:
    """Of an event whose user or properties are no objects, or that held an unpaired surrogate."""
    try:
        data = orjson.loads(body)
    except ValueError:
        return _Head()
    user, properties = (data.get(key) if isinstance(data, dict) else None for key in ("user", "properties"))
    ids = _Ids(*map(user.get, _Ids.__struct_fields__)) if isinstance(user, dict) else None
    more = _Properties(*map(properties.get, _Properties.__struct_fields__)) if isinstance(properties, dict) else None
    return _Head(ids, more)


def _text(value: Any) -> str:
    """An id as text, empty if it is none; senders also write them as numbers. What is redacted is the same for all."""
    is_id = isinstance(value, str | int) and not isinstance(value, bool) and value != REDACTED
    return str(value) if is_id else ""


def _alone(one: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(one)}(?!\w)")


def _kind_of(match: Any) -> str:
    return f"alias:{match.get('alias_label')}" if isinstance(match, dict) else _text(match)


def _index(pairs: Iterable[tuple[K, int]]) -> dict[K, frozenset[int]]:
    found: dict[K, frozenset[int]] = {}
    for one, number in pairs:
        found[one] = found.get(one, NOBODY) | {number}
    return found


def merged_users(*users: User) -> User:
    """The user with all ids of several, who are the same; the user id is that of the first who has one."""
    return User(
        next((one.user_id for one in users if one.user_id), None),
        tuple(sorted({each for one in users for each in one.external_ids})),
        tuple(sorted({each for one in users for each in one.other_ids})),
    )
