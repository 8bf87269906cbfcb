"""A change of a cohort, as an event says it and as requests carry it. Pure."""

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
"""Of the ids of one request; Braze takes bodies of 4 MB (Braze docs, API limits)."""
WORST_BYTES: Final = 6
"""What a byte of an id can become in JSON."""
FRAME_BYTES: Final = 50
"""What JSON puts around an id."""
LONGEST_SLUG: Final = 100


class Member(NamedTuple):
    """A user in a cohort."""

    kind: str
    """`external_id`, `device_id`, `email` or `alias:LABEL`."""
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who came into a cohort and who left it."""

    cohort: str
    name: str
    """Empty: the one it has."""
    add: Sequence[Member]
    remove: Sequence[Member]
    """None of them is in `add` too: what an event both removes and adds, it adds."""
    offset: int
    """Of the event in the journal: later changes have higher ones."""
    task: str
    page: int
    pages: int
    part: int
    parts: int
    full: bool
    """All changes of this task together name every member: who is in none of them has left."""
    slug: str = ""
    """The cohort's first name, as a part of an attribute's name; empty where no attribute has it."""
    resend: bool
    """Send everybody who is known to be in the cohort as well."""

    @property
    def title(self) -> str:
        """The name of a cohort that has none yet."""
        return self.name or self.cohort


class Portion(NamedTuple):
    """What goes into one request."""

    add: list[Member]
    remove: list[Member]


def change_of(event: Event) -> Change:
    """Read an event of the type `cohort.Change`. Raises Reject if it is none."""
    if event.type != EVENT_TYPE:
        raise Reject(f"is of the type {event.type}; the connector takes {EVENT_TYPE}")
    try:
        data = event.data
        cohort, sync = data["cohort"], data.get("sync", {})
        match = data.get("match", EXTERNAL_ID)
        match = ALIAS + str(match["alias_label"]) if isinstance(match, dict) else str(match)
        if match not in (EXTERNAL_ID, DEVICE_ID, EMAIL, "prefix") and not match.startswith(ALIAS):
            raise ValueError(f"match is {match!r}, not external_id, device_id, email, prefix or an alias_label")
        add = dict.fromkeys(member_of(_text(user), match) for user in data.get("add", ()))
        remove = dict.fromkeys(member_of(_text(user), match) for user in data.get("remove", ()))
        numbers: dict[str, Any] = {
            key: int(sync.get(key, usual)) for key, usual in (("page", 1), ("pages", 1), ("part", 0), ("parts", 1))
        }
        return Change(
            cohort=_text(cohort["id"]),
            name=str(cohort.get("name") or ""),
            add=[*add],
            remove=[member for member in remove if member not in add],
            offset=event.offset,
            task=str(sync.get("task", "")),
            full=bool(sync.get("full")),
            resend=bool(sync.get("resend")),
            **numbers,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Reject(f"is no change of a cohort: {type(error).__name__}: {error}") from None


def everything(cohort: str, offset: int) -> Change:
    """All that is known of a cohort, once more. The offset is before every event: it makes nobody a newer member."""
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


def cohort_of(event: Event) -> str | None:
    """The id of the cohort that an event is about; None if it is about none."""
    cohort = event.data.get("cohort")
    return str(cohort["id"]) if isinstance(cohort, dict) and "id" in cohort else None


def member_of(user: str, match: str) -> Member:
    """Who an id means. With the match `prefix` it says so itself; one that does not is an external id.

    Raises ValueError if there is nothing behind the prefix, or an alias has no label or no name."""
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


def without(change: Change, kind: str) -> Change:
    """The change without the users whose ids are of one kind."""
    add, remove = ([one for one in members if one.kind != kind] for members in (change.add, change.remove))
    return replace(change, add=add, remove=remove)


def slug_of(name: str) -> str:
    """A name as a part of an attribute's name: ASCII letters and digits with `_` between words; may be empty."""
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:LONGEST_SLUG].rstrip("_")


def runs(changes: Iterable[tuple[int, Change]], most: int) -> Iterator[list[tuple[int, Change]]]:
    """Neighbours among the changes of a cohort that may go as one: plain changes, with `most` users at most."""
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


def merged(changes: Sequence[Change]) -> Change:
    """Neighbouring changes as one: of each user the newest action counts, and the newest name."""
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


def portions(add: Sequence[Member], remove: Sequence[Member], most: int) -> Iterator[Portion]:
    """Cut a change into requests of at most `most` users and MOST_BYTES."""
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


def _text(value: Any) -> str:
    """An id, as Braze takes it."""
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise TypeError(f"{value!r} is no id")
    return str(value)
