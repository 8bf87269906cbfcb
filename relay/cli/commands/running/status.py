"""`relay status`: how relay is, on one screen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from relay.api.internal import cut
from relay.cli.client import require_running
from relay.cli.format import escape_text, format_size, format_table, format_time
from relay.cli.options import relay_options
from relay.status import (
    LaneStatus,
    ListenerStatus,
    SourceStatus,
    Status,
    WorkerStatus,
    classify_certificate,
    describe_full_in,
    diagnose,
    is_slow,
    is_well,
)
from relay.words import format_count, format_span

CAUSES: Final = {"malformed": "that failed in TLS or spoke no HTTP"}
"""What is not called by its name."""
UNKNOWN_NAMED: Final = 10
"""Event types of a source that are named; all are with --json."""


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quiet", is_flag=True, help="Print nothing if all is well, else only what is wrong.")
@relay_options
def status(state: Path, as_json: bool, quiet: bool) -> None:
    """Show on one screen how the running relay is.

    It shows sources, journal and connectors. Below the figures, sentences say what needs a look. Parked events alone
    are no failure.

    Exit codes: 0 all well; 1 something needs a look, or no relay runs.
    """
    answer = require_running(state).read("GET", "/status")
    seen = msgspec.json.decode(answer, type=Status)
    ok = diagnose(seen).ok
    if not (quiet and ok):
        lines = [*_list_problems(seen)] if quiet else format_screen(seen)
        click.echo(msgspec.json.format(answer).decode() if as_json else "\n".join(lines))
    raise SystemExit(0 if ok else 1)


def format_screen(seen: Status) -> list[str]:
    """Format the whole status for people."""
    return [*format_overview(seen), *list_remarks(seen)]


def format_overview(seen: Status) -> list[str]:
    """Format the figures, most of them in tables."""
    rate = sum(source.rate for source in seen.sources)
    used = seen.cpu / max(1.0, seen.now - seen.started)
    return [
        (
            f"relay {seen.version}, up {format_span(seen.now - seen.started)}; {rate:,.0f} events/s;"
            f" {format_size(seen.memory)} of memory, {used:.0%} of a CPU on average"
        ),
        _format_journal(seen),
        "",
        *_format_workers(seen),
        *_format_sources(seen),
        "",
        *_format_lanes(seen),
    ]


def list_remarks(seen: Status) -> list[str]:
    """Return sentences on everything else, after an empty line; nothing without any."""
    found = [
        *(
            f"replay {one.number} to {one.connector}: {one.settled:,} of {one.events:,} events, {one.rate:,.0f}/s"
            for one in seen.replays
        ),
        *_list_removed(seen),
        *_restart(seen),
        *_list_unknown_types(seen),
        *_list_problems(seen),
    ]
    return ["", *found] if found else []


def _format_journal(seen: Status) -> str:
    journal = seen.journal
    needed = f"{format_size(journal.needed)} still needed (whole segments)"
    held = f"{needed} of {format_size(journal.capacity)} ({journal.fill:.0%})"
    if journal.needed >= journal.capacity:  # a full disk
        held = f"{needed}, no room for more events"
    kept = format_count(journal.head - journal.oldest, "event")
    return f"journal: {format_size(journal.size)}, {held}, {kept} kept{describe_full_in(journal)}"


def _format_workers(seen: Status) -> list[str]:
    header = ["worker", "up", "memory", "journal", "needed"]
    return (
        [*format_table([header, *(_make_worker_row(one, seen.now) for one in seen.workers)]), ""]
        if seen.workers
        else []
    )


def _make_worker_row(one: WorkerStatus, now: float) -> list[str]:
    if one.started is None or one.journal is None:
        return [str(one.worker), "away", "-", "-", "-"]
    up = "away" if one.away else format_span(now - one.started)
    return [str(one.worker), up, format_size(one.memory), format_size(one.journal.size), f"{one.journal.fill:.0%}"]


def _format_sources(seen: Status) -> list[str]:
    header = ["source, since start", "events accepted", "rate/s", "requests refused", "unreadable", "last event"]
    header += ["duplicates ever", "parked now"]
    lines = format_table([header, *(_make_source_row(one, seen.now) for one in seen.sources)])
    if seen.strays:
        lines.append(f"{format_count(seen.strays, 'request')} to paths that no source has (request refused in the log)")
    if seen.dropped_log_lines:
        lines.append(f"{format_count(seen.dropped_log_lines, 'log line')} dropped: what reads standard error stalls")
    lines += [line for name, one in seen.listeners.items() for line in _format_refused(name, one)]
    return lines


def _format_refused(name: str, one: ListenerStatus) -> Iterator[str]:
    if total := sum(one.refused.values()):
        causes = ", ".join(f"{number:,} {CAUSES.get(cause, cause)}" for cause, number in one.refused.items() if number)
        refused = f"{format_count(total, 'connection')} refused or closed without a request"
        more = (
            " (the log may have more)" if total > one.refused.get("malformed", 0) else ""
        )  # of TLS the log has nothing
        yield f"{name}: {refused}: {causes}{more}"


def _make_source_row(one: SourceStatus, now: float) -> list[str]:
    counts = [f"{one.accepted:,}", f"{one.rate:,.0f}", f"{one.refused:,}", f"{one.unreadable:,}"]
    last = "-" if one.last is None else f"{format_span(now - one.last)} ago"
    return [one.source, *counts, last, f"{one.duplicates:,}", f"{one.parked_now:,}"]


def _format_lanes(seen: Status) -> list[str]:
    header = ["connector", "state", "pending", "oldest", "rate/s", "drained in", "parked", "last error"]
    return format_table([header, *(_make_lane_row(one, seen.now) for one in seen.lanes)])


def _make_lane_row(one: LaneStatus, now: float) -> list[str]:
    oldest = "-" if one.oldest_pending is None else format_span(now - one.oldest_pending)
    stands = not one.pending or one.state in ("paused", "unauthorized") or is_slow(one)
    grows = "-" if is_well(one, now) or one.state != "working" else "never"
    drained = "-" if stands else grows if one.drained_in is None else format_span(one.drained_in)
    rate = 0.0 if one.state == "refusing" else one.rate  # what is parked is not delivered
    error = one.last_error
    last = "-" if error is None else f"{error.status or cut(escape_text(error.reason), 40)} at {format_time(error.at)}"
    counts = [f"{one.pending:,}", oldest, f"{rate:,.0f}", drained, f"{one.parked_now:,}"]
    return [one.connector, one.state, *counts, last]


def _list_removed(seen: Status) -> Iterator[str]:
    for one in seen.gone:
        if one.pending:
            kept = f"{format_count(one.pending, 'pending event')} kept for journal.retention in case it is added back"
            why = "switched off (enabled = false)" if one.disabled else "not configured any more"
            yield f"{one.connector}: {why}; {kept} (relay forget {one.connector} lets go of it)"


def _restart(seen: Status) -> Iterator[str]:
    if seen.restart:
        yield f"a restart is needed for: {', '.join(seen.restart)}"


def _list_unknown_types(seen: Status) -> Iterator[str]:
    """Yield a sentence per source on its unknown event types, UNKNOWN_NAMED of them by name."""
    for one in seen.sources:
        if types := [escape_text(name) for name in one.unknown_types]:
            more = f" and {len(types) - UNKNOWN_NAMED} more" if len(types) > UNKNOWN_NAMED else ""
            named = ", ".join(types[:UNKNOWN_NAMED]) + more
            yield f"{one.source}: {format_count(len(types), 'event type')} not in relay's catalogue: {named}"


def _list_problems(seen: Status) -> Iterator[str]:
    """Yield a sentence for each problem, for parked events, and for each notice of a plugin."""
    found = diagnose(seen)
    each = (*found.workers, *found.sources, found.journal, *found.lanes)
    speaking = {one.source for one in seen.sources if one.notice}
    speaking |= {one.connector for one in seen.lanes if one.notice or is_slow(one)}
    yield from (escape_text(one.said) for one in each if not one.ok or one.parked or one.name in speaking)
    yield from (escape_text(one.said) for one in (*found.erasures, *found.doubts))
    yield from (escape_text(one.said) for one in (*found.alerts, found.reload) if not one.ok)
    wrong = [classify_certificate(one, seen.now) for one in seen.certificates]
    yield from (escape_text(one.said) for one, kind in zip(found.certificates, wrong, strict=True) if kind)
