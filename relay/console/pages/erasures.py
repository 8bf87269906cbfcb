"""Erasures: the receipts, which have no id of a user; a new request; and what is left of a user."""

from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from relay.console.relay_view import StatusSnapshot
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.inspect import Remains
from relay.store import parse_alias

CHECKING_S: Final = 600.0
"""Seconds that relay may take to read the whole journal."""
KINDS: Final = {
    "external_id": "external id (yours)",
    "user_id": "user id (Braze's)",
    "device_id": "device id",
    "email": "e-mail address",
    "alias": "alias, as LABEL:NAME",
}
"""The ids by which a user can be named."""
SEARCHED: Final = ("external_id", "user_id")
"""The ids by which relay finds what is left."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show the receipts of all erasures, the last one first."""
    return await _show(visit)


async def _show(visit: Visit, **more: Any) -> web.StreamResponse:
    snapshot = await visit.console.relay.read()
    known: dict[str, Any] = {"kinds": KINDS, "searched": SEARCHED, "remains": None, "snapshot": snapshot}
    return visit.show("erasures.html", **await _fetch(visit), **known | more)


async def follow(visit: Visit) -> web.StreamResponse:
    """Send the receipts again and again."""

    def read(snapshot: StatusSnapshot) -> dict[str, Any]:
        return {}

    return await visit.stream("erasures_live.html", read, partial(_fetch, visit))


async def _fetch(visit: Visit) -> dict[str, Any]:
    return {"receipts": await visit.ask("GET", "/erasures")}


async def request(visit: Visit) -> web.StreamResponse:
    """Request the erasure of a user whose id was typed twice."""
    kind, name = visit.form.get("kind", ""), visit.form.get("id", "").strip()
    if name != visit.form.get("again", "").strip():
        raise ConsoleRefusal(400, "the two ids differ: nothing was requested")
    await visit.ask("POST", "/erasures", _make_user(kind, name))
    return visit.go("/erasures")


async def check(visit: Visit) -> web.StreamResponse:
    """Say what is left of a user. The id comes in a form, so that no address and no history of a browser has it."""
    kind, name = visit.form.get("kind", ""), visit.form.get("id", "").strip()
    if kind not in SEARCHED:
        raise ConsoleRefusal(400, f"relay looks for a user by: {', '.join(SEARCHED)}")
    answer = await visit.ask("POST", "/erasures/check", _make_user(kind, name), timeout=CHECKING_S)
    return await _show(visit, remains=msgspec.convert(answer, Remains))


def _make_user(kind: str, id: str) -> dict[str, Any]:
    """Return a user as relay takes it. Raises ConsoleRefusal (400)."""
    if kind not in KINDS:
        raise ConsoleRefusal(400, f"there is no such id; ids: {', '.join(KINDS)}")
    if not id:
        raise ConsoleRefusal(400, "type the id of the user")
    if kind == "user_id":
        return {"user_id": id}
    if kind == "external_id":
        return {"external_ids": [id]}
    if kind == "alias":
        try:
            return {"other_ids": [parse_alias(id)]}
        except ValueError:
            raise ConsoleRefusal(400, "an alias is written as LABEL:NAME") from None
    return {"other_ids": [[kind, id]]}
