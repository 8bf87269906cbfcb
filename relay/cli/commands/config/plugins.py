"""`relay plugins`: what is installed or dropped in, what it provides, what is broken, and the settings of a type."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill, indent
from typing import Any, Final

import click
from msgspec.structs import asdict, replace

from relay.api.internal import describe_missing, find_closest
from relay.cli.options import plugins_option
from relay.config import KINDS, PLUGIN_FOLDERS, Registry, describe_settings, summarize, type_description
from relay.words import format_setting, format_toml_key

INDENT: Final = "    "
WIDTH: Final = 112


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@plugins_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool, plugin_folders: tuple[Path, ...]) -> None:
    """List the plugins, and what each provides.

    The list has name, version and origin. For a broken plugin it says why it cannot be used, and for a type without its
    libraries what to install.

    Exit codes: 0 listed.
    """
    if ctx.invoked_subcommand:
        return
    registry = Registry.discover(plugin_folders or PLUGIN_FOLDERS)
    found = [replace(info, notes=tuple(registry.describe_notes(info))) for info in registry.list_plugins()]
    if as_json:
        click.echo(json.dumps([asdict(info) for info in found], indent=2))
        return
    lines = []
    for info in found:
        what = f"BROKEN: {' '.join(info.error.split())}" if info.error else ", ".join(info.provides) or "nothing"
        head = f"{info.name:<16} {info.version or '-':<10} {info.origin}"
        lines += [head, *(f"{INDENT}{line}" for line in (what, *info.notes))]
    click.echo("\n".join(lines))


@plugins.command
@click.argument("type")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, with the JSON Schema of the settings.")
@plugins_option
@click.pass_context
def show(ctx: click.Context, type: str, as_json: bool, plugin_folders: tuple[Path, ...]) -> None:
    """Show what the type TYPE does, and its settings with their defaults.

    If there are a connector type and a source type of this name, it shows both. Settings that every type of the kind
    has come last, in short.

    Exit codes: 0 shown; 1 there is no such type.
    """
    given = plugin_folders or (ctx.parent.params["plugin_folders"] if ctx.parent else ())
    folders = given or PLUGIN_FOLDERS
    registry = Registry.discover(folders)
    kinds = [kind for kind in KINDS if registry.get_type(kind, type)]
    if not kinds:
        raise click.ClickException(_explain_unknown(registry, type, folders))
    found = [_describe(registry, kind, type) for kind in kinds]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n\n".join("\n".join(_format_type(one)) for one in found))


def _explain_unknown(registry: Registry, type: str, folders: Sequence[Path]) -> str:
    closest = find_closest(type, [name for kind in KINDS for name in registry.list_names(kind)])
    broken = [f"; plugin {info.name} is broken: {info.reason}" for info in registry.find_suspects(type)[:1]]
    meant = f"; did you mean {closest}?" if closest else ""
    looked = f"; plugins are looked for in {', '.join(map(str, folders))} (--plugins)" if not broken else ""
    return f"there is no type {type}{meant}{''.join(broken)}{looked}"


def _describe(registry: Registry, kind: str, name: str) -> dict[str, Any]:
    """Return a type as plain data. `problem`: why there is no schema."""
    plugin = registry.get_types(kind)[name]
    schema, problem = describe_settings(kind, name, plugin)
    return {
        "kind": kind,
        "type": name,
        "provider": registry.find_provider(kind, name),
        "missing": describe_missing(plugin.requires),
        "doc": type_description(plugin),
        "schema": schema,
        "problem": problem,
    }


def _format_type(one: Mapping[str, Any]) -> Iterator[str]:
    kind, name = one["kind"], one["type"]
    yield f"{kind} {name}, of {one['provider']}"
    yield from (f"{name} {missing}" for missing in [one["missing"]] if missing)
    yield from (["", one["doc"]] if one["doc"] else [])
    if one["schema"] is None:
        yield one["problem"]
        return
    common = {field.alias or key for key, field in KINDS[kind][1].model_fields.items()}
    required = one["schema"].get("required", ())
    settings = {key: part for key, part in one["schema"]["properties"].items() if key != "type"}
    own = {key: part for key, part in settings.items() if key not in common}
    yield f"\nIts own settings:{'' if own else ' none'}"
    for key, part in own.items():
        yield f"  {_format_default(key, part, is_required=key in required)}"
        yield from [indent(text, INDENT) for text in [part.get("description")] if text]
    yield f"\nSettings of every {kind}:"
    for key, part in settings.items():
        if key in common:
            yield f"  {_format_default(key, part, is_required=key in required)}"
            yield indent(fill(summarize(part.get("description", "")), WIDTH), INDENT)


def _format_default(key: str, part: Mapping[str, Any], *, is_required: bool) -> str:
    written = format_toml_key((key,))
    if is_required:
        return f"{written} (required)"
    return f"{written} = {format_setting(part['default'])}" if "default" in part else f"{written} (not set)"
