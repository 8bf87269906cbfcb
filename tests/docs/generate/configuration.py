"""docs/reference/configuration.md: every table and every setting of conf.d, from the settings models."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, Final, get_args, get_origin

from pydantic.fields import FieldInfo

from relay.api import Settings
from relay.api.transport.route import WaySettings
from relay.config.descriptions import read_descriptions
from relay.config.model import OWN_TABLES
from relay.config.plugins.registry import KINDS
from relay.config.route_tests.settings import RouteTestSettings
from relay.kinds import ALERTED
from tests.docs.generate.builtin import builtin
from tests.docs.generate.configuration_texts import HTTP_INTRO, INTRO, KIND_INTROS, READ_ON
from tests.docs.generate.markdown import code, document, table
from tests.docs.generate.values import PLAIN, default_of, kind_of

HTTP: Final = "HTTP connectors"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as conf.d has it: a setting of a table within, such as `batch`, has the name of both."""

    name: str
    field: FieldInfo
    text: str


def page() -> str:
    """Make the page."""
    return document("Configuration", "the settings models of relay and its plugins", _parts())


def settings_of(model: type[Settings]) -> dict[str, Setting]:
    """Find all settings of a model by name, those of tables within it too."""
    texts, found = read_descriptions(model), {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        found[key] = Setting(key, field, texts[name])
        if isinstance(field.default, Settings):
            inner = settings_of(type(field.default)).values()
            found |= {f"{key}.{one.name}": Setting(f"{key}.{one.name}", one.field, one.text) for one in inner}
    return found


def _parts() -> Iterator[str]:
    yield INTRO
    yield "\n".join(_contents())
    yield "## The daemon's tables"
    for name, model in OWN_TABLES.items():
        yield from _section(f"[{name}]", name, getdoc(model) or "", settings_of(model))
        for key, field in model.model_fields.items():
            if within := table_within(field):
                title = f"[{name}.{key}.NAME]" if get_origin(field.annotation) is dict else f"[{name}.{key}]"
                yield from _section(title, f"{name}{key}", getdoc(within) or "", settings_of(within))
    for kind in KINDS:
        yield from _kind(kind)
    yield "## Tests: `[test.NAME]`"
    yield from _section("Every test", "every-test", getdoc(RouteTestSettings) or "", settings_of(RouteTestSettings))


def _contents() -> Iterator[str]:
    """List all sections, with links."""
    own = [f"[`{name}`](#{name})" for name in OWN_TABLES]
    yield f"- The daemon: {', '.join(own)}"
    for kind in KINDS:
        types = ", ".join(f"[`{name}`](#{kind}-{name})" for name in builtin(kind))
        http = f", [{HTTP}](#http-connectors)" if kind == "connector" else ""
        yield f"- `[{kind}.NAME]`: [every {kind}](#every-{kind}){http}; by type: {types}"
    yield "- `[test.NAME]`: [every test](#every-test)"


def table_within(field: FieldInfo) -> type[Settings] | None:
    """Find the model of a setting that is a table and may be left out, such as `ingest.tls`."""
    kinds = (kind for kind in get_args(field.annotation) if isinstance(kind, type) and issubclass(kind, Settings))
    return next((kind for kind in kinds if kind not in PLAIN), None)


def _kind(kind: str) -> Iterator[str]:
    base = KINDS[kind][1]
    yield f"## {kind.capitalize()}s: `[{kind}.NAME]`"
    yield KIND_INTROS[kind]
    yield from _section(f"Every {kind}", f"every-{kind}", "", settings_of(base))
    if kind == "alert":
        yield "### Kinds of problems"
        yield "The setting `on` of an alert can name these:"
        yield table(["kind", "meaning"], [(code(name), meaning) for name, meaning in ALERTED.items()])
    if kind == "connector":
        yield from _section(HTTP, "http-connectors", HTTP_INTRO, settings_of(WaySettings))
    for name, plugin in builtin(kind).items():
        yield from _type(kind, name, plugin)


def _type(kind: str, name: str, plugin: Any) -> Iterator[str]:
    """Describe a type: its own settings, and what it has other than every plugin of its kind."""
    usual, found = settings_of(KINDS[kind][1]), settings_of(plugin.Settings)
    links = [f"[every {kind}](#every-{kind})"]
    if issubclass(plugin.Settings, WaySettings):
        usual |= settings_of(WaySettings)
        links.append(f"[{HTTP}](#http-connectors)")
    own = {key: one for key, one in found.items() if key not in usual or one.text != usual[key].text}
    about = [getdoc(plugin) or ""]
    if plugin.requires:
        libraries, wanted = map(dict.fromkeys, (plugin.requires, plugin.requires.values()))
        about.append(
            f"Needs {' and '.join(map(code, libraries))}: `/opt/relay/bin/python -m pip install {shlex.join(wanted)}`."
        )
    if others := [*_other_defaults(usual, found, own)]:
        about.append(f"Defaults that differ: {', '.join(others)}.")
    which = "Settings besides" if own else "It has no settings but"
    about.append(f"{which} those of {' and of '.join(links)}{':' if own else '.'}")
    yield from _section(f"{kind.capitalize()} `{name}`", f"{kind}-{name}", "\n\n".join(about), own)


def _other_defaults(
    common: Mapping[str, Setting], found: Mapping[str, Setting], own: Mapping[str, Setting]
) -> Iterator[str]:
    for key, one in found.items():
        if key in own or isinstance(one.field.default, Settings):
            continue
        mine, usual = default_of(one.field), default_of(common[key].field)
        if mine != usual:
            yield f"`{key}` is {mine.removeprefix('Default: ').removesuffix('.')}"


def _section(title: str, anchor: str, about: str, settings: Mapping[str, Setting]) -> Iterator[str]:
    yield f"### {title}"
    yield from [about] if about else []
    yield from (_entry(anchor, one) for one in settings.values())
    if pages := READ_ON.get(anchor):
        yield f"Read on: {', '.join(f'[{name}]({link})' for name, link in pages.items())}."


def _entry(anchor: str, one: Setting) -> str:
    """Describe a setting as an item of a list, with an anchor of its own."""
    key = f'<a id="{anchor}-{one.name.replace(".", "-")}"></a>**`{one.name}`**'
    if isinstance(one.field.default, Settings):
        head = f"{key}: table."
    elif table_within(one.field):
        named = "name" if get_origin(one.field.annotation) is dict else ""
        head = f"{key}: table, [see below](#{anchor}{one.name}{named}). Default: not set."
    else:
        head = f"{key}: {kind_of(one.field)}. {default_of(one.field)}"
    lines = f"{head}\n\n{one.text}".splitlines()
    return "\n".join([f"- {lines[0]}", *(f"  {line}" if line else "" for line in lines[1:])])
