"""Parked: the newest parked events and their groups, one event, and the page before a replay or a removal."""

import re
import time
from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from aiohttp import web

from relay.console.pages.form_times import LATEST, read_time, write_time
from relay.console.security.refusal import ConsoleRefusal
from relay.console.security.rights import Right
from relay.console.visit import Visit
from relay.store import CAUSES, Parked, ParkedGroup, sum_groups
from relay.words import format_count

SHOWN: Final = 50
"""Events on a page."""
GROUPS_SHOWN: Final = 20
CONTENT_BYTES: Final = 64 << 10
"""Bytes of content on a page; the download has the whole content."""
ACTING_S: Final = 600.0
"""Seconds that relay may take to mark or remove events."""
CONDITIONS: Final = ("connector", "source", "cause", "type", "reason", "since", "until")
NO_TYPE: Final = "-"
"""What the type of an event is called whose type is not known."""
UNREADABLE: Final = "unreadable"
"""The cause of entries that were unreadable at their source."""
WHY_NOT: Final = "what is unreadable at its source is no event that a connector can get"
ACTS: Final = {"replay": "Replay", "drop": "Drop"}
NUMBER: Final = re.compile(r"\d{1,18}")
LONGEST_LINK: Final = 4000
LINES: Final = msgspec.json.Decoder(Parked)


async def show(visit: Visit) -> web.StreamResponse:
    """Show groups of parked events, and the newest events, those of a filter if that is asked for."""
    query = visit.request.query
    given = {name: query[name] for name in CONDITIONS if query.get(name)}
    which, after = read_conditions(visit, given), query.get("after", "")
    if after and not NUMBER.fullmatch(after):
        raise ConsoleRefusal(400, "after takes the number of a parked event")
    answer = await visit.ask("GET", f"/parked/groups?{urlencode(which)}")
    groups = msgspec.convert(answer["groups"], list[ParkedGroup])
    page = {"order": "newest", "bodies": "false", "limit": SHOWN + 1} | ({"after": after} if after else {})
    events = await _read_parked(visit, which | page)
    older = urlencode(given | {"after": events[SHOWN - 1].number}) if len(events) > SHOWN else ""
    done = {name: int(query[name]) for name in ACTS if NUMBER.fullmatch(query.get(name, ""))}
    listed: dict[str, Any] = {"number": answer["events"], "events": events[:SHOWN], "older": older, "after": after}
    listed |= {"groups": _link_groups(visit, groups, given)[:GROUPS_SHOWN], "more": len(groups) > GROUPS_SHOWN}
    times = {name: write_time(which[name]) for name in ("since", "until") if name in which}
    listed |= {"acts": _find_acts(groups), "acts_of_ticked": _find_acts(events), "why": WHY_NOT}
    return visit.show("parked.html", given=given | times, which=urlencode(given), causes=CAUSES, done=done, **listed)


def _find_acts(found: Sequence[Parked] | Sequence[ParkedGroup]) -> Mapping[str, str]:
    """Return what can be done with parked events: unreadable ones cannot be replayed."""
    can_replay = any(one.cause != UNREADABLE for one in found)
    return {act: said for act, said in ACTS.items() if can_replay or act != "replay"}


async def show_one(visit: Visit) -> web.StreamResponse:
    """Show a parked event; its content too if the user may see content."""
    one = await _read_one(visit, bodies=visit.right is not None and visit.right >= Right.STEER)
    is_cut = len(one.body) > CONTENT_BYTES
    decoder = getincrementaldecoder("utf-8")("backslashreplace")
    text = decoder.decode(one.body[:CONTENT_BYTES], final=not is_cut)
    return visit.show(
        "parked_event.html", one=one, text=text, is_cut=is_cut, most=CONTENT_BYTES, acts=_find_acts([one]), why=WHY_NOT
    )


async def download(visit: Visit) -> web.StreamResponse:
    """Answer with the whole content of a parked event as a file."""
    one = await _read_one(visit, bodies=True)
    headers = {"Content-Disposition": f'attachment; filename="parked-{one.number}.json"'}
    return web.Response(body=one.body, content_type="application/octet-stream", headers=headers)


async def confirm(visit: Visit) -> web.StreamResponse:
    """Say how many events a replay or removal is about, and ask for it."""
    query = visit.request.query
    act, ticked = query.get("act", ""), query.getall("number", [])
    if act not in ACTS or not (ticked or "which" in query):
        raise ConsoleRefusal(400, "tick the events, and choose what to do with them")
    form: dict[str, str]
    given: dict[str, str] = {}
    if ticked:
        which: dict[str, Any] = {"numbers": read_numbers(ticked)}
        form = {"numbers": ",".join(ticked)}
    else:
        given = dict(parse_qsl(query["which"]))
        until = min(read_conditions(visit, given).get("until", LATEST), time.time())  # what comes later is not counted
        given["until"] = repr(until)
        which, form = read_conditions(visit, given), {"which": urlencode(given)}
    events = await _count(visit, which)
    if not events:
        raise ConsoleRefusal(409, "none of these events is parked any more")
    unreadable = await _count(visit, {**which, "cause": UNREADABLE}) if act == "replay" and _may_have(which) else 0
    if events == unreadable:
        raise ConsoleRefusal(409, f"{format_count(events, 'parked event')} cannot be replayed: {WHY_NOT}")
    shown = {name: value for name, value in given.items() if name not in ("since", "until")}
    times = {name: which[name] for name in ("since", "until") if name in which}
    numbers: dict[str, Any] = {"number": events - unreadable, "unreadable": unreadable, "why": WHY_NOT}
    return visit.show("parked_confirm.html", act=act, form=form, shown=shown, times=times, **numbers)


def _may_have(which: Mapping[str, Any]) -> bool:
    """Return whether unreadable entries can match conditions."""
    return bool(which.get("cause", UNREADABLE) == UNREADABLE)


async def _count(visit: Visit, which: Mapping[str, Any]) -> int:
    events: int = (await visit.ask("POST", "/parked/count", which))["events"]
    return events


async def replay(visit: Visit) -> web.StreamResponse:
    """Deliver the chosen events once more."""
    return await _act(visit, "replay")


async def drop(visit: Visit) -> web.StreamResponse:
    """Remove the chosen events for good."""
    return await _act(visit, "drop")


async def _act(visit: Visit, act: str) -> web.StreamResponse:
    form = visit.form
    if "numbers" in form:
        which: dict[str, Any] = {"numbers": read_numbers(form["numbers"].split(","))}
    else:
        which = read_conditions(visit, dict(parse_qsl(form.get("which", ""))))
        if "until" not in which:
            raise ConsoleRefusal(400, "first open the page that says how many events these are")
    done = await visit.ask("POST", f"/parked/{act}", which, timeout=ACTING_S)
    visit.console.relay.forget()
    return visit.go(f"/parked?{urlencode({act: done['events']})}")


def read_conditions(visit: Visit, given: Mapping[str, str]) -> dict[str, Any]:
    """Return conditions as relay takes them. Raises ConsoleRefusal (400), or (403) for a reason without the right."""
    if given.keys() - {*CONDITIONS}:
        raise ConsoleRefusal(400, f"there is no such condition; conditions: {', '.join(CONDITIONS)}")
    which: dict[str, Any] = {**given}
    if given.get("cause", CAUSES[0]) not in CAUSES:
        raise ConsoleRefusal(400, f"there is no such cause; causes: {', '.join(CAUSES)}")
    if "reason" in given and (visit.right is None or visit.right < Right.STEER):
        raise ConsoleRefusal(403, f"a reason may quote an event: this takes the right to {Right.STEER}")
    if given.get("type") == NO_TYPE:
        which["type"] = ""
    return which | {name: read_time(given[name]) for name in ("since", "until") if name in given}


def read_numbers(texts: Sequence[str]) -> list[int]:
    """Return the numbers of parked events. Raises ConsoleRefusal (400)."""
    if not all(map(NUMBER.fullmatch, texts)):
        raise ConsoleRefusal(400, "these are no numbers of parked events")
    return [*map(int, texts)]


async def _read_parked(visit: Visit, query: Mapping[str, Any]) -> list[Parked]:
    return LINES.decode_lines(await visit.read("GET", f"/parked?{urlencode(query)}"))


async def _read_one(visit: Visit, *, bodies: bool) -> Parked:
    """Return the parked event of the path. Raises ConsoleRefusal (404)."""
    number = int(visit.request.match_info["number"])
    found = await _read_parked(visit, {"number": number, "bodies": str(bodies).lower()})
    if not found:
        raise ConsoleRefusal(
            404, f"no parked event has the number {number}: it was delivered or removed, or never came"
        )
    return found[0]


def _link_groups(
    visit: Visit, groups: Sequence[ParkedGroup], given: Mapping[str, str]
) -> list[tuple[ParkedGroup, str]]:
    """Return the groups, each with the query of its events; "": the query is too long for a link.

    Users who may not see content get groups without reasons, which may quote an event.
    """
    if visit.right is None or visit.right < Right.STEER:
        hidden = ((g.connector, g.source, g.cause, g.type, "", g.events, g.first, g.last) for g in groups)
        groups = sum_groups(hidden)
    found = []
    for one in groups:
        same = {"connector": one.connector, "source": one.source, "cause": one.cause, "reason": one.reason}
        link = urlencode(
            {**given, **{name: value for name, value in same.items() if value}, "type": one.type or NO_TYPE}
        )
        found.append((one, link if len(link) < LONGEST_LINK else ""))
    return found
