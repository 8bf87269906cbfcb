"""The receipts of erasures for admins: everything but the ids. Blocking, and changes nothing."""

from collections.abc import Sequence

from msgspec import Struct

from relay.store import ConnectorAnswer, Erasure, Stage, StoredErasures


class RemovedEvents(Struct, frozen=True):
    """The removed events."""

    events: int
    """Events removed from the journal."""
    changed: int
    """Events in the journal that name others as well, and stay without the user."""
    parked: int
    unreadable: int
    """Entries parked at a source, with an id in them."""
    attempts: int
    """Answers to attempts."""


class Asker(Struct, frozen=True):
    """The event that requested an erasure."""

    type: str
    source: str | None
    offset: int | None


class WorkerReceipt(Struct, frozen=True, kw_only=True):
    """The receipt of one of several workers. Times are Unix seconds."""

    worker: int
    status: Stage
    compacted: float | None
    """When everything was removed."""
    problem: str | None
    """Why the removal failed so far."""
    removed: RemovedEvents
    done: float | None


class Receipt(Struct, frozen=True, kw_only=True):
    """The receipt of an erasure. Times are Unix seconds."""

    number: int
    status: Stage
    asked: float
    due: float | None
    """When a waiting erasure begins: `erasure.after` after its request; None: it has begun, or the setting is unknown.
    """
    by: Asker | None
    """None: an admin."""
    asked_by: str = ""
    """The admin's name, as given; "": none."""
    digests: Sequence[str]
    """The SHA-256 of each id."""
    compacted: float | None
    """When everything was removed."""
    problem: str | None
    """Why the removal failed so far."""
    removed: RemovedEvents
    connectors: Sequence[ConnectorAnswer]
    done: float | None
    """When the last connector had answered, and the ids were deleted."""
    out_of_reach: str = ""
    """Where copies of what was removed may be for a while that relay cannot remove; "": nowhere, or nothing is removed
    yet."""
    workers: Sequence[WorkerReceipt]
    """Empty for a single process. Otherwise everything above covers all workers together."""


def list_receipts(erasures: StoredErasures, after: float | None) -> list[Receipt]:
    """List the receipts of all erasures, the last one first. `after`: the setting `erasure.after` in seconds, if
    known.

    Raises Unavailable.
    """
    return [
        Receipt(
            number=one.number, status=one.status, asked=one.asked,
            due=None if after is None or one.status != "waiting" else one.asked + after,
            by=Asker(one.type, one.source, one.offset) if one.type else None, asked_by=one.asked_by,
            digests=one.digests, compacted=one.compacted, problem=one.problem, removed=_make_removed(one),
            connectors=one.answers, done=one.done, out_of_reach=erasures.out_of_reach if one.compacted else "",
            workers=[
                WorkerReceipt(
                    worker=worker, status=part.status, compacted=part.compacted, problem=part.problem,
                    removed=_make_removed(part), done=part.done,
                )
                for worker, part in one.workers.items()
            ],
        )
        for one in erasures.read()
    ]  # fmt: skip


def _make_removed(one: Erasure) -> RemovedEvents:
    return RemovedEvents(one.events, one.changed, one.parked, one.unreadable, one.attempts)
