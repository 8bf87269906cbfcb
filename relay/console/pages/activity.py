"""Activity: what happened, when, and by whom."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from relay.console.edits.record import Launches
from relay.console.pages.configuration.files import read_view
from relay.console.pages.configuration.launches import describe_state
from relay.console.visit import Visit
from relay.kinds import KINDS
from relay.threads import ADMIN

SHOWN: Final = 200
LAUNCHES: Final = 20
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "relay and its configuration": (
        "started", "stopped", "reloaded", "reload_refused", "config_changed", "refused", "alert_failing",
    ),
    "Connectors": (
        "paused", "resumed", "unauthorized", "refusing", "failing", "broken", "behind", "recovered", "expired",
        "forgotten",
    ),
    "Sources": (
        "source_refusing", "source_incomplete", "source_recovered", "certificate_expiring", "certificate_expired",
        "certificate_renewed",
    ),
    "Parked events and replays": (
        "parked", "parked_replayed", "parked_dropped", "replay_started", "replay_done", "replay_cancelled",
    ),
    "Erasures": ("erasure_requested", "erased", "erasure_failing", "erasure_recovered"),
    "Journal and database": (
        "journal_filling", "journal_full", "journal_recovered", "database_failing", "database_troubled", "damaged",
        "doubt", "accepted", "repaired", "restored", "copied",
    ),
    "Workers and nodes": ("worker_lost", "worker_recovered", "node_lost", "partition_unopened"),
}  # fmt: skip
"""Every kind of entry, by what it is about."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show the newest entries of the history, those of one kind or subject if that is asked for."""
    query = visit.request.query
    chosen = {name: query[name] for name in ("kind", "subject") if query.get(name)}
    if chosen.get("kind") not in KINDS:
        chosen.pop("kind", None)
    entries = await visit.ask("GET", f"/history?{urlencode({**chosen, 'limit': SHOWN})}")
    launches, view = await ADMIN.run(Launches(visit.console.options.state).list_newest), await read_view(visit)
    listed = [(one, describe_state(one, view, launches)) for one in launches[:LAUNCHES]]
    noted = {one.noted: one.number for one in launches if one.noted}
    numbered = [(one, noted.get(one["at"])) for one in entries[::-1]]
    given: dict[str, Any] = {"entries": numbered, "kinds": GROUPS, "chosen": chosen, "most": SHOWN, "launches": listed}
    return visit.show("activity.html", **given)
