"""The receipts of erasures, as admins see them: all but the ids. Blocking, and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.state import ConnectorAnswer, Erasure, Stage, list_erasures


@dataclass(frozen=True, slots=True)
class RemovedEvents:
    """What was removed."""

    events: int
    """From the journal."""
    changed: int
    """Events in the journal that name others as well, and stay without the user."""
    parked: int
    unreadable: int
    """Parked at a source, with an id in it."""
    attempts: int
    """Answers to attempts."""


@dataclass(frozen=True, slots=True)
class Asker:
    """The event that asked for an erasure."""

    type: str
    source: str | None
    offset: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReceipt:
    """What one of several workers has done. Times are Unix seconds."""

    worker: int
    status: Stage
    compacted: float | None
    """When everything was removed."""
    problem: str | None
    """Why that was not possible yet."""
    removed: RemovedEvents
    done: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What has become of an erasure. Times are Unix seconds."""

    number: int
    status: Stage
    asked: float
    due: float | None
    """While it waits, when it begins: `erasure.after` after it was asked for; None: it has begun, or the setting is
    not known."""
    by: Asker | None
    """None: an admin."""
    asked_by: str = ""
    """Who that admin is, as they said; "": they did not."""
    digests: Sequence[str]
    """The SHA-256 of each id."""
    compacted: float | None
    """When everything was removed."""
    problem: str | None
    """Why that was not possible yet."""
    removed: RemovedEvents
    connectors: Sequence[ConnectorAnswer]
    done: float | None
    """When the last connector had answered, and the ids were forgotten."""
    workers: Sequence[WorkerReceipt]
    """Empty if there is only one: else all of the above is of all of them together."""


def list_receipts(state: Path, after: float | None) -> list[Receipt]:
    """The receipts of a state folder, the last one first; `after` is the setting `erasure.after`, in seconds, if it is
    known. Raises FileNotFoundError, sqlite3.Error."""
    return [_receipt(one, after) for one in list_erasures(state)]


def _receipt(one: Erasure, after: float | None) -> Receipt:
    due = None if after is None or one.status != "waiting" else one.asked + after
    return Receipt(
        number=one.number, status=one.status, asked=one.asked, due=due,
        by=Asker(one.type, one.source, one.offset) if one.type else None, asked_by=one.asked_by,
        digests=one.digests,
        compacted=one.compacted, problem=one.problem, removed=_removed(one), connectors=one.answers, done=one.done,
        workers=[_part(worker, part) for worker, part in one.workers.items()],
    )  # fmt: skip


def _part(worker: int, one: Erasure) -> WorkerReceipt:
    return WorkerReceipt(
        worker=worker, status=one.status, compacted=one.compacted, problem=one.problem, removed=_removed(one),
        done=one.done,
    )  # fmt: skip


def _removed(one: Erasure) -> RemovedEvents:
    return RemovedEvents(one.events, one.changed, one.parked, one.unreadable, one.attempts)
