"""Overview: how relay is, as `relay status` and /health say it, and the rates of the last hour."""

from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from relay.console.relay_view import StatusSnapshot
from relay.console.visit import Visit
from relay.screen import (
    describe_journal,
    describe_process,
    describe_removed,
    list_lane_rows,
    list_node_rows,
    list_remarks,
    list_source_rows,
    list_strangers,
    list_worker_rows,
)
from relay.status import describe_kept, diagnose

PERIOD_S: Final = 300.0
"""Seconds of a row in the table of rates."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show how relay is."""
    snapshot = await visit.console.relay.read()
    rates = visit.console.relay.rates.average(PERIOD_S)
    return visit.show("overview.html", snapshot=snapshot, rates=rates, **_describe(snapshot))


async def follow(visit: Visit) -> web.StreamResponse:
    """Send how relay is, again and again."""
    return await visit.stream("overview_live.html", _describe)


async def send_rates(visit: Visit) -> web.StreamResponse:
    """Answer with the rates of the last hour, for the chart."""
    points = visit.console.relay.rates.points
    return web.json_response(
        [
            [round(one.at) for one in points],
            [round(one.accepted, 1) for one in points],
            [round(one.delivered, 1) for one in points],
        ]
    )


def _describe(snapshot: StatusSnapshot) -> dict[str, Any]:
    seen = snapshot.status
    if seen is None:
        return {"seen": None}
    found = diagnose(seen)
    several = (*found.workers, *found.nodes, *found.sources, found.journal, *found.lanes, *found.erasures)
    pages = {id(one): f"/connectors/{quote(one.name, safe='')}" for one in found.lanes}
    pages |= {id(one): f"/sources/{quote(one.name, safe='')}" for one in found.sources}
    parts = (*several, *found.doubts, *found.alerts, *found.certificates, found.reload)
    elsewhere = {one.said for one in parts} | {describe_removed(one) for one in seen.gone}
    return {
        "seen": seen,
        "is_well": found.ok,
        "process": describe_process(seen),
        "journal": describe_journal(seen),
        "problems": [(one.said, pages.get(id(one), "")) for one in parts if not one.ok],
        "others": [one.said for one in parts if one.ok],
        "remarks": [said for said in list_remarks(seen) if said not in elsewhere],
        "gone": [(one, describe_kept(one)) for one in seen.gone],
        "strangers": list_strangers(seen),
        "tables_shown": [
            ("Sources", list_source_rows(seen), "/sources/"),
            ("Connectors", list_lane_rows(seen), "/connectors/"),
            ("Workers", list_worker_rows(seen), ""),
            ("Nodes", list_node_rows(seen), ""),
        ],
        "quote": quote,
    }
