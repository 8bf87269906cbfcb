"""Connector: its state, its counts, its past, its settings; pause, resume and forget."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from aiohttp import web

from relay.console.edits.record import Launch
from relay.console.edits.tables import find_foreign_place
from relay.console.forms.ticks import Ticks, fill_ticks
from relay.console.pages.configuration.absent import explain_absence
from relay.console.pages.configuration.files import read_view
from relay.console.pages.configuration.launches import describe_delivery, find_launch
from relay.console.pages.plugins import read_types
from relay.console.pages.settings_table import ShownSetting, pick_table, read_settings
from relay.console.relay_view import StatusSnapshot
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.histogram import Histogram
from relay.status import NOW_S, LaneStatus, RemovedConnector, Status, classify_lane, describe_kept, diagnose
from relay.words import format_span

PAUSES: Final = {"": "until somebody resumes it", "1": "for 1 hour", "8": "for 8 hours", "24": "for 24 hours"}
"""Lengths of a pause in hours."""
SECOND: Final = 1.0
PAST: Final = 10
"""Entries of the history on the page."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show a connector."""
    snapshot = await visit.console.relay.read()
    name = visit.request.match_info["name"]
    launch, past = await _find_launch(visit), await _read_past(visit, name)
    values = _make_reader(name, launch)(snapshot)
    if snapshot.status is not None and values is None:
        raise await explain_absence(visit, "connector", name)
    every, why = await read_settings(visit)
    settings = pick_table(every, "connector", name)
    given: dict[str, Any] = {
        **past,
        "ticks": await _read_ticks(visit, settings),
        "settings": settings,
        "settings_missing": why,
        "by_hand": find_foreign_place(await read_view(visit), "connector", name),
        "pauses": PAUSES,
        "name": name,
        "quote": quote,
    }
    return visit.show("connector.html", snapshot=snapshot, **given, **(values or {"lane": None, "launch": None}))


async def _read_past(visit: Visit, name: str) -> dict[str, Any]:
    """Return what has happened to a connector lately, the newest first, and why that cannot be shown; "" if it can."""
    query = urlencode({"subject": f"connector {name}", "limit": PAST})
    try:
        return {"past": (await visit.ask("GET", f"/history?{query}"))[::-1], "past_missing": ""}
    except ConsoleRefusal as refusal:
        return {"past": [], "past_missing": refusal.reason}


async def _read_ticks(visit: Visit, settings: Sequence[ShownSetting]) -> Ticks | None:
    """Return the selection of a connector as ticks; None if it is not known."""
    values = {one.name: one.plain for one in settings}
    if values.get("events") is None:
        return None
    try:
        types = (visit.console.types or await read_types(visit)).types
    except ConsoleRefusal:
        return None
    of_type = (one.accepted_types for one in types if (one.kind, one.type) == ("connector", values.get("type")))
    return fill_ticks(values["events"], next(of_type, ()))


async def follow(visit: Visit) -> web.StreamResponse:
    """Send the state of a connector again and again, as long as it runs."""
    name = visit.request.match_info["name"]
    return await visit.stream("connector_live.html", _make_reader(name, await _find_launch(visit)))


async def _find_launch(visit: Visit) -> Launch | None:
    """Return the launch that the page follows until the first delivery; None if it was opened without any."""
    launch = await find_launch(visit, visit.request.query.get("launched", ""))
    return launch if launch and launch.connector == visit.request.match_info["name"] else None


def _make_reader(name: str, launch: Launch | None) -> Callable[[StatusSnapshot], dict[str, Any] | None]:
    """Return what finds a connector in a status; it returns None if no such connector runs."""

    def read(snapshot: StatusSnapshot) -> dict[str, Any] | None:
        seen = snapshot.status
        lane = None if seen is None else next((one for one in seen.lanes if one.connector == name), None)
        if seen is None or lane is None:
            return None
        launched = describe_delivery(launch, lane) if launch else ""
        said = next(one.said for one in diagnose(seen).lanes if one.name == name)
        return {
            "seen": seen,
            "lane": lane,
            "said": said,
            "problem": classify_lane(lane, seen.now),
            "rate_period": NOW_S,
            "times": _describe_times(lane),
            "launch": launch,
            "launched": launched,
        }

    return read


def _describe_times(lane: LaneStatus) -> list[tuple[str, str, str]]:
    """Return the rows of the table of times: what, p50, p99."""
    both = (("an attempt", lane.attempt), ("from receipt to delivery", lane.end_to_end))
    return [(what, find_bound(times, 0.5), find_bound(times, 0.99)) for what, times in both]


def find_bound(times: Histogram, share: float) -> str:
    """Return the time within which this share of a histogram lies, as far as its bounds tell."""
    total = sum(times.counts)
    if not total:
        return "-"
    seen = 0
    for bound, count in zip(times.bounds, times.counts, strict=False):
        seen += count
        if seen >= share * total:
            return f"up to {bound * 1000:g} ms" if bound < SECOND else f"up to {format_span(bound)}"
    return f"over {format_span(times.bounds[-1])}"


async def pause(visit: Visit) -> web.StreamResponse:
    """Pause a connector for the chosen time."""
    hours = visit.form.get("hours", "")
    if hours not in PAUSES:
        raise ConsoleRefusal(400, "choose how long the pause lasts")
    until = f"?until={time.time() + int(hours) * 3600!r}" if hours else ""
    return await _act(visit, f"pause{until}")


async def resume(visit: Visit) -> web.StreamResponse:
    """Resume a connector, or make it try again at once."""
    return await _act(visit, "resume")


async def _act(visit: Visit, action: str) -> web.StreamResponse:
    path = quote(visit.request.match_info["name"], safe="")
    await visit.ask("POST", f"/lanes/{path}/{action}")
    visit.console.relay.forget()
    return visit.go(f"/connectors/{path}")


async def ask_to_forget(visit: Visit) -> web.StreamResponse:
    """Say what is lost with a connector that is not configured any more, and ask."""
    name = visit.request.match_info["name"]
    seen, gone = await _find_gone(visit)
    parked = (await visit.ask("POST", "/parked/count", {"connector": name}))["events"]
    failed = sum(one.erasures for one in seen.failing_erasures if one.connector == name)
    return visit.show("forget.html", name=name, quote=quote, kept=describe_kept(gone), parked=parked, failed=failed)


async def forget(visit: Visit) -> web.StreamResponse:
    """Remove what relay keeps of a connector that is not configured any more."""
    await _find_gone(visit)
    await visit.ask("POST", f"/lanes/{quote(visit.request.match_info['name'], safe='')}/forget")
    visit.console.relay.forget()
    return visit.go("/")


async def _find_gone(visit: Visit) -> tuple[Status, RemovedConnector]:
    """Return the status, and the connector in it that is gone. Raises ConsoleRefusal (409)."""
    seen = (await visit.console.relay.read()).status
    gone = [one for one in seen.gone if one.connector == visit.request.match_info["name"]] if seen else []
    if seen is None or not gone:
        raise ConsoleRefusal(409, "relay forgets only connectors that are not configured any more")
    return seen, gone[0]
