"""An erasure: a user to be erased and, when that is done, the receipt; and what is kept of all erasures."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from relay.api import OtherId, User
from relay.store.cursor import Counts
from relay.store.users import Wanted

COUNTS: Final = ("events", "changed", "parked", "unreadable", "attempts")
ERASURE_COLUMNS: Final = (
    *("number", "asked", "type", "source", "offset", "digests", "counted", *COUNTS, "compacted", "problem", "done"),
    *("asked_by", "user_id", "external_ids", "other_ids"),
)
"""The columns of an erasure in a table; digests, external ids and other ids are JSON."""
Stage = Literal["waiting", "at the connectors", "done"]
"""The progress of an erasure."""


class ConnectorAnswer(Struct, frozen=True):
    """A connector's answer to an erasure."""

    connector: str
    outcome: Literal["done", "skipped", "failed", "forgotten"]
    """`failed`: relay tries again; `forgotten`: an admin has forgotten the connector before it succeeded."""
    reason: str = ""
    attempts: int = 1
    at: float = 0.0
    """Unix seconds."""


class Erasure(Struct, frozen=True, kw_only=True):
    """A user to be erased; when it is done, the receipt. The fields are those of the table."""

    number: int = 0
    asked: float
    type: str | None = None
    source: str | None = None
    offset: int | None = None
    user: User
    digests: Sequence[str] = ()
    counted: int = 0
    events: int = 0
    changed: int = 0
    parked: int = 0
    unreadable: int = 0
    attempts: int = 0
    compacted: float | None = None
    problem: str | None = None
    done: float | None = None
    asked_by: str = ""
    answers: Sequence[ConnectorAnswer] = field(default=())
    workers: Mapping[int, "Erasure"] = field(default_factory=dict)
    """With several workers the receipt of each, by its number; this receipt merges them."""

    @property
    def status(self) -> Stage:
        """The progress."""
        return "done" if self.done else "at the connectors" if self.compacted else "waiting"

    def lacks(self, connector: str) -> bool:
        """Return whether a running connector has yet to erase the user."""
        return not any(one.connector == connector and one.outcome in ("done", "skipped") for one in self.answers)

    def failed_at(self, connector: str) -> bool:
        """Return whether the connector's last answer is a failure."""
        return any(one.connector == connector and one.outcome == "failed" for one in self.answers)

    def is_over(self, connectors: Iterable[str]) -> bool:
        """Return whether nothing is left to do, if these connectors run.

        A connector that failed has still to erase the user, running or not. Without ids no connector can be called, not
        even a new one.
        """
        forgotten = self.user == User()
        failed = any(one.outcome == "failed" for one in self.answers)
        return self.compacted is not None and (forgotten or not (failed or any(map(self.lacks, connectors))))


def make_digest(one: str) -> str:
    """Return the SHA-256 of an id's UTF-8, in hexadecimal."""
    return sha256(one.encode("utf-8", "surrogatepass")).hexdigest()


def make_digests(user: User) -> set[str]:
    """Return the digests of all ids of a user."""
    others = [one.id for one in user.other_ids]
    return {*map(make_digest, [*([user.user_id] if user.user_id else []), *user.external_ids, *others])}


def make_user(user_id: str | None, external_ids: Iterable[str], other_ids: Iterable[OtherId] = ()) -> User:
    """Make a user of these ids, without empty ids.

    Raises ValueError without any id, or for an id of an unknown kind.
    """
    others = tuple(OtherId(*one) for one in other_ids)
    for kind, _ in others:
        if kind not in ("device_id", "email") and not re.fullmatch("alias:.+", kind):
            raise ValueError(f"{kind!r} is no kind of id: device_id, email, or alias:LABEL")
    user = User(user_id or None, tuple(filter(None, external_ids)), tuple(one for one in others if one.id))
    if user == User():
        raise ValueError("nobody is named: a user has a user_id, external_ids, or other_ids")
    return user


def parse_alias(text: str) -> OtherId:
    """Return the alias that is written as LABEL:NAME. Raises ValueError."""
    label, _, name = text.partition(":")
    if not label or not name:
        raise ValueError(f"{text!r} is no LABEL:NAME")
    return OtherId(f"alias:{label}", name)


def encode_ids(one: Erasure) -> tuple[str, str, str]:
    """Return external ids, other ids, and the digests of all ids as JSON. Digests stay when ids are deleted."""
    digests = sorted({*one.digests, *make_digests(one.user)})
    return json.dumps(one.user.external_ids), json.dumps(one.user.other_ids), json.dumps(digests)


def parse_erasures(rows: Iterable[Sequence[Any]], answers: Iterable[Sequence[Any]]) -> list[Erasure]:
    """Parse erasures from rows with `ERASURE_COLUMNS`. `answers`: rows with a number and the fields of a
    `ConnectorAnswer`."""
    by_number: dict[int, list[ConnectorAnswer]] = {}
    for number, *answer in answers:
        by_number.setdefault(number, []).append(ConnectorAnswer(*answer))
    return [_parse_erasure(row, by_number.get(row[0], ())) for row in rows]


def _parse_erasure(row: Sequence[Any], answers: Sequence[ConnectorAnswer]) -> Erasure:
    *given, user_id, external_ids, other_ids = row
    user = User(user_id, tuple(json.loads(external_ids)), tuple(OtherId(*one) for one in json.loads(other_ids)))
    fields = dict(zip(ERASURE_COLUMNS[: len(given)], given, strict=True))
    fields["digests"] = json.loads(fields["digests"])
    return Erasure(user=user, answers=answers, **fields)


def find_same(before: Iterable[Erasure], now: Iterable[Erasure]) -> list[int]:
    """Return the numbers of the erasures whose ids are the same as before, and that have not begun again."""
    known = {one.number: one for one in now}
    found = [(one, known[one.number]) for one in before if one.number in known]
    return [one.number for one, same in found if [*one.digests] == [*same.digests] and one.compacted == same.compacted]


def merge_all(found: Iterable[tuple[int, Erasure]], name: Callable[[int], str] = "worker {}".format) -> list[Erasure]:
    """Merge the receipts of all erasures, each with its worker; return the newest first. `name` names a worker."""
    parts: dict[int, dict[int, Erasure]] = {}
    for worker, one in found:
        parts.setdefault(one.number, {})[worker] = one
    return [merge_receipts(parts[number], name) for number in sorted(parts, reverse=True)]


def merge_receipts(parts: Mapping[int, Erasure], name: Callable[[int], str]) -> Erasure:
    """Merge the workers' receipts of an erasure. It is done when all of them are done. `name` names a worker.

    The connectors' answers are those of the first worker.
    """
    first, *others = parts.values()
    if not others:
        return first
    problems: dict[str, list[str]] = {}
    for number, one in parts.items():
        if one.problem:
            problems.setdefault(one.problem, []).append(name(number))
    return replace(
        first,
        **{name: sum(getattr(one, name) for one in parts.values()) for name in COUNTS},
        compacted=_find_last([one.compacted for one in parts.values()]),
        done=_find_last([one.done for one in parts.values()]),
        digests=sorted({each for one in parts.values() for each in one.digests}),
        problem="; ".join(f"{', '.join(where)}: {said}" for said, where in problems.items()) or None,
        workers=parts,
    )


def _find_last(times: Sequence[float | None]) -> float | None:
    """Return the last of the times; None if any is missing."""
    known = [moment for moment in times if moment is not None]
    return max(known) if len(known) == len(times) else None


class FailingErasures(Struct, frozen=True):
    """Erasures whose last try failed at the same place."""

    connector: str | None
    """None: in relay's own journal and tables."""
    erasures: int
    """Number of erasures."""
    since: float
    """When the oldest was removed from journal and tables, else requested, in Unix seconds."""
    reason: str
    """The error of the oldest."""


class ErasureResult(NamedTuple):
    """What one worker removed for an erasure."""

    number: int
    done: float | None
    """Unix seconds."""
    events: int
    parked: int
    """Events parked at connectors and at sources."""
    asked_by: str


class Erasures(Protocol):
    """The requested erasures of one partition, and their progress.

    Each method is one transaction: all or nothing. What it changes is durable when it returns. It raises Unavailable
    and nothing else, and has changed nothing then.
    """

    async def read_watch_position(self) -> int | None:
        """Return the offset below which the log was searched for requests; None: it never was."""

    async def save_watch(self, position: int, asked: Sequence[Erasure], identities: Sequence[tuple[str, str]]) -> None:
        """Save the searched position, the requested erasures, and user ids with their external ids."""

    async def read_open(self) -> list[Erasure]:
        """Return the erasures that are not done, the last one first."""

    async def read_at_connectors(self) -> list[Erasure]:
        """Return the open erasures whose users log and tables no longer hold, and whose ids are known, the last one
        first."""

    async def correct_asked(self, now: float, latest: float) -> None:
        """Set the time of open erasures requested later than `latest` to `now`. Times are Unix seconds."""

    async def find_external_ids(self, user_id: str | None) -> set[str]:
        """Return the external ids that were saved for a user id."""

    async def find_parked_ids(self, wanted: Wanted) -> dict[int, User]:
        """Find further ids of the users in parked events, by the number of the erasure."""

    async def save_found_ids(self, found: Mapping[int, User]) -> list[Erasure]:
        """Add the ids of users to their erasures, unless log and tables no longer hold them; return these erasures."""

    async def share(self, erasures: Sequence[Erasure]) -> None:
        """Make all other partitions erase these users with these ids, too. An erasure with new ids begins again there.
        One transaction for each partition."""

    async def add_counts(self, counts: Mapping[str, Mapping[int, int]], until: int) -> None:
        """Add to the counts of erasures. Events below the offset `until` are counted from now on."""

    async def erase_users(self, connector: str | None, wanted: Wanted, offsets: Mapping[int, frozenset[int]]) -> Counts:
        """Erase users from everything that is saved of a connector, or with None of the sources; return the change of
        the counts in the connector's cursor.

        `offsets`: the users by offset of their events in the log. Removed parked events count as erased. Answers,
        reasons, history and alert messages stay, without the users' ids.
        """

    async def find_removed_connectors(self, running: Sequence[str]) -> list[str]:
        """Return the connectors that do not run but have parked events or attempts."""

    async def overwrite_deleted(self) -> None:
        """Overwrite what was deleted, so that no file holds it. Raises Unavailable also while somebody reads."""

    async def save_problem(self, numbers: Collection[int], problem: str) -> None:
        """Save why users could not be removed from log and tables."""

    async def mark_erased(self, erasures: Sequence[Erasure]) -> None:
        """Mark that log and tables hold none of these users. Erasures that got other ids meanwhile begin again, and
        count on."""

    async def find_held_elsewhere(self, connector: str, numbers: Collection[int]) -> dict[int, bool]:
        """Find the erasures that a connector must not get yet, because another partition may still write there.

        Where processes share the partitions, that is also a partition without a process that still has events of the
        users. Return by number whether a thread hangs there. Only for the first partition.
        """

    async def save_answers(self, asked: Sequence[Erasure], answers: Mapping[int, ConnectorAnswer]) -> None:
        """Save the answers of a connector, by the number of the erasure, except to erasures that have begun again or
        got other ids since `asked`."""

    async def find_failing_at_connectors(self) -> list[FailingErasures]:
        """Return the open erasures that fail at connectors."""

    async def forget_failed(self) -> None:
        """Forget all failed answers of connectors."""

    async def forget_ids(self, numbers: Collection[int]) -> None:
        """Delete the ids of these users. The receipts stay."""

    async def mark_done(self, numbers: Collection[int]) -> None:
        """Mark erasures as done."""
