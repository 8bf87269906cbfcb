"""Journal: how full it is, and its segments and balances on demand."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.inspect import Audit, Check
from relay.screen import describe_journal
from relay.store import CheckedPart
from relay.words import format_ranges, format_size, format_time

READING_S: Final = 600.0
"""Seconds that relay may take to read the whole journal."""
SEGMENT: Final = ("segment", "offsets", "events", "size", "time of first", "time of last", "state")


async def show(visit: Visit) -> web.StreamResponse:
    """Show the journal; what a check or an audit finds too if that is asked for."""
    snapshot, wanted = await visit.console.relay.read(), visit.request.query.get("read", "")
    found: dict[str, Any] = {"check": None, "audit": None}
    if wanted == "check":
        check = msgspec.convert(await visit.ask("GET", "/journal", timeout=READING_S), Check)
        found |= {"check": check, "tables_shown": [(one, _list_rows(one.segments)) for one in check.workers]}
    elif wanted == "audit":
        audit = msgspec.convert(await visit.ask("GET", "/audit", timeout=READING_S), Audit)
        found |= {"audit": audit, "rows": _list_counts(audit)}
    elif wanted:
        raise ConsoleRefusal(400, "the journal can be read for a check or an audit")
    seen = snapshot.status
    said = describe_journal(seen) if seen else ""
    return visit.show("journal.html", snapshot=snapshot, seen=seen, said=said, wanted=wanted, **found)


def _list_rows(segments: Sequence[CheckedPart]) -> list[Sequence[str]]:
    return [SEGMENT, *map(_make_row, segments)]


def _make_row(one: CheckedPart) -> list[str]:
    offsets = format_ranges([(one.base, one.end)]) if one.events else f"from {one.base} on"
    times = [format_time(at) if at is not None else "-" for at in (one.first, one.last)]
    return [one.path.rpartition("/")[2], offsets, f"{one.events:,}", format_size(one.used), *times, one.said]


def _list_counts(audit: Audit) -> list[Sequence[str]]:
    plain = [msgspec.structs.asdict(row) for row in audit.connectors]
    words = {True: "yes", False: "NO"}
    rows = [[words[one] if isinstance(one, bool) else str(one) for one in row.values()] for row in plain]
    return [[*plain[0]], *rows] if plain else []
