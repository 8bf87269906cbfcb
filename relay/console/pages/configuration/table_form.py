"""The form of a table: a new table of a type, or a table that is there, to be changed or copied."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import web

from relay.config import ConfigError, KeyPath, Mistake, format_path
from relay.console.edits.conf import ConfView
from relay.console.edits.consider import Considered, consider
from relay.console.edits.draft import Draft
from relay.console.edits.permission import find_bar
from relay.console.edits.secrets import find_plain_secrets, keep, name_folder
from relay.console.edits.tables import Files, put_table
from relay.console.forms.fields import NOT_SET, PREFIX, Field, flatten, make_fields
from relay.console.forms.ticks import TEXT, Ticks, is_unticked, put_ticks, show_ticks
from relay.console.forms.values import Inputs, find_pasted, is_part, read_form, refer_to_file, show_again, show_form
from relay.console.pages.configuration.files import read_view
from relay.console.pages.configuration.launches import PLURALS
from relay.console.pages.plugins import read_types
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.proposal import AvailableType
from relay.threads import ADMIN

NAME: Final = "name"
"""The input with the name of a new table."""
EVENTS: Final = f"{PREFIX}.events"
"""The field with the selection of a connector."""
UNTICKED: Final = "nothing is ticked: tick All events, or those that the connector should get"
RESERVED: Final = "new"
"""A name that the path of a page has already."""
UNNAMED: Final = "the secret is not stored while the name is wrong: mend the name, and paste the secret again"
STAND_IN: Final = "no-name-yet"
"""The name of a table whose name is wrong, while relay looks for other mistakes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableForm:
    """A form, with conf.d as it is. `before`: the table that it began with; empty for a new one."""

    kind: str
    name: str
    """The name of the table that changes; "": the form has a field for the name."""
    type: str
    about: AvailableType | None
    """The type; None: relay knows no such type now."""
    before: Mapping[str, Any]
    view: ConfView
    fields: Sequence[Field]

    @property
    def accepted_types(self) -> Sequence[str]:
        """The event types that a connector of this type can use; empty: all."""
        return self.about.accepted_types if self.about else ()

    def name_field(self, mistake: Mistake, name: str) -> str | None:
        """Return the name of the field that a mistake about a table of this name belongs to; None without any."""
        key, about = format_path((self.kind, name)), mistake.about or mistake.key
        if about == key:
            return NAME if not self.name else None
        return self._find_field(about.removeprefix(f"{key}.")) if about.startswith(f"{key}.") else None

    def _find_field(self, key: str) -> str | None:
        """Return the field of a key within the table, or of the nearest key above it; else the one for all others."""
        if key == "type":
            return None
        paths = {format_path(one.path): one.name for one in flatten(self.fields) if one.path}
        above = [path for path in paths if key == path or key.startswith((f"{path}.", f"{path}["))]
        return paths[max(above, key=len)] if above else PREFIX

    def list_known(self) -> Mapping[KeyPath, Any]:
        """Return the keys that the form manages, with their defaults; None without a default."""
        known: dict[KeyPath, Any] = {(key,): None for key in ("type", *self.before)}
        fields = [one for one in flatten(self.fields) if one.path]
        return known | {one.path: None if one.default is NOT_SET else one.default for one in fields}

    def find_secrets(self, values: Mapping[str, Any]) -> set[str]:
        """Return the fields with a secret in plain text that the table did not have before."""
        old = {(path, value) for path, value, _ in find_plain_secrets(self.before)}
        new = {path for path, value, _ in find_plain_secrets(values) if (path, value) not in old}
        return {name for path in new if (name := self._find_field(format_path(path)))}


async def show_new(kind: str, visit: Visit) -> web.StreamResponse:
    """Show the types of a kind, or the empty form of one."""
    if "type" in visit.request.query:
        return await _show(visit, await _open_new(visit, kind, visit.request.query["type"]))
    found = await read_types(visit)
    types = [one for one in found.types if one.kind == kind]
    return visit.show("new_table.html", kind=kind, plural=PLURALS[kind], types=types)


async def add(kind: str, visit: Visit) -> web.StreamResponse:
    """Check or launch a new table."""
    return await _change(visit, await _open_new(visit, kind, visit.form.get("type", "")))


async def show_copy(kind: str, visit: Visit) -> web.StreamResponse:
    """Show the form of a new table with the values of another one."""
    return await _show(visit, await _open(visit, kind, is_copy=True))


async def add_copy(kind: str, visit: Visit) -> web.StreamResponse:
    """Check or launch a new table that began as a copy."""
    return await _change(visit, await _open(visit, kind, is_copy=True))


async def edit(kind: str, visit: Visit) -> web.StreamResponse:
    """Show the form of a table."""
    return await _show(visit, await _open(visit, kind))


async def change(kind: str, visit: Visit) -> web.StreamResponse:
    """Check or launch a table as its form says."""
    return await _change(visit, await _open(visit, kind))


async def _open_new(visit: Visit, kind: str, type: str) -> TableForm:
    """Return the form of a new table. Raises ConsoleRefusal for an unknown type."""
    about = await _find_type(visit, kind, type)
    if about is None:
        raise ConsoleRefusal(404, f"relay knows no such type of {kind}")
    fields = make_fields(kind, about.schema)
    return TableForm(
        kind=kind, name="", type=type, about=about, before={}, view=await read_view(visit), fields=fields
    )  # fmt: skip


async def _open(visit: Visit, kind: str, *, is_copy: bool = False) -> TableForm:
    """Return the form of a table of conf.d. Raises ConsoleRefusal if there is no such table."""
    view, name = await read_view(visit), visit.request.match_info["name"]
    if (table := view.get(kind, name)) is None:
        raise ConsoleRefusal(404, f"conf.d has no {kind} of this name")
    is_typed = isinstance(named := table.get("type"), str)
    about = await _find_type(visit, kind, named)
    before = {key: value for key, value in table.items() if not (is_typed and key == "type")}
    fields = make_fields(kind, about.schema if about else None)
    return TableForm(
        kind=kind, name="" if is_copy else name, type=str(named) if is_typed else "", about=about,
        before=before, view=view, fields=fields,
    )  # fmt: skip


async def _find_type(visit: Visit, kind: str, type: object) -> AvailableType | None:
    """Return a type. A form that is posted has the fields that it was shown with."""
    known = visit.console.types if visit.request.method == "POST" else None
    for found in (known, None):
        types = (found or await read_types(visit)).types
        if about := next((one for one in types if (one.kind, one.type) == (kind, type)), None):
            return about
    return None


async def _change(visit: Visit, form: TableForm) -> web.StreamResponse:
    name = form.name or visit.form.get(NAME, "").strip()
    _, wrong = await ADMIN.run(_try_files, form, name, {})
    posted, flaws = await _keep_secrets(visit, form, name, is_named=NAME not in wrong)
    posted = await ADMIN.run(put_ticks, posted, EVENTS, form.accepted_types)
    read = await ADMIN.run(read_form, form.fields, posted, form.before)
    values = {**({"type": form.type} if form.type else {}), **read.values}
    files, mistakes = await ADMIN.run(_try_files, form, name, values)
    used = STAND_IN if NAME in mistakes else name
    if NAME in mistakes:
        files, _ = await ADMIN.run(_try_files, form, STAND_IN, values)
    unread = read.mistakes | flaws
    mistakes |= {key: [said] for key, said in unread.items()}
    runs = form.kind == "connector" and values.get("enabled") is not False
    draft = Draft(
        subject=f"{form.kind} {name}",
        view=form.view,
        files=files,
        mistakes=mistakes,
        is_partial=bool(unread),
        name_field=lambda mistake: form.name_field(mistake, used),
        connector=name if runs else None,
        done=f"/connectors/{name}" if runs else "",
    )
    found = await consider(visit, draft)
    if isinstance(found, web.Response):
        return found
    if is_unticked(posted, EVENTS) and EVENTS in found.mistakes:
        found = replace(found, mistakes={**found.mistakes, EVENTS: [UNTICKED]})
    emptied = form.find_secrets(read.values) | {*found.emptied}
    shown = await ADMIN.run(show_again, form.fields, posted, read, form.before)
    shown = {key: text for key, text in shown.items() if not any(is_part(key, one) for one in emptied)}
    return await _show(visit, form, found, name, shown)


def _try_files(form: TableForm, name: str, values: Mapping[str, Any]) -> tuple[Files, dict[str, list[str]]]:
    """Return the files with the table, or none and the mistakes by field. Blocking."""
    if not name:
        return {}, {NAME: ["is missing"]}
    mistakes: dict[str, list[str]] = {}
    try:
        return _make_files(form, name, values), mistakes
    except ConfigError as error:
        for one in error.mistakes:
            mistakes.setdefault(form.name_field(one, name) or "", []).append(one.reason)
    return {}, mistakes


def _make_files(form: TableForm, name: str, values: Mapping[str, Any]) -> Files:
    """Return the files with the table. Blocking. Raises ConfigError, also for a name that a new table cannot have."""
    key = format_path((form.kind, name))
    if not form.name and form.view.get(form.kind, name) is not None:
        place = form.view.find_place(form.kind, name)
        raise ConfigError([Mistake(key=key, reason=f"the name is taken, by the {form.kind} at {place}")])
    if not form.name and name == RESERVED:
        raise ConfigError([Mistake(key=key, reason="a page of the console has this name: choose another one")])
    return put_table(form.view, form.kind, name, values, form.list_known())


async def _keep_secrets(visit: Visit, form: TableForm, name: str, *, is_named: bool) -> tuple[Inputs, dict[str, str]]:
    """Keep the secrets that are pasted. Return the form with references to their files, and the flaws by field.

    `is_named`: whether the name is right. Files of secrets are named after it, and would be left behind. Raises
    ConsoleRefusal for a user who may not launch.
    """
    posted, flaws = visit.form, dict[str, str]()
    shown = await ADMIN.run(show_form, form.fields, form.before, form.before)
    folder = str(name_folder(visit.console.options.state))
    for one, part, secret in find_pasted(form.fields, visit.form, shown, folder):
        if not is_named:
            flaws[one.name] = UNNAMED
            continue
        try:
            path = await keep(visit, form.view, "-".join((name, *one.path)), secret)
        except ValueError as error:
            flaws[one.name] = f"the secret {error}"
        else:
            posted = refer_to_file(posted, part, str(path))
    return posted, flaws


async def _show(
    visit: Visit, form: TableForm, found: Considered | None = None, name: str = "", posted: Inputs | None = None
) -> web.Response:
    """Show a form. `found`, `name`, `posted`: what came of a form that was posted, and what it shows again."""
    shown = posted
    if shown is None:
        shown = await ADMIN.run(show_form, form.fields, form.before, form.before)
    mistakes = found.mistakes if found else {}
    used = {
        one.name for one in flatten(form.fields) if one.name in mistakes or any(is_part(key, one.name) for key in shown)
    }
    return visit.show(
        "table_form.html",
        status=found.status if found else 200,
        form=form,
        plural=PLURALS[form.kind],
        name=form.name or name,
        shown=shown,
        considered=found,
        labels={NAME: (NAME, NAME)} | {one.name: (one.id, one.title) for one in flatten(form.fields)},
        parts=_list_parts(form, used),
        look={
            "considered": found,
            "may_paste": not await ADMIN.run(find_bar, visit, form.view),
            "ticks": await ADMIN.run(_fill_ticks, form, shown, visit.form.get(TEXT)),
            "names": {f"{PREFIX}.filters": [name for name, _ in form.view.list_tables("filter")]},
            "kept_in": name_folder(visit.console.options.state),
        },
    )


def _list_parts(form: TableForm, used: Collection[str]) -> list[tuple[str, list[Field], bool]]:
    """Return the fields of the form in parts: a title, the fields, and whether they are shown at once.

    The first part has no title, and is never folded away: what a first launch needs, and what the table says already.
    `used`: the fields with a mistake or a value of their own.
    """
    titles = {"": "", "type": f"More settings of {form.type}", "kind": f"Settings that every {form.kind} has"}
    parts: dict[str, list[Field]] = {fold: [] for fold in titles}
    for one in form.fields:
        if one.path or one.name in used or not one.fold:  # the field for other settings is of no use to most types
            parts["" if one.title in form.before else one.fold].append(one)
    return [(titles[fold], part, any(one.name in used for one in flatten(part))) for fold, part in parts.items()]


def _fill_ticks(form: TableForm, shown: Inputs, text: str | None) -> Ticks | None:
    """Return the ticks of a connector's form; None if its selection cannot be shown by ticks.

    A new connector begins without a tick, so that nobody sends everything by accident. `text`: what was posted for
    other entries; None: nothing was posted.
    """
    if form.kind != "connector":
        return None
    is_new = text is None and not form.before
    return show_ticks(shown, EVENTS, form.accepted_types, text=text or "", is_new=is_new)
