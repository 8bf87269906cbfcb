"""What is wrong now, as values: the same that `/health` and `relay status` say in words. Pure.

A condition lasts from one look at the status to another. Its kind and its subject stay the same while it lasts; its
sentence and its facts are as they are at each look.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.status.diagnosis import (
    EXPIRED,
    HealthFinding,
    advice_for,
    advice_on,
    diagnose,
    kind_of_certificate,
    kind_of_lane,
    kind_of_source,
    kinds_of_journal,
    listing,
    said_of_lane,
    said_of_parked,
    waited,
)
from relay.status.model import AlertStatus, JournalStatus, LaneStatus, SourceStatus, Status


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now."""

    kind: str
    """One of `relay.kinds.CONDITIONS`."""
    subject: str
    """What it is wrong with: "connector heap", "source braze", "journal", "journal of worker 1", "worker 1",
    "erasures", "clock"."""
    sentence: str
    """As `/health` says it."""
    since: float
    """Unix seconds; where relay cannot tell: those of the first look that saw it."""
    facts: Mapping[str, Any]
    """What is known of it, as JSON: numbers, `last_error`, `do` (what an admin can do)."""

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same condition at another look."""
        return self.kind, self.subject


def conditions(status: Status) -> list[Condition]:
    """All that is wrong at a moment."""
    return [*_find(status)]


def _find(status: Status) -> Iterator[Condition]:
    now = status.now
    for lane in status.lanes:
        yield from _of_lane(lane, now)
    found = diagnose(status)
    for source, finding in zip(status.sources, found.sources, strict=True):
        yield from _of_source(source, finding.said, now)
    if not status.workers:
        yield from _of_journal("journal", found.journal.said, status.journal, now)
    for worker, finding in zip(status.workers, found.workers, strict=True):
        if worker.away or worker.journal is None:
            yield Condition("worker_lost", finding.name, finding.said, now, {})
        else:
            yield from _of_journal(f"journal of {finding.name}", finding.said, worker.journal, now)
    for erasures, finding in zip(status.failing_erasures, found.erasures, strict=True):
        if not finding.ok:
            subject = "erasures" if erasures.connector is None else f"connector {erasures.connector}"
            facts = {"erasures": erasures.erasures, "last_error": {"reason": erasures.reason}}
            yield Condition("erasure_failing", subject, finding.said, erasures.since, facts)
    for doubt, finding in zip(status.doubts, found.doubts, strict=True):
        subject = f"{doubt.what} of worker {doubt.worker}" if status.workers else doubt.what
        kind = "damaged" if doubt.is_damage else "doubt"
        yield Condition(kind, subject, finding.said, now, {"do": advice_on(doubt)})
    yield from _of_certificates(status, found.certificates)
    for alert, finding in zip(status.alerts, found.alerts, strict=True):
        yield from _of_alert(alert, finding.said)
    yield from _of_reload(status, found.reload.said)


def _of_reload(status: Status, said: str) -> Iterator[Condition]:
    if refused := status.refused_reload:
        yield Condition("reload_refused", "relay", said, refused.at, {"do": "relay check"})


def _of_certificates(status: Status, findings: Sequence[HealthFinding]) -> Iterator[Condition]:
    for certificate, finding in zip(status.certificates, findings, strict=True):
        if kind := kind_of_certificate(certificate, status.now):
            since = min(status.now, certificate.ends) if kind == EXPIRED else status.now
            yield Condition(kind, finding.name, finding.said, since, {"ends": certificate.ends})


def _of_alert(alert: AlertStatus, said: str) -> Iterator[Condition]:
    if alert.failing:
        facts = {"last_error": alert.last and {"at": alert.last.at, "reason": alert.last.problem}}
        yield Condition("alert_failing", f"alert {alert.alert}", said, alert.failing, facts)


def _of_lane(lane: LaneStatus, now: float) -> Iterator[Condition]:
    subject, said = f"connector {lane.connector}", said_of_lane(lane, now)
    if kind := kind_of_lane(lane, now):
        error = lane.last_error
        until = {"until": lane.paused_until} if lane.paused_until else {}
        yield Condition(
            kind,
            subject,
            said,
            lane.since or now,
            (
                until
                | {
                    "pending": lane.pending,
                    "oldest_s": round(waited(lane, now), 1),
                    "drained_in_s": lane.drained_in,
                    "last_error": error and {"at": error.at, "reason": error.reason, "status": error.status},
                    "event": {"type": error.event_type, "id": error.event_id} if error and error.event_type else None,
                    "do": advice_for(lane),
                }
            ),
        )
    if lane.parked_now:
        yield _parked(subject, lane, now)


def _parked(subject: str, one: LaneStatus | SourceStatus, now: float) -> Condition:
    return Condition("parked", subject, said_of_parked(one), now, {"parked": one.parked_now, "do": listing(one)})


def _of_source(source: SourceStatus, said: str, now: float) -> Iterator[Condition]:
    subject = f"source {source.source}"
    if kind := kind_of_source(source):
        refusing = source.refusing
        facts: dict[str, Any] = {}
        if refusing:
            facts = {"last_error": {"reason": refusing.reason, "status": refusing.status}}
            facts |= {"deadline": refusing.deadline, "last_accepted": source.last}
        yield Condition(kind, subject, said, refusing.since if refusing else now, facts)
    if source.parked_now:
        yield _parked(subject, source, now)


def _of_journal(subject: str, said: str, journal: JournalStatus, now: float) -> Iterator[Condition]:
    reason = journal.refusing or journal.unsaved
    facts = {
        "fill": round(journal.fill, 3),
        "needed": journal.needed,
        "capacity": journal.capacity,
        "full_in_s": journal.full_in,
        "lost": journal.lost,
        "last_error": reason and {"reason": reason},
    }
    for kind in kinds_of_journal(journal):
        yield Condition(kind, subject, said, now, facts)
