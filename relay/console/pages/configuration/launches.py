"""A launch and what came of it; and the launches that take no form: a table off or on or removed, and *undo*."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote

from aiohttp import web

from relay.config import ConfigError
from relay.console.edits.conf import ConfView
from relay.console.edits.consider import consider
from relay.console.edits.diff import compare_files
from relay.console.edits.draft import Draft
from relay.console.edits.record import IN_FORCE, WAITS, Launch, Launches
from relay.console.edits.tables import Files, find_foreign_place, remove_table, switch_table
from relay.console.pages.configuration.files import read_view
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.status import LaneStatus
from relay.threads import ADMIN
from relay.words import format_count

PLURALS: Final = {"source": "sources", "connector": "connectors", "filter": "filters", "alert": "alerts"}
"""What paths of pages begin with, by kind of table."""

CHANGES: Final[dict[str, Callable[[ConfView, str, str], Files]]] = {
    "switch-off": partial(switch_table, enabled=False),
    "switch-on": partial(switch_table, enabled=True),
    "remove": remove_table,
}
"""What can be done to a table without a form, by the last part of the path."""
KEPT: Final = (
    "relay keeps the position of this connector. A connector of this name that comes back goes on there: it also gets"
    " the events that came meanwhile, as far as the journal still has them. Forget, on Overview, ends that."
)
"""What is to be known before a connector is removed or switched off."""


@dataclass(frozen=True, slots=True)
class LaunchState:
    """What is left of a launch."""

    said: str
    is_there: bool
    """Whether its files are still as it has written them."""
    undone_by: int = 0
    """The number of the launch that took it back; 0: none."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show a launch."""
    launch = await find_launch(visit, visit.request.match_info["number"])
    if launch is None:
        raise ConsoleRefusal(404, "the console has no launch of this number any more")
    before = {name: text for name, text in launch.before.items() if text is not None}
    diffs = await ADMIN.run(compare_files, before, launch.after)
    launches = await ADMIN.run(Launches(visit.console.options.state).list_newest)
    view = await read_view(visit)
    state = describe_state(launch, view, launches)
    steps = list_next_steps(launch, view) if state.is_there else []
    return visit.show("launch.html", launch=launch, state=state, diffs=diffs, steps=steps)


def list_next_steps(launch: Launch, view: ConfView) -> list[tuple[str, str]]:
    """Return the pages on which one goes on after a launch, each with what it is for."""
    kind, _, name = launch.subject.partition(" ")
    if kind == "source" and view.get(kind, name) is not None:
        return [(f"/sources/{quote(name, safe='')}#sender", "What to type in at the sender")]
    if kind != "filter" or view.get(kind, name) is None:
        return []
    without = [one for one, table in view.list_tables("connector") if name not in (table.get("filters") or ())]
    return [(f"/connectors/{quote(one, safe='')}/edit", f"Put it before connector {one}") for one in without]


def describe_state(launch: Launch, view: ConfView, launches: Sequence[Launch]) -> LaunchState:
    """Return what is left of a launch. `launches`: all of them, the newest first."""
    texts = view.texts if launch.folder == str(view.target) else {}
    if all(texts.get(name) == text for name, text in launch.after.items()):
        said = {IN_FORCE: "in force", WAITS: "written, but relay had not reloaded"}.get(launch.result, "cut off")
        return LaunchState(said, is_there=True)
    if undo := next((one.number for one in launches if one.undoes == launch.number), 0):
        return LaunchState(f"undone by launch {undo}", is_there=False, undone_by=undo)
    return LaunchState("changed since" if launch.result else "cut off, and changed since", is_there=False)


async def find_launch(visit: Visit, number: str) -> Launch | None:
    """Return a launch; None without any of this number."""
    if not (number.isascii() and number.isdigit()):
        return None
    return await ADMIN.run(Launches(visit.console.options.state).find, int(number))


def describe_delivery(launch: Launch, lane: LaneStatus) -> str:
    """Say what has come of the launch of a connector."""
    if lane.state == "paused":
        by = f" by {lane.paused_by}" if lane.paused_by else ""
        return f"The connector is paused{by}: resume it to deliver ({format_count(lane.pending, 'event')} pending)"
    if (delivered := lane.outcomes.get("delivered", 0) - launch.delivered) > 0:
        return f"Delivered: {format_count(delivered, 'event')} since the launch"
    if lane.last_error and (lane.last_error.at >= launch.at or lane.state != "working"):
        return f"Nothing is delivered yet: {lane.last_error.reason}"
    if lane.state != "working":
        return f"Nothing is delivered yet: the connector is {lane.state}"
    if lane.pending:
        return f"The first delivery is under way: {format_count(lane.pending, 'event')} pending"
    return "No event that it wants has come since the launch"


async def undo(visit: Visit) -> web.StreamResponse:
    """Show what it changes to undo a launch, or undo it."""
    launch = await find_launch(visit, visit.request.match_info["number"])
    if launch is None:
        raise ConsoleRefusal(404, "the console has no launch of this number any more")
    view, mistakes = await read_view(visit), list[str]()
    if launch.folder != str(view.target):
        mistakes = [f"its files are in {launch.folder}, where the console does not write any more"]
    later = [name for name, text in launch.after.items() if view.texts.get(name) != text]
    files = {name: text for name, text in launch.before.items() if view.texts.get(name) != text}
    kind, _, name = launch.subject.partition(" ")
    if kind == "filter" and all(text is None for text in launch.before.values()):
        mistakes += await _find_users(visit, view, name)
    draft = Draft(
        subject=launch.subject,
        view=view,
        files={} if mistakes else files,
        mistakes={"": mistakes} if mistakes else {},
        undoes=launch.number,
    )
    verb = f"Undo launch {launch.number}"
    return await _consider(visit, draft, f"{verb}: {launch.title}", verb, "/activity", later)


async def _find_users(visit: Visit, view: ConfView, name: str) -> list[str]:
    """Say which connectors have a filter, so that its table cannot go, and how each can do without it."""
    launches = await ADMIN.run(Launches(visit.console.options.state).list_newest)
    mistakes = []
    for connector, table in view.list_tables("connector"):
        if not (isinstance(table.get("filters"), list) and name in table["filters"]):
            continue
        there = (one for one in launches if one.subject == f"connector {connector}")
        last = next((one for one in there if describe_state(one, view, launches).is_there), None)
        before = f"undo launch {last.number} first, or " if last and _names(last.after, name) else ""
        mistakes.append(f"still used by connector {connector}: {before}take it out of its filters")
    return mistakes


def _names(files: Files, name: str) -> bool:
    """Return whether files name a filter."""
    return any(f'"{name}"' in (text or "") for text in files.values())


def change_table(kind: str, change: str) -> Callable[[Visit], Awaitable[web.StreamResponse]]:
    """Make the page that shows what it changes to switch or remove a table, and does it."""

    async def handle(visit: Visit) -> web.StreamResponse:
        view, name = await read_view(visit), visit.request.match_info["name"]
        if change == "remove" and (place := find_foreign_place(view, kind, name)):
            raise _explain_foreign(kind, name, place)
        draft, verb = Draft(subject=f"{kind} {name}", view=view), change.replace("-", " ").capitalize()
        try:
            files = await ADMIN.run(CHANGES[change], view, kind, name)
            users = await _find_users(visit, view, name) if (kind, change) == ("filter", "remove") else []
            runs = (kind, change) == ("connector", "switch-on")
            page = f"/connectors/{name}" if runs else ""
            draft = Draft(
                subject=draft.subject, view=view, files={} if users else files, mistakes={"": users} if users else {},
                connector=name if runs else None, done=page,
            )  # fmt: skip
        except LookupError:
            raise ConsoleRefusal(404, f"conf.d has no {kind} of this name") from None
        except ConfigError as error:
            draft = Draft(subject=draft.subject, view=view, mistakes={"": [*map(str, error.mistakes)]})
        has_page = kind in ("connector", "source") and change != "switch-on"
        back = f"/{PLURALS[kind]}/{quote(name, safe='')}" if has_page else "/files"
        note = KEPT if kind == "connector" and change in ("remove", "switch-off") else ""
        return await _consider(visit, draft, f"{verb}: {kind} {name}", verb, back, note=note)

    return handle


def _explain_foreign(kind: str, name: str, place: str) -> ConsoleRefusal:
    """Return the refusal to remove a table of a person, with what can be done instead."""
    reason = f"a person wrote it at {place}, and the console changes its own files alone: remove it there"
    off = [(f"/{PLURALS[kind]}/{quote(name, safe='')}/switch-off", "Switch it off")] if kind != "filter" else []
    return ConsoleRefusal(409, reason, links=off)


async def _consider(
    visit: Visit, draft: Draft, title: str, verb: str, back: str, later: Sequence[str] = (), note: str = ""
) -> web.StreamResponse:
    """Show what a change does. It takes no form: the page that asks for it checks it already.

    `verb`: what the button says that does it. `back`: the page for who leaves it as it is. `note`: what to know before.
    """
    found = await consider(visit, draft)
    if isinstance(found, web.Response):
        return found
    given = {"title": title, "verb": verb, "back": back, "later": later, "note": note}
    return visit.show("change.html", status=found.status, considered=found, **given)
