"""The conditions: what is wrong now, as values. `/health` and `relay status` say the same in words. Pure.

A condition lasts over several checks of the status. Its kind and subject stay the same while it lasts; its sentence and
facts are those of each check.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from relay.status.advice import advise_on_doubt, advise_on_lane
from relay.status.diagnosis import (
    EXPIRED,
    Diagnosis,
    classify_certificate,
    classify_journal,
    classify_lane,
    classify_source,
    describe_lane,
    describe_parked,
    describe_unopened,
    diagnose,
    make_list_command,
    measure_wait,
    name_subject,
)
from relay.status.model import JournalStatus, LaneStatus, SourceStatus, Status


class Condition(Struct, frozen=True):
    """Something that is wrong now."""

    kind: str
    """One of `relay.kinds.CONDITIONS`."""
    subject: str
    """Its subject: "connector heap", "source braze", "journal", "journal of worker 1", "worker 1", "erasures", "clock".
    """
    sentence: str
    """As `/health` says it."""
    since: float
    """Unix seconds. Where relay cannot tell: the time of the first check that found it."""
    facts: Mapping[str, Any]
    """Facts as JSON: numbers, `last_error`, `do` (what an admin can do)."""

    @property
    def key(self) -> tuple[str, str]:
        """The identity of the condition over several checks."""
        return self.kind, self.subject


def find_conditions(status: Status) -> list[Condition]:
    """Find everything that is wrong."""
    now, found, conditions = status.now, diagnose(status), list[Condition]()
    for lane in status.lanes:
        conditions += _find_lane(lane, now)
    for source, finding in zip(status.sources, found.sources, strict=True):
        conditions += _find_source(source, finding.said, now)
    if not status.workers:
        conditions += _find_journal("journal", found.journal.said, status.journal, now)
    for worker, finding in zip(status.workers, found.workers, strict=True):
        if worker.away:
            conditions.append(Condition("worker_lost", finding.name, finding.said, now, {}))
        elif worker.journal is not None:
            conditions += _find_journal(f"journal of {finding.name}", finding.said, worker.journal, now)
    return [*conditions, *_find_cluster(status, found), *_find_beside_events(status, found)]


def _find_cluster(status: Status, found: Diagnosis) -> Iterator[Condition]:
    """Find what is wrong with the nodes that share the partitions, and with their database."""
    for node, finding in zip(status.nodes, found.nodes, strict=False):  # the last are of all nodes
        if node.state == "away":
            yield Condition("node_lost", finding.name, finding.said, node.seen, {})
    for number, why in status.unopened.items():
        facts = {"last_error": {"reason": why}, "do": "relay journal check"}
        yield Condition("partition_unopened", f"partition {number}", describe_unopened(number, why), status.now, facts)
    if status.store_problems:
        said = f"database: {'; '.join(status.store_problems)}"
        yield Condition("database_troubled", "database", said, status.now, {})


def _find_beside_events(status: Status, found: Diagnosis) -> Iterator[Condition]:
    """Find what is wrong with erasures, doubts, certificates, alerts and the last reload."""
    now = status.now
    for erasures, finding in zip(status.failing_erasures, found.erasures, strict=True):
        if not finding.ok:
            subject = "erasures" if erasures.connector is None else f"connector {erasures.connector}"
            facts = {"erasures": erasures.erasures, "last_error": {"reason": erasures.reason}}
            yield Condition("erasure_failing", subject, finding.said, erasures.since, facts)
    for doubt, finding in zip(status.doubts, found.doubts, strict=True):
        kind = "damaged" if doubt.is_damage else "doubt"
        yield Condition(
            kind,
            name_subject(status, doubt),
            finding.said,
            now,
            {"do": advise_on_doubt(doubt, in_database=bool(status.nodes))},
        )
    for certificate, finding in zip(status.certificates, found.certificates, strict=True):
        if wrong := classify_certificate(certificate, now):
            since = min(now, certificate.ends) if wrong == EXPIRED else now
            yield Condition(wrong, finding.name, finding.said, since, {"ends": certificate.ends})
    for alert, finding in zip(status.alerts, found.alerts, strict=True):
        if alert.failing:
            last = alert.last and {"at": alert.last.at, "reason": alert.last.problem}
            yield Condition("alert_failing", f"alert {alert.alert}", finding.said, alert.failing, {"last_error": last})
    if refused := status.refused_reload:
        yield Condition("reload_refused", "relay", found.reload.said, refused.at, {"do": "relay check"})


def _find_lane(lane: LaneStatus, now: float) -> Iterator[Condition]:
    subject, said = f"connector {lane.connector}", describe_lane(lane, now)
    if kind := classify_lane(lane, now):
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
                    "oldest_s": round(measure_wait(lane, now), 1),
                    "drained_in_s": lane.drained_in,
                    "last_error": error and {"at": error.at, "reason": error.reason, "status": error.status},
                    "event": {"type": error.event_type, "id": error.event_id} if error and error.event_type else None,
                    "do": advise_on_lane(lane),
                }
            ),
        )
    if lane.parked_now:
        yield _make_parked(subject, lane, now)


def _make_parked(subject: str, one: LaneStatus | SourceStatus, now: float) -> Condition:
    return Condition(
        "parked", subject, describe_parked(one), now, {"parked": one.parked_now, "do": make_list_command(one)}
    )


def _find_source(source: SourceStatus, said: str, now: float) -> Iterator[Condition]:
    subject = f"source {source.source}"
    if kind := classify_source(source):
        refusing = source.refusing
        facts: dict[str, Any] = {}
        if refusing:
            facts = {"last_error": {"reason": refusing.reason, "status": refusing.status}}
            facts |= {"deadline": refusing.deadline, "last_accepted": source.last}
        yield Condition(kind, subject, said, refusing.since if refusing else now, facts)
    if source.parked_now:
        yield _make_parked(subject, source, now)


def _find_journal(subject: str, said: str, journal: JournalStatus, now: float) -> Iterator[Condition]:
    reason = journal.refusing or journal.unsaved
    facts = {
        "fill": round(journal.fill, 3),
        "needed": journal.needed,
        "capacity": journal.capacity,
        "full_in_s": journal.full_in,
        "lost": journal.lost,
        "last_error": reason and {"reason": reason},
    }
    for kind in classify_journal(journal):
        yield Condition(kind, subject, said, now, facts)
