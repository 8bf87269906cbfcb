"""The keys and values of the store: what Braze was told of cohorts, and of whom.

A key is a table and the parts of a primary key, as text. A zero byte stands between two parts, and `\\0\\xff` for a
zero byte in a part. So keys are in the order of their parts.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from relay_plugins.braze_cohorts.change import Member

COHORT: Final = "cohort"
"""By cohort: its `CohortRecord`."""
MEMBER: Final = "member"
"""By cohort, kind and id of a user: the offset of the last event that had the user in."""
TOLD: Final = "told"
"""Of a change that is not through yet, by cohort, kind and id: the offset of the change of which Braze was told."""
ASKED: Final = "asked"
"""By cohort, kind and id: the target of a request without an answer, so far or for good, that may have added the
user."""
PART: Final = "part"
"""Of a full sync that is not complete yet, by cohort, task, page and part: a `SyncPart`."""
RESENT: Final = "resent"
"""By cohort, while all members are sent again: the offset of the change, and the key of a member. Braze was told of all
members up to that key."""
SLUG: Final = "slug"
"""By part of the name of an attribute: its cohort."""
END: Final = b"\xff"
"""Follows a prefix: behind all keys with this prefix."""
_BETWEEN: Final = re.compile(rb"\0(?!\xff)")


class CohortRecord(msgspec.Struct):
    """What Braze was told of a cohort, beside its members."""

    name: str | None = None
    """None: Braze was not told of the cohort yet."""
    created: float = 0.0
    """In Unix seconds, as told to Braze."""
    synced: float = 0.0
    """Time of the last change, in Unix seconds."""
    task: str = ""
    """What that change belonged to."""
    members: int = 0
    target: str | None = None
    """Which Braze was told of the cohort, and in what way."""
    slug: str = ""
    """Part of the name of an attribute; a rename does not change it."""
    left_out: int = 0
    """Ids by which Braze cannot find users."""
    errors: int = 0
    """Entries that Braze did not take in answers that otherwise succeeded."""
    last_error: str = ""


class SyncPart(NamedTuple):
    """A part of a full sync that has come."""

    task: str
    page: int
    part: int
    parts: int
    offset: int


def make_key(*parts: str) -> bytes:
    """Return a key."""
    key = "\0".join(parts)
    if key.count("\0") < len(parts):  # as nearly always; a full sync makes millions of keys
        return key.encode()
    return b"\0".join([part.encode().replace(b"\0", b"\0\xff") for part in parts])


def make_prefix(*parts: str) -> bytes:
    """Return the prefix of the keys that begin with these parts, and have more."""
    return make_key(*parts, "")


def split_key(key: bytes) -> list[str]:
    """Return the parts of a key."""
    if b"\0\xff" not in key:  # as nearly always
        return key.decode().split("\0")
    return [part.replace(b"\0\xff", b"\0").decode() for part in _BETWEEN.split(key)]


def make_member_keys(table: str, cohort: str, members: Sequence[Member]) -> dict[bytes, Member]:
    """Return members of a cohort by their keys in a table."""
    prefix = make_prefix(table, cohort)
    return {prefix + make_key(*member): member for member in members}


def read_member_key(key: bytes) -> Member:
    """Return the member of a key in a table of members."""
    return Member(*split_key(key)[2:])


def encode_offset(offset: int) -> bytes:
    """Return an offset, which may be negative, as a value. Values are in the order of their offsets."""
    return (offset + (1 << 63)).to_bytes(8, "big")


def make_part_pair(cohort: str, part: SyncPart) -> tuple[bytes, bytes]:
    """Return the key and the value of a part of a full sync."""
    return make_key(PART, cohort, part.task, str(part.page), str(part.part)), msgspec.json.encode(part)


def read_part(value: bytes) -> SyncPart:
    """Return the part of a value."""
    return msgspec.json.decode(value, type=SyncPart)


def make_record_pair(cohort: str, record: CohortRecord) -> dict[bytes, bytes]:
    """Return the key and the value of a cohort."""
    return {make_key(COHORT, cohort): msgspec.json.encode(record)}


read_record: Final = msgspec.json.Decoder(CohortRecord).decode
"""Returns the record of a value."""
