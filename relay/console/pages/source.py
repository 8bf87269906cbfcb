"""Source: where its senders post, what they sent, and why it refuses."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web

from relay.console.edits.tables import find_foreign_place
from relay.console.pages.configuration.absent import explain_absence
from relay.console.pages.configuration.files import read_view
from relay.console.pages.settings_table import ShownSetting, pick_table, read_settings
from relay.console.relay_view import StatusSnapshot
from relay.console.visit import Visit
from relay.status import diagnose

SENDERS: Final = {
    "currents": (
        "In Braze: Partner Integrations > Data Export (newer: Currents) > Create New Current. The URL is the endpoint.",
        "A token of `tokens` is the bearer token there.",
    ),
    "heap_segments": (
        "In Heap's Developers Hub: register the URL as a Segments Sync webhook.",
        "The secret that Heap shows there goes into `secret`.",
    ),
}
"""Where the URL and the secret go, by type of source."""
OTHER_SENDER: Final = (
    "The sender posts to the URL.",
    "It sends a token of `tokens` in the header Authorization: Bearer TOKEN.",
)


async def show(visit: Visit) -> web.StreamResponse:
    """Show a source."""
    snapshot = await visit.console.relay.read()
    name = visit.request.match_info["name"]
    values = _make_reader(name)(snapshot)
    if snapshot.status is not None and values is None:
        raise await explain_absence(visit, "source", name)
    every, why = await read_settings(visit)
    ingest, settings = pick_table(every, "ingest"), pick_table(every, "source", name)
    given: dict[str, Any] = {"settings": settings, "settings_missing": why, "name": name}
    given["by_hand"] = find_foreign_place(await read_view(visit), "source", name)
    given |= {"urls": list_urls(ingest, settings), "sender": SENDERS.get(_read(settings, "type"), OTHER_SENDER)}
    return visit.show("source.html", snapshot=snapshot, **given, **(values or {"source": None}))


async def follow(visit: Visit) -> web.StreamResponse:
    """Send the state of a source again and again, as long as it is there."""
    return await visit.stream("source_live.html", _make_reader(visit.request.match_info["name"]))


def _make_reader(name: str) -> Callable[[StatusSnapshot], dict[str, Any] | None]:
    """Return what finds a source in a status; it returns None if there is none."""

    def read(snapshot: StatusSnapshot) -> dict[str, Any] | None:
        seen = snapshot.status
        source = None if seen is None else next((one for one in seen.sources if one.source == name), None)
        if seen is None or source is None:
            return None
        said = next(one.said for one in diagnose(seen).sources if one.name == name)
        return {"seen": seen, "source": source, "said": said}

    return read


def list_urls(ingest: Sequence[ShownSetting], source: Sequence[ShownSetting]) -> list[str]:
    """Return the URLs of a source on the addresses that relay listens on; a unix socket has none."""
    scheme = "https" if _read(ingest, "tls.certificate") or _read(ingest, "tls") else "http"
    listen, path = _read(ingest, "listen") or [], _read(source, "path") or ""
    addresses = [listen] if isinstance(listen, str) else listen
    return [f"{scheme}://{one}{path}" for one in addresses if not one.startswith("unix:")]


def _read(settings: Sequence[ShownSetting], name: str) -> Any:
    """Return the value of a setting; None without any."""
    return next((one.plain for one in settings if one.name == name), None)
