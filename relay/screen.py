"""The status for people: its figures as sentences and as rows of tables, the header first."""

from collections.abc import Iterator
from typing import Final

from relay.api.internal import cut
from relay.status import (
    RemovedConnector,
    Status,
    classify_certificate,
    describe_full_in,
    describe_kept,
    describe_partitions,
    diagnose,
    is_slow,
    is_well,
)
from relay.store import make_ranges
from relay.words import escape_text, format_count, format_ranges, format_size, format_span, shorten

CAUSES: Final = {"malformed": "that failed in TLS or spoke no HTTP"}
"""What is not called by its name."""
UNKNOWN_NAMED: Final = 10
"""Event types of a source that are named; all are with --json."""
MANY: Final = ((1_000_000_000, "billion "), (1_000_000, "million "))


def describe_process(seen: Status) -> str:
    """Describe for how long relay has run, what it does now, and what it needs."""
    if not _runs(seen):
        return "no relay runs" if seen.nodes else "no relay has run here yet"
    rate, used = sum(source.rate for source in seen.sources), seen.cpu / max(1.0, seen.now - seen.started)
    work = f"{rate:,.0f} events/s; {format_size(seen.memory)} of memory, {used:.0%} of a CPU on average"
    return f"up {format_span(seen.now - seen.started)}; {work}"


def describe_journal(seen: Status) -> str:
    """Describe the fill of the journal."""
    if not _runs(seen):
        return "its size is unknown while no relay runs"
    if not _knows_partitions(seen):
        return "nothing is known of it now"
    journal = seen.journal
    held = f"{format_size(journal.needed)} still needed (whole segments)"
    if journal.needed >= journal.capacity:  # a full disk
        held += ", no room for more events"
    else:
        held += f" of {format_size(journal.capacity)} ({journal.fill:.0%})"
    kept = format_count(journal.head - journal.oldest, "event")
    waiting = seen.waiting_partitions
    lack = f"; of {describe_partitions(waiting)} nothing is known now, as nobody runs them" if waiting else ""
    return f"{format_size(journal.size)}, {held}, {kept} kept{describe_full_in(journal)}{lack}"


def list_worker_rows(seen: Status) -> list[list[str]]:
    """Return the workers; nothing with a single process."""
    rows = [["worker", "up", "memory", "journal", "needed"]]
    for one in seen.workers:
        if one.started is None or one.journal is None:
            rows.append([str(one.worker), "away" if one.away else "starts", "-", "-", "-"])
            continue
        up = "away" if one.away else format_span(seen.now - one.started)
        is_known = one.journal.capacity > 0  # else the worker has no partition
        journal = [format_size(one.journal.size), f"{one.journal.fill:.0%}"] if is_known else ["-", "-"]
        rows.append([str(one.worker), up, format_size(one.memory), *journal])
    return rows if seen.workers else []


def list_node_rows(seen: Status) -> list[list[str]]:
    """Return the processes of the nodes; nothing unless nodes share the partitions."""
    rows = [["node", "worker", "state", "up", "partitions", "memory", "version", "host"]]
    for one in seen.nodes:
        runs = one.state == "running"
        up = format_span(seen.now - one.started) if runs else f"{format_span(seen.now - one.seen)} ago"
        memory = "-" if one.memory is None else format_size(one.memory)
        numbers = format_ranges(make_ranges(one.partitions)) or "-"
        rows.append([one.node, str(one.worker), one.state, up, numbers, memory, one.version, one.host])
    return rows if seen.nodes else []


def list_source_rows(seen: Status) -> list[list[str]]:
    """Return the sources."""
    header = ["source, since start", "events accepted", "accepted/s", "requests refused", "unreadable", "last event"]
    rows = [[*header, "duplicates ever", "parked now"]]
    for one in seen.sources:
        counts = [_format_if(_runs(seen), each) for each in (one.accepted, one.rate, one.refused, one.unreadable)]
        last = "-" if one.last is None else f"{format_span(seen.now - one.last)} ago"
        rows.append([one.source, *counts, last, f"{one.duplicates:,}", _format_parked(one.parked_now, seen)])
    return rows


def list_strangers(seen: Status) -> list[str]:
    """Return sentences on requests and connections that belong to no source, and on log lines that were dropped."""
    lines: list[str] = []
    if seen.strays:
        lines.append(f"{format_count(seen.strays, 'request')} to paths that no source has (request refused in the log)")
    if seen.dropped_log_lines:
        lines.append(f"{format_count(seen.dropped_log_lines, 'log line')} dropped: what reads standard error stalls")
    for name, listener in seen.listeners.items():
        if total := sum(listener.refused.values()):
            numbers = [(CAUSES.get(cause, cause), number) for cause, number in listener.refused.items() if number]
            causes = ", ".join(f"{number:,} {cause}" for cause, number in numbers)
            is_logged = total > listener.refused.get("malformed", 0)  # of TLS the log has nothing
            more = " (the log may have more)" if is_logged else ""
            refused = f"{format_count(total, 'connection')} refused or closed without a request"
            lines.append(f"{name}: {refused}: {causes}{more}")
    return lines


def list_lane_rows(seen: Status) -> list[list[str]]:
    """Return the connectors."""
    rows = [["connector", "state", "pending", "oldest", "settled/s", "drained in", "parked", "last error"]]
    for one in seen.lanes:
        oldest = "-" if one.oldest_pending is None else format_span(seen.now - one.oldest_pending)
        stands = not one.pending or one.state in ("paused", "unauthorized") or is_slow(one)
        grows = "-" if is_well(one, seen.now) or one.state != "working" else "never"
        drained = "-" if stands else grows if one.drained_in is None else format_span(one.drained_in)
        rate = 0.0 if one.state == "refusing" else one.rate  # what is parked is not delivered
        last = "-"
        if error := one.last_error:
            last = f"{error.status or cut(escape_text(error.reason), 40)}, {format_span(seen.now - error.at)} ago"
        pending = _format_if(_knows_partitions(seen), one.pending)
        counts = [pending, oldest, _format_if(_runs(seen), rate), drained, _format_parked(one.parked_now, seen)]
        rows.append([one.connector, one.state, *counts, last])
    return rows


def list_remarks(seen: Status) -> list[str]:
    """Return sentences on everything else."""
    found = [
        f"replay {one.number} to {one.connector}: {one.settled:,} of {one.events:,} events, {one.rate:,.0f}/s"
        for one in seen.replays
    ]
    for worker in (one.worker for one in seen.workers if one.only_drains):
        rest = "ends when its events are delivered and its erasures are done"
        found.append(f"worker {worker}: {rest}, for runtime.workers is lower than before (relay erasures list)")
    found += [describe_removed(one) for one in seen.gone if one.pending or one.later]
    if seen.restart:
        found.append(f"a restart is needed for: {', '.join(seen.restart)}")
    for source in seen.sources:
        if types := [escape_text(name) for name in source.unknown_types]:
            named = ", ".join(shorten(types, UNKNOWN_NAMED))
            found.append(f"{source.source}: {format_count(len(types), 'event type')} not in relay's catalogue: {named}")
    return [*found, *list_problems(seen)]


def describe_removed(one: RemovedConnector) -> str:
    """Describe what relay keeps of a connector that is not configured any more, or disabled."""
    why = "switched off (enabled = false)" if one.disabled else "not configured any more"
    kept = f"{describe_kept(one)} kept for journal.retention in case it is added back"
    return f"{one.connector}: {why}; {kept} (relay forget {one.connector} lets go of it)"


def list_problems(seen: Status) -> Iterator[str]:
    """Yield a sentence for each problem, for parked events, and for each notice of a plugin."""
    found = diagnose(seen)
    each = (*found.workers, *found.nodes, *found.sources, found.journal, *found.lanes)
    speaking = {one.source for one in seen.sources if one.notice}
    speaking |= {one.connector for one in seen.lanes if one.notice or is_slow(one)}
    speaking |= {finding.name for finding, one in zip(found.nodes, seen.nodes, strict=False) if one.differs}
    yield from (escape_text(one.said) for one in each if not one.ok or one.parked or one.name in speaking)
    yield from (escape_text(one.said) for one in (*found.erasures, *found.doubts))
    yield from (escape_text(one.said) for one in (*found.alerts, found.reload) if not one.ok)
    wrong = [classify_certificate(one, seen.now) for one in seen.certificates]
    yield from (escape_text(one.said) for one, kind in zip(found.certificates, wrong, strict=True) if kind)


def _runs(seen: Status) -> bool:
    """Return whether any relay runs."""
    return not _is_shared(seen) or any(one.state == "running" for one in seen.nodes)


def _is_shared(seen: Status) -> bool:
    """Return whether the status is of all processes that share the partitions; before the first start there are
    none."""
    return bool(seen.nodes or seen.waiting_partitions)


def _knows_partitions(seen: Status) -> bool:
    """Return whether the status is of any partition. While the database is away, a relay may have none."""
    return bool(seen.partitions or _is_shared(seen) or seen.journal.capacity)


def _format_if(is_known: bool, number: float) -> str:
    """Format a number, if it is known."""
    return f"{number:,.0f}" if is_known else "-"


def _format_parked(number: int, seen: Status) -> str:
    """Format a number of parked events."""
    return _format_if(_knows_partitions(seen) and not seen.unread, number)


def format_journal_progress(read: int, of: int) -> str:
    """Format how many events were read, of how many."""
    percent = read * 100 // max(of, 1)
    for size, unit in MANY:
        if of >= size:
            return f"read {read / size:.1f} of {of / size:.1f} {unit}events ({percent}%)"
    return f"read {read:,} of {of:,} events ({percent}%)"
