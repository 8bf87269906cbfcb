"""Changes of cohorts: read from events, merged, and split into the portions of requests. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final, NamedTuple
from unicodedata import normalize

from relay.api import Event, Reject

EVENT_TYPE: Final = "cohort.Change"
EXTERNAL_ID, DEVICE_ID, EMAIL, ALIAS = "external_id", "device_id", "email", "alias:"
MOST_BYTES: Final = 3_000_000
"""Most bytes of the ids of one request. Braze takes bodies of 4 MB (Braze docs, API limits)."""
WORST_BYTES: Final = 6
"""Most bytes that one byte of an id takes in JSON."""
FRAME_BYTES: Final = 50
"""Most bytes that JSON adds to an id."""
LONGEST_SLUG: Final = 100
LONGEST_ID: Final = 4096
"""Most bytes of an id or a name in UTF-8. Braze has no longer one, and keys of the store are limited."""


class Member(NamedTuple):
    """A user in a cohort."""

    kind: str
    """`external_id`, `device_id`, `email` or `alias:LABEL`."""
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The users who entered and left a cohort."""

    cohort: str
    name: str
    """Name of the cohort; empty: its present name."""
    add: Sequence[Member]
    remove: Sequence[Member]
    """Never has a member of `add`: an event that both removes and adds a user adds the user."""
    offset: int
    """Offset of the event in the journal. Later changes have higher offsets."""
    task: str
    page: int
    pages: int
    part: int
    parts: int
    full: bool
    """Whether all changes of this task together name every member. Users in none of the changes have left."""
    slug: str = ""
    """Part of an attribute's name, from the cohort's first name; empty if no attribute needs it."""
    resend: bool
    """Whether to send all known members as well."""

    @property
    def title(self) -> str:
        """The name, or the id of a cohort without a name."""
        return self.name or self.cohort


class Portion(NamedTuple):
    """The users of one request."""

    add: list[Member]
    remove: list[Member]


def read_change(event: Event) -> Change:
    """Read an event of the type `cohort.Change`. Raises Reject if the event is no change of a cohort."""
    if event.type != EVENT_TYPE:
        raise Reject(f"is of the type {event.type}; the connector takes {EVENT_TYPE}")
    try:
        data = event.data
        cohort, sync = data["cohort"], data.get("sync", {})
        match = data.get("match", EXTERNAL_ID)
        match = ALIAS + _check_length(str(match["alias_label"])) if isinstance(match, dict) else str(match)
        if match not in (EXTERNAL_ID, DEVICE_ID, EMAIL, "prefix") and not match.startswith(ALIAS):
            raise ValueError(f"match is {match!r}, not external_id, device_id, email, prefix or an alias_label")
        add = dict.fromkeys(read_member(_read_id(user), match) for user in data.get("add", ()))
        remove = dict.fromkeys(read_member(_read_id(user), match) for user in data.get("remove", ()))
        numbers: dict[str, Any] = {
            key: int(sync.get(key, usual)) for key, usual in (("page", 1), ("pages", 1), ("part", 0), ("parts", 1))
        }
        return Change(
            cohort=_read_id(cohort["id"]),
            name=_check_length(str(cohort.get("name") or "")),
            add=[*add],
            remove=[member for member in remove if member not in add],
            offset=event.offset,
            task=_check_length(str(sync.get("task", ""))),
            full=bool(sync.get("full")),
            resend=bool(sync.get("resend")),
            **numbers,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Reject(f"is no change of a cohort: {type(error).__name__}: {error}") from None


def make_resend(cohort: str, offset: int) -> Change:
    """Return the change that sends all known members of a cohort again. With an offset before every event no member
    becomes newer."""
    return Change(
        cohort=cohort,
        name="",
        add=(),
        remove=(),
        offset=offset,
        task="",
        page=1,
        pages=1,
        part=0,
        parts=1,
        full=False,
        resend=True,
    )


def read_cohort_id(event: Event) -> str | None:
    """Return the id of the cohort in an event; None if the event names none."""
    cohort = event.data.get("cohort")
    return str(cohort["id"]) if isinstance(cohort, dict) and "id" in cohort else None


def read_member(user: str, match: str) -> Member:
    """Return the member that an id names. With the match `prefix` the id names its kind; without a prefix it is an
    external id.

    Raises ValueError if there is nothing after the prefix, or an alias has no label or no name.
    """
    if match != "prefix":
        return Member(match, user)
    kind, found, rest = user.partition(":")
    if not found or kind + found not in (EXTERNAL_ID + ":", DEVICE_ID + ":", EMAIL + ":", ALIAS):
        return Member(EXTERNAL_ID, user)
    label, _, name = rest.partition(":")
    if not rest or (kind + found == ALIAS and not (label and name)):
        raise ValueError(
            f"{user!r} names nobody: prefixes are external_id:ID, device_id:ID, email:ADDRESS and alias:LABEL:NAME"
        )
    return Member(ALIAS + label, name) if kind + found == ALIAS else Member(kind, rest)


def drop_kind(change: Change, kind: str) -> Change:
    """Return the change without the users whose ids are of one kind."""
    add, remove = ([one for one in members if one.kind != kind] for members in (change.add, change.remove))
    return replace(change, add=add, remove=remove)


def make_slug(name: str) -> str:
    """Return a name as part of an attribute's name: ASCII letters and digits with `_` between words. May be empty."""
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:LONGEST_SLUG].rstrip("_")


def split_runs(changes: Iterable[tuple[int, Change]], most: int) -> Iterator[list[tuple[int, Change]]]:
    """Split the numbered changes of a cohort into runs to merge: plain changes in a row with `most` users at most."""
    run, users = list[tuple[int, Change]](), 0.0
    for number, change in changes:
        more = inf if change.full or change.resend else len(change.add) + len(change.remove)
        if run and users + more > most:
            yield run
            run, users = [], 0
        run.append((number, change))
        users += more
    if run:
        yield run


def merge(changes: Sequence[Change]) -> Change:
    """Merge changes in a row. For each user the newest action counts. The newest name counts."""
    if len(changes) == 1:
        return changes[0]
    inside = dict[Member, bool]()
    for change in changes:
        inside |= dict.fromkeys(change.remove, False) | dict.fromkeys(change.add, True)
    return replace(
        changes[-1],
        name=next((change.name for change in reversed(changes) if change.name), ""),
        add=[member for member, here in inside.items() if here],
        remove=[member for member, here in inside.items() if not here],
    )


def split_portions(add: Sequence[Member], remove: Sequence[Member], most: int) -> Iterator[Portion]:
    """Split users into the portions of requests, with `most` users and MOST_BYTES at most."""
    portion, size = Portion([], []), 0
    for members, into in ((remove, 1), (add, 0)):
        for member in members:
            more = FRAME_BYTES + WORST_BYTES * (len(member.id.encode()) + len(member.kind.encode()))
            if len(portion.add) + len(portion.remove) == most or (size and size + more > MOST_BYTES):
                yield portion
                portion, size = Portion([], []), 0
            portion[into].append(member)
            size += more
    if size:
        yield portion


def _read_id(value: Any) -> str:
    """Return an id as text. Raises TypeError if the value is no id."""
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise TypeError(f"{value!r} is no id")
    return _check_length(str(value))


def _check_length(text: str) -> str:
    """Return an id or a name. Raises ValueError if it is too long."""
    if (length := len(text.encode())) > LONGEST_ID:
        raise ValueError(f"{text[:80]!r}... has {length:,} bytes; ids and names have {LONGEST_ID:,} at most")
    return text
