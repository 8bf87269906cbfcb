"""docs/reference/configuration.md: every table and every setting of conf.d, from the settings models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, Final

from pydantic.fields import FieldInfo

from relay.api import HttpConnectorSettings, Settings
from relay.config.descriptions import descriptions
from relay.config.model import OWN_TABLES
from relay.config.registry import KINDS
from relay.kinds import ALERTED
from tools.docs.builtin import builtin
from tools.docs.configuration_texts import INTRO, KIND_INTROS, READ_ON
from tools.docs.markdown import code, document, table
from tools.docs.values import default_of, kind_of

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
    texts, found = descriptions(model), {}
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
        yield from _section(f"[{name}]", name, _about(model), settings_of(model))
        for inner, within in _tables_within(model):
            yield f'<a id="{name}-{inner}"></a>'
            yield from _section(f"[{name}.{inner}]", f"{name}-{inner}", _about(within), settings_of(within))
    for kind in KINDS:
        yield from _kind(kind)


def _contents() -> Iterator[str]:
    """List all sections, with links."""
    own = [f"[`{name}`](#{name})" for name in OWN_TABLES]
    yield f"- The daemon: {', '.join(own)}"
    for kind in KINDS:
        types = ", ".join(f"[`{name}`](#{kind}-{name})" for name in builtin(kind))
        http = f", [{HTTP}](#http-connectors)" if kind == "connector" else ""
        yield f"- `[{kind}.NAME]`: [every {kind}](#every-{kind}){http}; by type: {types}"


def _tables_within(model: type[Settings]) -> Iterator[tuple[str, type[Settings]]]:
    """Find the tables within a table that have no default."""
    for name, field in model.model_fields.items():
        for kind in getattr(field.annotation, "__args__", ()):
            if isinstance(kind, type) and issubclass(kind, Settings):
                yield name, kind


def _kind(kind: str) -> Iterator[str]:
    base = KINDS[kind][1]
    yield f"## {kind.capitalize()}s: `[{kind}.NAME]`"
    yield KIND_INTROS[kind]
    yield from _section(f"Every {kind}", f"every-{kind}", "", settings_of(base))
    if kind == "alert":
        yield "Kinds of trouble that `on` can name:"
        yield table(["kind", "meaning"], [(code(name), meaning) for name, meaning in ALERTED.items()])
    if kind == "connector":
        common = settings_of(base)
        http = {name: one for name, one in settings_of(HttpConnectorSettings).items() if name not in common}
        with_http = [code(name) for name, one in builtin(kind).items() if _is_http(one)]
        about = f"These settings are for {', '.join(with_http)}, and for plugins with `HttpConnectorSettings`."
        yield from _section(HTTP, "http-connectors", about, http)
    for name, plugin in builtin(kind).items():
        yield from _type(kind, name, plugin)


def _is_http(plugin: Any) -> bool:
    return issubclass(plugin.Settings, HttpConnectorSettings)


def _type(kind: str, name: str, plugin: Any) -> Iterator[str]:
    """Describe a type: its own settings, and what it has other than every plugin of its kind."""
    base: type[Settings] = HttpConnectorSettings if kind == "connector" and _is_http(plugin) else KINDS[kind][1]
    common, all_settings = settings_of(base), settings_of(plugin.Settings)
    own = {key: one for key, one in all_settings.items() if key not in common or one.text != common[key].text}
    about = [_plain_about(plugin)]
    if others := [*_other_defaults(common, all_settings, own)]:
        about.append(f"Other defaults than every {kind}: {', '.join(others)}.")
    links = [f"[every {kind}](#every-{kind})"]
    if base is HttpConnectorSettings:
        links.insert(0, f"[{HTTP}](#http-connectors)")
    of_these = "Its own settings are below; it also has" if own else "It has no settings of its own, only"
    about.append(f'`type = "{name}"`. {of_these} those of {" and of ".join(links)}.')
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
    if about:
        yield about
    yield from (_entry(anchor, one) for one in settings.values())
    if pages := READ_ON.get(anchor):
        yield f"Read on: {', '.join(f'[{name}]({link})' for name, link in pages.items())}."


def _entry(anchor: str, one: Setting) -> str:
    """Describe a setting as an item of a list, with an anchor of its own."""
    key = f'<a id="{anchor}-{one.name.replace(".", "-")}"></a>**`{one.name}`**'
    if isinstance(one.field.default, Settings):
        head = f"- {key}: table."
    elif one.field.annotation is not None and _is_table(one.field):
        head = f"- {key}: table, see [below](#{anchor}-{one.name}). Default: not set."
    else:
        head = f"- {key}: {kind_of(one.field)}. {default_of(one.field)}"
    paragraphs = [head, *one.text.split("\n\n")]
    return "\n\n".join(paragraph.replace("\n", "\n  ") if not number else _indented(paragraph)
                       for number, paragraph in enumerate(paragraphs))


def _is_table(field: FieldInfo) -> bool:
    kinds = getattr(field.annotation, "__args__", ())
    return any(isinstance(kind, type) and issubclass(kind, Settings) for kind in kinds)


def _indented(paragraph: str) -> str:
    return "\n".join(f"  {line}" for line in paragraph.splitlines())


def _about(model: type[Settings]) -> str:
    return getdoc(model) or ""


def _plain_about(plugin: Any) -> str:
    return getdoc(plugin) or ""
