"""The result as Markdown, as `results.md` has it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cases import Case
from figures import Results, summary
from targets import TARGETS

Summary = Mapping[str, Any]


def render(cases: Sequence[Case], results: Results) -> str:
    """All tables with something measured. Numbers are medians over the rounds; in brackets the best round."""
    summaries = {case: summary(results.runs[case.name]) for case in cases}
    plain = {case: found for case, found in summaries.items() if case.name == f"batch {case.batch}"}
    small = {case: found for case, found in summaries.items() if case.name.endswith(" connections")}
    paced = {case: found for case, found in summaries.items() if case.rate}
    bare = {case.batch: found for case, found in summaries.items() if case.bare and not case.rate}
    tables = [_targets(results), *([_small(small, results)] if small else [])]
    alone = {case: found for case, found in summaries.items() if case.one_cpu}
    tables += [_full(plain), _load(plain, bare)] if plain else []
    tables += [_one_cpu(alone)] if alone else []
    return "\n\n".join([*tables, *([_paced(paced)] if paced else [])])


def _targets(results: Results) -> str:
    rows = []
    for target in TARGETS:
        if (found := target.measured(results)) is not None:
            rows.append((target.label, target.wanted(), target.show(found), target.verdict(results)))
    return _table(("", "target", "measured", ""), rows)


def _small(summaries: Mapping[Case, Summary], results: Results) -> str:
    heads = ("small batches", "requests/s", "CPU µs/event", "in floors, median (min to max)", "ack p50 / p99 ms")
    rows = []
    for case, found in summaries.items():
        ratios = results.ratios(case.name, f"floor, {case.connections} connections")
        shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        requests = f"{found['accepted_per_s']['median'] / case.batch:,.0f}"
        rows.append((case.name, requests, _least(found["cpu_us"]), shown, _pair(found, "ack_p50_ms", "ack_p99_ms")))
    return "CPU per event in relation to a request of a bare aiohttp server, within rounds:\n\n" + _table(heads, rows)


def _full(summaries: Mapping[Case, Summary]) -> str:
    heads = (
        "events per request",
        "accepted/s",
        "delivered/s",
        "CPU µs/event",
        "ack p50 / p99 ms",
        "lost",
        "duplicates",
    )
    rows = [
        (
            f"{case.batch}",
            _most(found["accepted_per_s"]),
            _most(found["delivered_per_s"]),
            _least(found["cpu_us"]),
            _pair(found, "ack_p50_ms", "ack_p99_ms"),
            f"{found['lost']}",
            f"{found['duplicates']}",
        )
        for case, found in summaries.items()
    ]
    return "As fast as it goes, 64 connections:\n\n" + _table(heads, rows)


def _paced(summaries: Mapping[Case, Summary]) -> str:
    heads = ("steady", "ack p50 / p99 ms", "fdatasync p50 / p99 ms", "end to end p50 / p99 ms", "CPU cores", "lost")
    rows = [
        (
            case.name,
            _pair(found, "ack_p50_ms", "ack_p99_ms", ".2f"),
            _pair(found, "disk_p50_ms", "disk_p99_ms", ".2f"),
            "" if case.bare else _pair(found, "end_to_end_p50_ms", "end_to_end_p99_ms"),
            "" if case.bare else f"{found['cores']['median']:.2f}",
            f"{found['lost']}",
        )
        for case, found in summaries.items()
    ]
    return "Each latency from when its request was due:\n\n" + _table(heads, rows)


def _load(plain: Mapping[Case, Summary], bare: Mapping[int, Summary]) -> str:
    heads = (
        "events per request",
        "relay cores",
        "sender cores",
        "destination cores",
        "sender + destination CPU µs/event",
        "share of relay's",
        "events/s without relay",
    )
    rows = []
    for case, found in plain.items():
        both = found["sender_us"]["median"] + found["destination_us"]["median"]
        cores = [f"{found[name]['median']:.2f}" for name in ("cores", "sender_cores", "destination_cores")]
        share = f"{both / found['cpu_us']['median']:.0%}"
        ceiling = _most(bare[case.batch]["accepted_per_s"]) if case.batch in bare else ""
        rows.append((f"{case.batch}", *cores, f"{both:.2f}", share, ceiling))
    return "The load itself is not the limit:\n\n" + _table(heads, rows)


def _one_cpu(summaries: Mapping[Case, Summary]) -> str:
    heads = ("relay on one CPU", "CPU µs/event", "accepted/s", "relay's CPU in use", "CPU of the load in use")
    rows = [
        (
            case.name,
            _least(found["cpu_us"]),
            _most(found["accepted_per_s"]),
            f"{found['cores']['median']:.0%}",
            f"{found['sender_cores']['median'] + found['destination_cores']['median']:.0%}",
        )
        for case, found in summaries.items()
    ]
    return "Two workers that take turns on one CPU cost what they cost on two cores:\n\n" + _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _most(found: Mapping[str, float]) -> str:
    return f"{found['median']:,.0f} ({found['max']:,.0f})"


def _least(found: Mapping[str, float]) -> str:
    return f"{found['median']:.1f} ({found['min']:.1f})"


def _pair(found: Summary, first: str, second: str, form: str = ".1f") -> str:
    return f"{found[first]['median']:{form}} / {found[second]['median']:{form}}"
