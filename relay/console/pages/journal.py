"""Journal: how full it is, and its segments and balances on demand, with the progress of the reading."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
from aiohttp import web
from markupsafe import Markup

from relay.client import ClientError
from relay.console.relay_stream import open_answer
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.inspect import PROBLEM, PROGRESS, Audit, Check, JournalTypes
from relay.screen import describe_journal, format_journal_progress
from relay.store import CheckedPart
from relay.words import format_ranges, format_size, format_time

READING_S: Final = 600.0
"""Seconds that relay may take to read the whole journal."""
STEP: Final = 5
"""Percent between two lines about the progress."""
READINGS: Final = {"check": "/journal?progress=true", "audit": "/audit?progress=true", "types": "/journal/types"}
"""What is read on demand, and where relay answers it."""
TYPES_S: Final = 7 * 86400
"""Seconds back for which the types are counted by day."""
RESULT: Final = Markup("<!-- what relay finds -->")
"""Stands in the page for what comes later."""
SEGMENT: Final = ("segment", "offsets", "events", "size", "time of first", "time of last", "state")


async def show(visit: Visit) -> web.StreamResponse:
    """Show the journal; then, if that is asked for, how far the reading is, and what it finds."""
    snapshot, wanted = await visit.console.relay.read(), visit.request.query.get("read", "")
    if wanted and wanted not in READINGS:
        raise ConsoleRefusal(400, "the journal can be read for a check, an audit or its types")
    seen = snapshot.status
    said = describe_journal(seen) if seen else ""
    page = visit.render("journal.html", snapshot=snapshot, seen=seen, said=said, result=RESULT)
    before, _, after = page.partition(RESULT)
    response = web.StreamResponse(headers={"Content-Type": "text/html; charset=utf-8", "X-Accel-Buffering": "no"})
    await response.prepare(visit.request)
    await response.write(before.encode())
    if wanted:
        async with aclosing(_read(visit, wanted)) as parts:
            async for part in parts:
                await response.write(part.encode())
    await response.write(after.encode())
    await response.write_eof()
    return response


async def _read(visit: Visit, wanted: str) -> AsyncGenerator[str, None]:
    """Yield how far the reading is, and then what it finds. It ends when the browser leaves."""
    answer, next_percent = b"", 0
    problem = ""
    yield '<p role="status">'
    try:
        target = READINGS[wanted] + (f"?since={time.time() - TYPES_S:.0f}" if wanted == "types" else "")
        async with (
            asyncio.timeout(READING_S),
            open_answer(visit.console.options.state, visit.user, "GET", target) as lines,
        ):
            async for line in lines:
                if visit.request.transport is None:
                    return
                if not line.startswith(PROGRESS):
                    answer += line
                elif (told := msgspec.json.decode(line))["read"] * 100 >= next_percent * told["of"]:
                    next_percent = told["read"] * 100 // max(told["of"], 1) + STEP
                    yield f"relay has {format_journal_progress(told['read'], told['of'])}. "
    except (ClientError, TimeoutError) as error:
        problem = str(error) or f"relay has not read the journal within {READING_S:g} s"
    yield "</p>"
    if answer.startswith(PROBLEM):
        problem = msgspec.json.decode(answer)["problem"]
    found: dict[str, Any] = {"problem": problem, "check": None, "audit": None, "types": None}
    if not problem:
        found |= _describe(wanted, answer)
    yield visit.render("journal_result.html", **found)


def _describe(wanted: str, answer: bytes) -> dict[str, Any]:
    """Return what the page shows of an answer."""
    if wanted == "types":
        types = msgspec.json.decode(answer, type=JournalTypes)
        days = sorted({day for one in types.types for day in one.days}, reverse=True)
        return {"types": types, "days": days}
    if wanted == "audit":
        audit = msgspec.json.decode(answer, type=Audit)
        return {"audit": audit, "rows": _list_counts(audit)}
    check = msgspec.json.decode(answer, type=Check)
    return {"check": check, "tables_shown": [(one, _list_rows(one.segments)) for one in check.workers]}


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
