"""docs/reference/commands.md: every command with its usage, options and exit codes, as `--help` has them."""

import inspect
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

import click

from relay.cli.main import relay
from relay.commands import COMMANDS
from relay.config import Registry
from tests.docs.generate.builtin import builtin
from tests.docs.generate.markdown import code, document, table

INTRO: Final = """
This page lists every command of relay, with its options and exit codes. `relay COMMAND --help` says the same.

```sh
relay check      # is the configuration good?
relay status     # is the relay that runs well?
relay doctor     # what is wrong with this machine or installation?
```

- Every command exits with 2 if its arguments are wrong, and the usage is printed.
- Every command exits with 1 if its output cannot be written, to a full disk for instance.
- `--help` is an option of every command. `relay --version` prints the version.
- [The command line](../guide/command-line.md) says what the commands share: `--url`, `--state`, `--plugins`, times,
  output and completion.
"""
EXIT_CODES: Final = "Exit codes: "
SETTINGS: Final = """
The options are the settings of the type, with `-` for `_`: `--max-size` for `max_size`. A table is written as in TOML:
`--batch '{ events = 100 }'`. The option of a secret ends in `-from`, and takes `credential:NAME`, `file:/PATH` or
`env:NAME`. These options are no settings:
"""
OWN: Final = {"--name", "--conf", "--make-token", "--disabled"}
"""Options of `relay add` that are no settings."""


def page() -> str:
    """Make the page."""
    return document("Commands", "the commands of relay/cli and the plugins", _parts())


@cache
def commands() -> dict[str, click.Command]:
    """Find the commands of relay and of the plugins that come with it, groups before their own commands."""
    context = click.Context(relay, info_name="relay")
    added = [
        one.name
        for one in Registry.discover(()).list_commands()
        if one.name and inspect.unwrap(one.callback or page).__module__.startswith("relay_plugins.")
    ]
    found: dict[str, click.Command] = {}
    for name in sorted({*COMMANDS, *added}):
        if command := relay.get_command(context, name):
            found[name] = command
            found |= {f"{name} {one.name}": one for one in subcommands(command)}
    return found


@cache
def subcommands(command: click.Command) -> list[click.Command]:
    """Find the commands of a group, by name; none of a command that is no group."""
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    return [one for name in sorted(command.list_commands(context)) if (one := command.get_command(context, name))]


def exit_codes(command: click.Command) -> dict[int, str]:
    """Read the exit codes of a command, and what each means, from its help."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    told = next((" ".join(each.split()) for each in paragraphs if each.startswith(EXIT_CODES)), "")
    return {int(number): meaning for number, meaning in re.findall(r"(\d+) ([^;]+)(?:; |\.$)", told)}


def _parts() -> Iterator[str]:
    yield INTRO
    for name, command in commands().items():
        yield f"{'###' if ' ' in name else '##'} relay {name}"
        yield f"```\n{_usage(name, command)}\n```"
        yield from _description(command)
        yield from _adding(name, command) if name.startswith("add ") else _options(command.params)
        if codes := exit_codes(command):
            yield "Exit codes: " + "; ".join(f"**{number}** {meaning}" for number, meaning in codes.items()) + "."


def _usage(name: str, command: click.Command) -> str:
    return f"relay {name} {' '.join(command.collect_usage_pieces(click.Context(command)))}"


def _description(command: click.Command) -> Iterator[str]:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            yield "```\n" + paragraph.removeprefix("\b").strip("\n") + "\n```"
        elif not paragraph.startswith(EXIT_CODES):
            yield paragraph


def _options(params: Sequence[click.Parameter]) -> Iterator[str]:
    context = click.Context(relay)
    records = [param.get_help_record(context) for param in params if isinstance(param, click.Option)]
    if rows := [(code(name), about) for name, about in filter(None, records)]:
        yield table(["option", ""], rows)


def _adding(name: str, group: click.Command) -> Iterator[str]:
    """The types of a table, and the options of its command that are no settings."""
    kind = name.removeprefix("add ")
    links = [f"[`{one}`](configuration.md#{kind}-{one})" for one in builtin(kind)]
    yield f"TYPE is one of {', '.join(links)}."
    yield SETTINGS
    command = next(one for one in subcommands(group) if one.name in builtin(kind))
    for text in _options([one for one in command.params if OWN.intersection(one.opts)]):
        yield text.replace(f"[default: {command.name}]", "[default: the TYPE]")
