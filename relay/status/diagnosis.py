"""Describes what is wrong, and what to do about it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from relay.api.internal import Validity
from relay.status.advice import advise_in_parts, advise_on_doubt, advise_on_full, describe_reason
from relay.status.model import (
    AlertStatus,
    CertificateStatus,
    JournalStatus,
    LaneStatus,
    NodeStatus,
    SourceStatus,
    Status,
    WorkerStatus,
)
from relay.store import AT_MOST, Doubt, FailingErasures, is_bound, make_ranges
from relay.words import format_count, format_ranges, format_span, format_time

BEHIND_S: Final = 60.0
"""A working lane is behind if its oldest event has waited so long, beyond the wait for its batch."""
LATE_S: Final = 86400.0
"""An erasure that fails at a connector for so long is late. Some destinations take hours to delete a user."""
NEARLY_FULL: Final = 0.8
FAR_S: Final = 30 * 86400.0
"""What is farther away is not mentioned."""
EXPIRED: Final = "certificate_expired"
NOT_OPEN: Final = "cannot be opened"
"""The prefix of the reason of a lane whose connector is not open."""
ALL_NEEDED: Final = "reached its max_size"
"""Part of the reason of a journal that is full though its disk is not."""
STOPS_S: Final = 5 * 86400.0
STOPS: Final = "Braze disables a Current after 5 days of errors"
NOT_AGAIN: Final = "events are lost: Braze does not send again what got 401 or 403"


class HealthFinding(Struct, frozen=True):
    """The health of one part of relay."""

    name: str
    ok: bool
    said: str
    parked: int = 0
    """Parked events, which are no failure but may need a look."""


class Diagnosis(Struct, frozen=True):
    """The health of all parts."""

    ok: bool
    lanes: list[HealthFinding]
    sources: list[HealthFinding]
    journal: HealthFinding
    workers: list[HealthFinding]
    """Empty with a single process."""
    nodes: list[HealthFinding]
    """The processes that share the partitions; then the partitions that none of them runs, and problems of their
    database."""
    erasures: list[HealthFinding]
    """Failing erasures: by connector, or "erasures" for relay's own journal and tables."""
    doubts: list[HealthFinding]
    """Doubts that an admin may accept: "journal", "clock"."""
    alerts: list[HealthFinding]
    certificates: list[HealthFinding]
    """Certificates that relay serves. A certificate that ends soon is mentioned, but is no failure yet."""
    reload: HealthFinding
    """Whether the last reload succeeded."""


def diagnose(status: Status) -> Diagnosis:
    """Diagnose every part."""
    now = status.now
    is_shared = bool(status.nodes or status.waiting_partitions)
    runs = not is_shared or any(one.state == "running" for one in status.nodes)
    lanes = [
        HealthFinding(one.connector, is_well(one, now), describe_lane(one, now), one.parked_now) for one in status.lanes
    ]
    sources = [
        HealthFinding(
            one.source, classify_source(one) is None, describe_source(one, status.lanes, now, runs=runs), one.parked_now
        )
        for one in status.sources
    ]
    journal = _diagnose_journal(status.journal, status.lanes)
    workers = [_diagnose_worker(one, status.lanes) for one in status.workers]
    nodes = [*_diagnose_nodes(status)]
    running = {one.connector for one in status.lanes}
    off = {one.connector for one in status.gone if one.disabled}
    erasures = [
        _diagnose_erasures(one, now, runs=one.connector in running, is_off=one.connector in off)
        for one in status.failing_erasures
    ]
    doubts = [_diagnose_doubt(one, status) for one in status.doubts]
    alerts = [HealthFinding(f"alert {one.alert}", not one.failing, describe_alert(one, now)) for one in status.alerts]
    certificates = [
        HealthFinding(
            f"certificate {one.certificate}", classify_certificate(one, now) != EXPIRED, describe_certificate(one, now)
        )
        for one in status.certificates
    ]
    refused = status.refused_reload
    if refused is None:
        reload = HealthFinding("reload", ok=True, said="reload: none was refused")
    else:
        said = f"reload: refused at {format_time(refused.at)}, the configuration before goes on"
        advice = "correct conf.d until relay check finds no mistake; then relay reload"
        reload = HealthFinding("reload", ok=False, said=f"{said}: {refused.said}; {advice}")
    each = (*lanes, *sources, journal, *workers, *nodes, *erasures, *doubts, *alerts, *certificates, reload)
    ok = all(finding.ok for finding in each)
    return Diagnosis(ok, lanes, sources, journal, workers, nodes, erasures, doubts, alerts, certificates, reload)


def is_well(lane: LaneStatus, now: float) -> bool:
    """Return whether nobody needs to look at the lane."""
    return classify_lane(lane, now) is None


def classify_lane(lane: LaneStatus, now: float) -> str | None:
    """Return what is wrong with a lane, as a kind of `relay.kinds`; None: nothing."""
    if lane.state in ("idle", "working"):  # of partitions that nobody runs, a sentence of their own tells
        return "behind" if _is_behind(lane, now) else None
    return lane.state


def classify_source(source: SourceStatus) -> str | None:
    """Return what is wrong with a source, as a kind of `relay.kinds`; None: nothing."""
    if source.refusing:
        return "source_refusing"
    return "source_incomplete" if source.incomplete else None


def classify_certificate(certificate: CertificateStatus, now: float) -> str | None:
    """Return what is wrong with a certificate, as a kind of `relay.kinds`; None: nothing."""
    good = Validity(certificate.begins, certificate.ends)
    if not good.is_good(now):
        return EXPIRED
    return "certificate_expiring" if good.is_short(now) else None


def describe_certificate(certificate: CertificateStatus, now: float) -> str:
    """Describe a certificate in a sentence: its end, and what to do."""
    name, good = certificate.certificate, Validity(certificate.begins, certificate.ends)
    cure = f"renew {certificate.files or f'the files of {name}.tls'}"
    if good.is_good(now):
        soon = f"; {cure}" if good.is_short(now) else ""
        return f"certificate {name}: ends at {format_time(good.ends)}, in {format_span(good.ends - now)}{soon}"
    how, until = "is not good yet", STOPS
    if good.ends < now:
        how, until = "has expired", f"{STOPS}: at {format_time(good.ends + STOPS_S)}"
    taken = "relay takes them within a minute"
    return f"certificate {name}: {how}, and senders refuse it: it is good {good}; {cure}; {taken}; {until}"


def classify_journal(journal: JournalStatus) -> list[str]:
    """Return what is wrong with a journal, as kinds of `relay.kinds`."""
    found = {
        "journal_full": bool(journal.refusing) and not journal.away,
        "journal_filling": not journal.refusing and journal.fill >= NEARLY_FULL,
        "database_failing": bool(journal.unsaved),
    }
    return [kind for kind, is_so in found.items() if is_so]


def describe_lane(lane: LaneStatus, now: float) -> str:
    """Describe a lane in a sentence: its state, what waits, what to do."""
    waiting = f"{lane.pending:,} pending" if lane.pending else "nothing pending"
    if lane.pending and (wait := measure_wait(lane, now)) >= 1:
        waiting += f", the oldest for {format_span(wait)}"
    how, advice, beside = [_describe_state(lane, now), waiting], advise_in_parts(lane), _describe_extras(lane)
    loses = lane.state == "refusing"  # then the loss and its deadline come first
    parts = [*how, *beside, *advice] if loses else [*how, *advice, *beside]
    return f"{lane.connector}: {'; '.join(parts)}"


def describe_source(source: SourceStatus, lanes: Sequence[LaneStatus], now: float, *, runs: bool = True) -> str:
    """Describe a source in a sentence. `lanes`: those that may fill the journal. `runs`: whether any relay runs."""
    if refusing := source.refusing:
        parts = [f"has refused everything since {format_time(refusing.since)}: {refusing.status} {refusing.reason}"]
        if refusing.deadline is not None:  # the sender is Braze
            loses, ends = refusing.status in (401, 403), format_time(refusing.deadline)
            later = "" if loses else "; later events are lost"
            parts += [NOT_AGAIN] if loses else []
            parts.append(f"Braze disables the Current at {ends}, after 5 days of errors{later}")
        if refusing.status == 401:
            known = f"{' and '.join(source.secrets) or 'those'} in {source.file}"
            parts.append(f"compare the credentials of the sender with {known}")
        if ALL_NEEDED in refusing.reason:
            parts.append(advise_on_full(lanes))
    elif source.last is None:
        parts = ["no events since the start" if runs else "no relay runs"]
    else:
        parts = [f"takes events, the last {format_span(now - source.last)} ago"]
    return f"{source.source}: {'; '.join([*parts, *_describe_extras(source)])}"


def describe_parked(one: LaneStatus | SourceStatus) -> str:
    """Describe parked events of a connector or a source in a sentence."""
    name = one.connector if isinstance(one, LaneStatus) else one.source
    return f"{name}: {'; '.join(_describe_parked(one))}"


def make_list_command(one: LaneStatus | SourceStatus) -> str:
    """Return the command that lists these parked events."""
    if isinstance(one, LaneStatus):
        return f"relay parked list --connector {one.connector}"
    return f"relay parked list --source {one.source} --cause unreadable"


def describe_alert(alert: AlertStatus, now: float) -> str:
    """Describe an alert in a sentence."""
    name = f"alert {alert.alert}"
    if alert.failing:
        problem = alert.last.problem if alert.last else ""
        waiting = f"; {format_count(alert.waiting, 'message')} waiting" if alert.waiting else ""
        advice = f"see {alert.file}; relay alerts test {alert.alert} tries at once"
        return f"{name}: sends nothing since {format_time(alert.failing)}: {problem}{waiting}; {advice}"
    if alert.last is None:
        return f"{name}: no message yet"
    if not alert.last.sent:
        return f"{name}: the last message was not sent at {format_time(alert.last.at)}: {alert.last.problem}"
    return f"{name}: the last message was sent at {format_time(alert.last.at)}"


def _describe_extras(one: LaneStatus | SourceStatus) -> Iterator[str]:
    """Yield its notice and its parked events."""
    if one.notice:
        yield one.notice
    yield from _describe_parked(one)


def _describe_parked(one: LaneStatus | SourceStatus) -> Iterator[str]:
    if one.parked_now:
        yield f"{one.parked_now:,} parked ({make_list_command(one)})"
    if isinstance(one, LaneStatus) and one.parked_full_in is not None and one.parked_full_in < FAR_S:
        left = format_span(one.parked_full_in)
        yield f"the oldest of them are removed in {left} if it goes on like this (parked.max_size)"
    if one.parked_removed:
        events = one.parked_removed
        yield f"{events:,} parked removed so far, as there was no room for more (parked.max_size, journal.min_free)"


def _describe_state(lane: LaneStatus, now: float) -> str:
    since = format_time(lane.since or now)
    reason = describe_reason(lane)
    match lane.state:
        case "paused":
            until = f" until {format_time(lane.paused_until)}" if lane.paused_until else ""
            return f"paused by {lane.paused_by or 'an admin'} at {since}{until}"
        case "unauthorized":
            return f"unauthorized, the destination does not accept relay since {since}: {reason}"
        case "refusing":
            return f"refusing, the destination has taken no event since {since}: {reason}"
        case "failing":
            return f"failing since {since}: {reason}"
        case "idle":
            return "no process runs it"
        case "broken":
            return reason if reason.startswith(NOT_OPEN) else f"stopped by an error of its own: {reason}"
    return "behind" if _is_behind(lane, now) else "working"


def _is_behind(lane: LaneStatus, now: float) -> bool:
    return measure_wait(lane, now) >= BEHIND_S + lane.batch_wait


def measure_wait(lane: LaneStatus, now: float) -> float:
    """Return the seconds since its oldest pending event was received; 0: nothing is pending."""
    return 0.0 if lane.oldest_pending is None else max(0.0, now - lane.oldest_pending)


def _diagnose_journal(journal: JournalStatus, lanes: Sequence[LaneStatus]) -> HealthFinding:
    used = f"{journal.fill:.0%} of what it may take is still needed"
    if journal.refusing:
        relief = f"; {advise_on_full(lanes)}" if ALL_NEEDED in journal.refusing else ""
        relief = "; connectors go on with the events in memory, then wait for the database" if journal.away else relief
        return HealthFinding("journal", ok=False, said=f"journal: takes no events: {journal.refusing}{relief}")
    if journal.unsaved:
        said = (
            f"journal: the database cannot be written: {journal.unsaved}; nothing can be parked, and connectors stop at"
        )
        return HealthFinding("journal", ok=False, said=f"{said} their window")
    ok = not classify_journal(journal)
    relief = "" if ok else f"; {advise_on_full(lanes)}"
    return HealthFinding("journal", ok=ok, said=f"journal: {used}{describe_full_in(journal)}{relief}")


def name_subject(status: Status, doubt: Doubt) -> str:
    """Name the part that a doubt is about: the journal or the clock, of a worker or partition if there are several."""
    if status.nodes:
        return f"{doubt.what} of partition {doubt.worker}"
    return f"{doubt.what} of worker {doubt.worker}" if status.workers else doubt.what


def _diagnose_doubt(one: Doubt, status: Status) -> HealthFinding:
    lost = {lane.connector: lane.outcomes.get("damaged", 0) for lane in status.lanes}
    said = f"{name_subject(status, one)}: {describe_doubt(one, lost)}"
    return HealthFinding(one.what, ok=False, said=f"{said}; {advise_on_doubt(one, in_database=bool(status.nodes))}")


def describe_doubt(one: Doubt, lost: Mapping[str, int]) -> str:
    """Describe a doubt. `lost`: the damaged events that each connector has ever counted."""
    if not one.is_damage:
        return one.said
    most = AT_MOST if is_bound(one.said) else ""
    found = [f"{name} has lost {most}{format_count(number, 'event')}" for name, number in lost.items() if number]
    return f"{', '.join(found) or 'no connector has lost an event'}; {one.said}"


def _diagnose_worker(one: WorkerStatus, lanes: Sequence[LaneStatus]) -> HealthFinding:
    name = f"worker {one.worker}"
    if one.away:
        part = "missing here" if one.journal is None else "shown as it was last"
        return HealthFinding(
            name, ok=False, said=f"{name}: is away, and started again if it has died; its part is {part}"
        )
    if one.journal is None:
        return HealthFinding(name, ok=True, said=f"{name}: starts; its part is missing here until then")
    journal = _diagnose_journal(one.journal, lanes)
    return HealthFinding(name, ok=journal.ok, said=f"{name}: {journal.said}")


def _diagnose_nodes(status: Status) -> Iterator[HealthFinding]:
    first = next((one.node for one in status.nodes if one.state == "running"), "")
    for one in status.nodes:
        name = f"node {one.node}" + (f" (worker {one.worker})" if one.worker else "")
        ok = one.state == "stopped" or (one.state == "running" and not one.lacks)
        yield HealthFinding(name, ok, f"{name}: {'; '.join(_describe_node(one, first))}")
    free = [number for number in status.waiting_partitions if number not in status.unopened]
    if free and status.nodes:
        idle = "no relay runs" if status.store_problems else "no relay runs: start one"  # they may forbid a start
        advice = "a running process takes them over in a moment" if first else idle
        said = f"partitions: nobody runs {describe_partitions(free)}, and their events wait"
        yield HealthFinding("partitions", ok=False, said=f"{said}; {advice}")
    for number, why in status.unopened.items():
        yield HealthFinding(f"partition {number}", ok=False, said=describe_unopened(number, why))
    yield from (HealthFinding("database", ok=False, said=f"database: {problem}") for problem in status.store_problems)


def _describe_node(one: NodeStatus, first: str) -> Iterator[str]:
    """Yield what there is to say of a process. `first`: the node with which configurations are compared."""
    if one.state == "stopped":
        yield f"has stopped at {format_time(one.seen)}"
    elif one.state == "away":
        yield f"has given no sign of life since {format_time(one.seen)} (process {one.process} on {one.host})"
        if first:
            yield "other processes run its partitions; start it again, or leave it: relay forgets it after a day"
        else:
            yield "no relay runs: start it again, or another node"
    else:
        yield f"runs {describe_partitions(one.partitions)} on {one.host}"
        if one.lacks:
            yield f"has no connector {', '.join(one.lacks)}: events in its partitions wait; add it there, and reload"
        if others := [table for table in one.differs if table.removeprefix("connector.") not in one.lacks]:
            yield f"its configuration differs from that of {first} in {', '.join(others)}"


def describe_partitions(numbers: Sequence[int]) -> str:
    """Describe partitions by their numbers: "partitions 0-3"."""
    noun = "partition" if len(numbers) == 1 else "partitions"
    return f"{noun} {format_ranges(make_ranges(numbers))}" if numbers else "no partition"


def describe_unopened(number: int, why: str) -> str:
    """Describe a partition that no process can open."""
    return f"partition {number} cannot be opened, and its events wait: {why}; each process tries again by itself"


def _diagnose_erasures(one: FailingErasures, now: float, *, runs: bool, is_off: bool) -> HealthFinding:
    if one.connector is None:
        said = f"erasures: {one.erasures:,} cannot be done in journal and tables: {one.reason}; relay tries again, and"
        said += " withholds the users' events from connectors"
        return HealthFinding("erasures", ok=False, said=said)
    what = f"{one.connector}: {format_count(one.erasures, 'erasure')}"
    if not runs:
        why, back = ("switched off", "switch it on") if is_off else ("not configured any more", "add it back")
        advice = f"{back}, or relay forget {one.connector} gives up"
        said = f"{what} failed there: {one.reason}; it is {why}: {advice}"
        return HealthFinding(one.connector, ok=False, said=said)
    since = f"fails there since {format_time(one.since)}"
    if one.erasures > 1:
        since = f"fail there, the oldest since {format_time(one.since)}"
    said = f"{what} {since}: {one.reason}; relay tells it again (relay erasures list)"
    return HealthFinding(one.connector, ok=now - one.since < LATE_S, said=said)


def describe_full_in(journal: JournalStatus) -> str:
    """Describe when the journal will be full; "" if that is far away."""
    if journal.full_in is None or journal.full_in > FAR_S:
        return ""
    return f"; full in {format_span(journal.full_in)} if it goes on like this"
