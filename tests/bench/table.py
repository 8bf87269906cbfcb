"""The result as Markdown, to be read and to be pasted into the README."""

from collections.abc import Mapping, Sequence
from typing import Any

from figures import Case

Summary = Mapping[str, Any]


def render(summaries: Mapping[Case, Summary]) -> str:
    """All tables. Numbers are medians over the rounds; in brackets the best round."""
    full = {case: found for case, found in summaries.items() if not case.bare and not case.rate}
    paced = {case: found for case, found in summaries.items() if case.rate}
    bare = {case: found for case, found in summaries.items() if case.bare}
    return "\n\n".join((_full(full), _paced(paced), _load(full, bare)))


def _full(summaries: Mapping[Case, Summary]) -> str:
    heads = (
        "events per request",
        "accepted/s",
        "delivered/s",
        "CPU µs/event",
        "events/s per core",
        "ack p50 / p99 ms",
        "memory idle / peak MiB",
        "lost",
        "duplicates",
        "503s",
    )
    rows = [
        (
            f"{case.batch}",
            _most(found["accepted_per_s"]),
            _most(found["delivered_per_s"]),
            _least(found["cpu_us"]),
            f"{1e6 / found['cpu_us']['median']:,.0f} ({1e6 / found['cpu_us']['min']:,.0f})",
            _pair(found, "ack_p50_ms", "ack_p99_ms"),
            _pair(found, "idle_mib", "peak_mib", ".0f"),
            f"{found['lost']}",
            f"{found['duplicates']}",
            f"{found['refused']}",
        )
        for case, found in summaries.items()
    ]
    return "As fast as it goes, 64 connections:\n\n" + _table(heads, rows)


def _paced(summaries: Mapping[Case, Summary]) -> str:
    heads = ("events/s sent", "per request", "ack p50 / p99 ms", "end to end p50 / p99 ms", "CPU cores", "lost")
    rows = [
        (
            f"{case.rate:,}",
            f"{case.batch}",
            _pair(found, "ack_p50_ms", "ack_p99_ms"),
            _pair(found, "end_to_end_p50_ms", "end_to_end_p99_ms"),
            f"{found['cores']['median']:.2f}",
            f"{found['lost']}",
        )
        for case, found in summaries.items()
    ]
    return "At a steady pace, each latency from when its request was due:\n\n" + _table(heads, rows)


def _load(full: Mapping[Case, Summary], bare: Mapping[Case, Summary]) -> str:
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
    for case, found in full.items():
        both = found["sender_us"]["median"] + found["destination_us"]["median"]
        cores = [f"{found[name]['median']:.2f}" for name in ("cores", "sender_cores", "destination_cores")]
        share = f"{both / found['cpu_us']['median']:.0%}"
        ceiling = bare[Case(case.batch, bare=True)]["accepted_per_s"]
        rows.append((f"{case.batch}", *cores, f"{both:.2f}", share, _most(ceiling)))
    return "The load itself is not the limit:\n\n" + _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _most(found: Mapping[str, float]) -> str:
    return f"{found['median']:,.0f} ({found['max']:,.0f})"


def _least(found: Mapping[str, float]) -> str:
    return f"{found['median']:.1f} ({found['min']:.1f})"


def _pair(found: Summary, first: str, second: str, form: str = ".1f") -> str:
    return f"{found[first]['median']:{form}} / {found[second]['median']:{form}}"
