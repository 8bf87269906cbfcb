"""Replays: how far each is, a new one after a page that says how many events it has, and an end for those under way."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.api.internal import check_rate
from relay.console.pages.form_times import read_time
from relay.console.relay_view import StatusSnapshot
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.inspect import USUAL_RATE, ReplayCount
from relay.store import Replay

COUNTING_S: Final = 300.0
"""Seconds that relay may take to count the events of a replay."""


class ReplayPart(msgspec.Struct, frozen=True):
    """The part of a replay in the journal of one worker or partition, as relay takes it."""

    connector: str
    start: int
    stop: int
    events: list[str]
    rate: float
    worker: int


async def show(visit: Visit) -> web.StreamResponse:
    """Show the progress of replays under way, and all replays, the last one first."""
    snapshot = await visit.console.relay.read()
    return visit.show("replays.html", snapshot=snapshot, **await _fetch(visit), **_read_running(snapshot))


async def follow(visit: Visit) -> web.StreamResponse:
    """Send the progress of replays again and again."""
    return await visit.stream("replays_live.html", _read_running, partial(_fetch, visit))


async def _fetch(visit: Visit) -> dict[str, Any]:
    return {"replays": msgspec.convert(await visit.ask("GET", "/replays"), list[Replay])}


def _read_running(snapshot: StatusSnapshot) -> dict[str, Any]:
    return {"running": snapshot.status.replays if snapshot.status else ()}


async def plan(visit: Visit) -> web.StreamResponse:
    """Ask what to replay. With a connector, say how many events these are and how long they take, and ask again."""
    query, seen = visit.request.query, (await visit.console.relay.read()).status
    given = {name: query.get(name, "").strip() for name in ("connector", "since", "until", "events")}
    given["rate"] = query.get("rate", "").strip() or f"{USUAL_RATE:g}"
    names = sorted(lane.connector for lane in seen.lanes) if seen else []
    found: dict[str, Any] = {"wanted": None}
    if given["connector"] and "rate" in query:
        found = await _count(visit, given)
    return visit.show("replay.html", given=given, names=names, **found)


async def _count(visit: Visit, given: Mapping[str, str]) -> dict[str, Any]:
    """Count the events. Raises ConsoleRefusal."""
    entries, rate = given["events"].replace(",", " ").split() or ["*"], _read_rate(given["rate"])
    times = {name: read_time(given[name]) for name in ("since", "until") if given[name]}
    asked = {"connector": given["connector"], "events": entries, **times}
    answer = await visit.ask("POST", "/replays/count", asked, timeout=COUNTING_S)
    counted = msgspec.convert(answer, ReplayCount)
    lowest = counted.find_lowest_rate(rate)
    parts = [
        ReplayPart(given["connector"], one.start, one.stop, entries, share, one.worker)
        for one, share in counted.split_rate(rate)
        if one.wanted
    ]
    return {
        "wanted": counted.wanted,
        "events": counted.events,
        "seconds": counted.wanted / lowest if lowest else None,
        "problems": counted.problems,
        "parts": msgspec.json.encode(parts).decode(),
    }


def _read_rate(text: str) -> float:
    """Return events per second. Raises ConsoleRefusal (400)."""
    with suppress(ValueError):
        return check_rate(float(text))
    raise ConsoleRefusal(400, "a rate is a number of events per second; 0: no limit")


async def start(visit: Visit) -> web.StreamResponse:
    """Request the replay that was counted."""
    try:
        parts = msgspec.json.decode(visit.form.get("parts", ""), type=list[ReplayPart])
    except msgspec.MsgspecError:
        parts = []
    if not parts:
        raise ConsoleRefusal(400, "first open the page that says how many events these are")
    for part in parts:
        await visit.ask("POST", "/replays", part)
    visit.console.relay.forget()
    return visit.go("/replays")


async def cancel(visit: Visit) -> web.StreamResponse:
    """End a replay where it is."""
    number = int(visit.request.match_info["number"])
    if not (await visit.ask("DELETE", f"/replays/{number}"))["cancelled"]:
        raise ConsoleRefusal(409, f"replay {number} is not under way: it has ended, or there is none")
    visit.console.relay.forget()
    return visit.go("/replays")
