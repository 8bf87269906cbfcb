"""`relay events`: the event types that are known, and which of them a selection takes."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec import Struct
from msgspec.structs import asdict, replace

from relay.catalogue import TYPES, Selection, drop_opt_in, suggest_entry
from relay.cli.options import complete_entry, events_option, plugins_option, utf8, warn_of_unknown_entries
from relay.config import PLUGIN_FOLDERS, Registry
from relay.words import escape_text, format_count


class KnownType(Struct, frozen=True):
    """A type that is known. `status` is `current`, `retired`, or `made` by a source of relay's."""

    type: str
    group: str
    channel: str
    status: str
    entry: str | None = None
    """What of the selection takes it; None if there is no selection."""


@click.command
@click.argument("pattern", metavar="[PATTERN]", required=False, type=utf8, shell_complete=complete_entry)
@events_option("Only those that this selection takes, as in conf.d; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@plugins_option
def events(pattern: str | None, entries: tuple[str, ...], as_json: bool, plugin_folders: tuple[Path, ...]) -> None:
    """List the event types that `events` in conf.d can name.

    Each type has its group, channel and status. PATTERN is a group, a channel, a glob, or a part of a name. With
    --events the list has only what that selection takes, and the entry that takes it. Types that are not listed can be
    named as well: Braze adds types every month.

    Exit codes: 0 found; 1 no such type.
    """
    registry = Registry.discover(plugin_folders or PLUGIN_FOLDERS)
    made = [one for one in registry.list_made() if one not in TYPES]
    known = [
        *(KnownType(name, **asdict(one)) for name, one in TYPES.items()),
        *(KnownType(one, "", "", "made") for one in made),
    ]
    found = known
    if pattern is not None:
        matching = Selection([pattern])
        found = [one for one in known if matching.wants(one.type)]
        found = found or [one for one in known if pattern.lower() in one.type.lower()]
    if entries:
        selection = Selection(drop_opt_in([entry.strip() for entry in entries]))
        found = [replace(one, entry=selection.explain(one.type)) for one in found if selection.wants(one.type)]
        warn_of_unknown_entries(entries, lambda: made)
    if as_json:
        click.echo(json.dumps([*map(asdict, found)], indent=2))
    elif found:
        click.echo("\n".join([*_format_types(found), format_count(len(found), "type")]))
    if not found:
        meant = suggest_entry(pattern) if pattern else None
        raise click.ClickException("no type that is known" + (f" (did you mean {meant}?)" if meant else ""))


def _format_types(found: Sequence[KnownType]) -> list[str]:
    heads = ["type", "group", "channel", "status", *(["taken by"] if found[0].entry else [])]
    rows = [
        [one.type, one.group or "-", one.channel or "-", one.status, *([escape_text(one.entry)] if one.entry else [])]
        for one in found
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (heads, *rows)]
