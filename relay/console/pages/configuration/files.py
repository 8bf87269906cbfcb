"""Configuration: the tables and files of conf.d, and the text of the console's own files to be changed."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from relay.config import KINDS, Mistake, is_file_name
from relay.console.edits.conf import MARK, ConfView
from relay.console.edits.consider import Considered, consider
from relay.console.edits.draft import Draft
from relay.console.edits.launch import RELOAD_S
from relay.console.edits.secrets import find_new_secrets, hide_plain_secrets, parse
from relay.console.edits.tables import DROP_IN, find_foreign_place
from relay.console.security.refusal import ConsoleRefusal
from relay.console.security.rights import Right
from relay.console.visit import Visit
from relay.threads import ADMIN

TEXT: Final = "text"
NAME: Final = "name"
"""Fields of the form."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show all tables and all files as they are on disk, and which of them relay has not taken."""
    return await _show_all(visit, None)


async def reload(visit: Visit) -> web.StreamResponse:
    """Have relay reload conf.d and the files of secrets, and show what relay says."""
    answer = await visit.ask("POST", "/reload", timeout=RELOAD_S)
    visit.console.relay.forget()
    return await _show_all(visit, answer)


async def _show_all(visit: Visit, reloaded: Mapping[str, Any] | None) -> web.Response:
    """Show everything. `reloaded`: relay's answer to a reload."""
    view = await read_view(visit)
    tables = await ADMIN.run(_list_tables, view)
    try:
        changed, problem = (await visit.ask("GET", "/config"))["changed"], ""
    except ConsoleRefusal as refusal:
        changed, problem = [], refusal.reason
    given = {"view": view, "tables": tables, "changed": changed, "problem": problem, "reloaded": reloaded}
    return visit.show("files.html", status=409 if reloaded and not reloaded["ok"] else 200, **given)


def _list_tables(view: ConfView) -> list[tuple[str, list[tuple[str, dict[str, Any], str | None, bool]]]]:
    """Return the tables of each kind: name, content, place, and whether the console can remove it. Blocking."""

    def describe(kind: str, name: str, table: dict[str, Any]) -> tuple[str, dict[str, Any], str | None, bool]:
        return name, table, view.find_place(kind, name), find_foreign_place(view, kind, name) is None

    return [(kind, [describe(kind, *one) for one in view.list_tables(kind)]) for kind in KINDS]


async def show_one(visit: Visit) -> web.StreamResponse:
    """Show the text of a file, without what looks like a secret."""
    view = await read_view(visit)
    path = visit.request.query.get("path", "")
    file = next((one for one in view.files if str(one.path) == path), None)
    if file is None:
        raise ConsoleRefusal(404, "conf.d has no such file")
    drop_in = "" if "/" in file.name else f"{file.name}.d/{DROP_IN}"
    return visit.show("file.html", file=file, drop_in=drop_in, text=hide_plain_secrets(file.text or ""))


async def edit(visit: Visit) -> web.StreamResponse:
    """Show the text of a file of the console, or an empty text for a new file, to be changed."""
    view = await read_view(visit)
    name = visit.request.query.get(NAME, "")
    is_new = name not in view.texts
    if name and is_new and (not is_file_name(name) or view.find_files(name)):
        raise ConsoleRefusal(404, "the console has no such file of its own")
    return _show_form(visit, name, view.texts.get(name, ""), None, is_new=is_new)


async def change(visit: Visit) -> web.StreamResponse:
    """Check or launch the text of a file."""
    view, form = await read_view(visit), visit.form
    name, text = form.get(NAME, ""), form.get(TEXT, "").replace("\r\n", "\n")
    found = await consider(visit, _make_draft(view, name, text, is_removed=form.get("remove") == "yes"))
    if isinstance(found, web.Response):
        return found
    return _show_form(visit, name, text, found, is_new=name not in view.texts)


async def read_view(visit: Visit) -> ConfView:
    """Return conf.d as it is on disk."""
    return await ADMIN.run(ConfView.read, visit.console.options.folders)


def _make_draft(view: ConfView, name: str, text: str, *, is_removed: bool) -> Draft:
    text = text if text.endswith("\n") else f"{text}\n"
    if view.folders.console is None and not text.startswith(MARK):
        text = f"{MARK}\n{text}"
    mistakes: dict[str, list[str]] = {}
    if not name:
        mistakes[NAME] = ["a file needs a name, such as 60-heap.toml"]
    elif is_removed and name not in view.texts:
        mistakes[NAME] = ["the console has no such file of its own"]
    elif not (is_removed or text.removeprefix(MARK).strip()):
        mistakes[TEXT] = ["the text is empty: to remove the file, tick the box below"]

    def name_field(mistake: Mistake) -> str | None:
        return TEXT if mistake.file in (name, str(view.target / name)) else None if mistake.file else NAME

    files = {} if mistakes else {name: None if is_removed else text}
    about = f"file {name}"
    return Draft(subject=about, view=view, files=files, mistakes=mistakes, name_field=name_field, is_text=True)


def _show_form(visit: Visit, name: str, text: str, found: Considered | None, *, is_new: bool) -> web.Response:
    is_plain = parse(text) is not None and not find_new_secrets(text, None)
    may_see = is_plain and visit.right is not None and visit.right >= Right.CONFIGURE
    shown = text if may_see else hide_plain_secrets(text)  # which also hides in comments
    given: dict[str, Any] = {"name": name, "text": shown, "considered": found, "is_new": is_new}
    return visit.show("file_edit.html", status=found.status if found else 200, **given)
