"""Catalogue: the event types, which connectors want them, and how many came."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.catalogue import TYPES, Selection, drop_opt_in
from relay.config import format_path
from relay.console.forms.shortest import GROUPS
from relay.console.pages.plugins import LOADING_S
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.inspect import JournalTypes, TypeCount

COUNTING_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class ShownType:
    """An event type. `wanted`: by which connectors."""

    name: str
    channel: str
    status: str
    wanted: list[str]
    count: TypeCount | None


async def show(visit: Visit) -> web.StreamResponse:
    """Show every event type; how many came in the last day too if that is asked for."""
    selections, emitted, missing = await _read_selections(visit)
    found = None
    if visit.request.query.get("count"):
        found = msgspec.convert(await visit.ask("GET", "/journal/types", timeout=COUNTING_S), JournalTypes)
    counts = {one.type: one for one in found.types} if found else {}

    def describe(name: str, channel: str, status: str) -> ShownType:
        wanted = [connector for connector, selection in selections.items() if selection.wants(name)]
        return ShownType(name, channel, status, wanted, counts.get(name))

    groups: dict[str, list[ShownType]] = {said: [] for said in GROUPS.values()}
    for name, one in TYPES.items():
        groups[GROUPS[one.group]].append(describe(name, one.channel, one.status))
    others = sorted(({*counts} | emitted) - {*TYPES})
    groups["Types that are not in the catalogue"] = [describe(name, "-", "unknown") for name in others]
    return visit.show("catalogue.html", groups=groups, found=found, missing=missing)


async def _read_selections(visit: Visit) -> tuple[dict[str, Selection], set[str], str]:
    """Return what each connector wants, the types that plugins make themselves, and why this is unknown; "": it is
    known."""
    seen = (await visit.console.relay.read()).status
    try:
        config, available = await asyncio.gather(
            visit.ask("GET", "/config"), visit.ask("GET", "/types", timeout=LOADING_S)
        )
    except ConsoleRefusal as refusal:
        return {}, set(), refusal.reason
    accepted = {one["type"]: one["accepted_types"] for one in available["types"] if one["kind"] == "connector"}
    emitted = {name for one in available["types"] for name in one["emitted_types"]}
    values: Mapping[str, Any] = {one["key"]: one["value"] for one in config["settings"]}
    found = {}
    for lane in seen.lanes if seen else ():
        entries = values.get(format_path(("connector", lane.connector, "events")))
        if entries is not None:
            found[lane.connector] = Selection(drop_opt_in(entries, accepted.get(lane.type, ())))
    return found, emitted, ""


async def send_counts(visit: Visit) -> web.StreamResponse:
    """Answer with the number of events of each type in the last 24 hours, for the ticks of a form."""
    found = msgspec.convert(await visit.ask("GET", "/journal/types", timeout=COUNTING_S), JournalTypes)
    return web.json_response({one.type: one.events for one in found.types})
