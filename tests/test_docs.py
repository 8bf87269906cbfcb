"""The README tells what the code does: settings with their defaults, commands, files."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from relay.cli.check import BAD_CONFIGURATION
from relay.cli.main import COMMANDS, relay
from relay.config import Registry
from tools.docs.pages import PAGES, is_current

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
REGISTRY = Registry.discover(())
if "alert" not in {provided.partition(" ")[0] for info in REGISTRY.plugins for provided in info.provides}:
    pytest.exit("relay is not installed as pyproject.toml has it: make .venv/dev.done", 1)


@pytest.mark.parametrize("path", PAGES)
def test_a_generated_page_is_what_make_docs_writes(path: str) -> None:
    assert is_current(path, PAGES[path]()), f"{path} is out of date: run `make docs` and commit it"


def test_every_command_is_documented() -> None:
    added = {command.name for command in REGISTRY.commands}
    assert set(re.findall(r"^\| `relay ([\w-]+)", README, re.MULTILINE)) == {*COMMANDS, *added}


COMMAND_ROWS = [
    (usage, *cells.split(" | "))
    for names, cells in re.findall(r"^\| (`relay .*?) \| (.*) \|$", README.replace("\\|", "/"), re.MULTILINE)
    for usage in re.findall(r"`relay ([^`]+)`", names)
]
"""For each usage what it does, and its exit codes."""
EVERYWHERE = {"--state", "--url", "--conf", "--plugins", "--help"}
"""Options that the README explains for many commands at once."""
STANDINS = ("sandbox braze", "sandbox heap")
"""Their switches are too many for a README: `--help` has them."""


def told_commands(usage: str) -> list[click.Command]:
    """The commands that a row of the README is about: `parked list/show` are two of a group."""
    context = click.Context(relay)
    name, _, rest = usage.partition(" ")
    command = relay.get_command(context, name)
    assert command, usage
    if isinstance(command, click.Group):
        named = [command.get_command(context, part) for part in rest.split(" ")[0].split("/")]
        return [leaf for found in named if found for leaf in leaves(found)] or [command]
    return [command]


def leaves(command: click.Command) -> list[click.Command]:
    """The command itself, or those of a group."""
    return [*command.commands.values()] if isinstance(command, click.Group) else [command]


def called(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A function and those of relay's that it mentions, and so on."""
    todo, seen = [inspect.unwrap(function)], set[Callable[..., Any]]()
    while todo:
        if (function := todo.pop()) in seen or not function.__module__.startswith(("relay.cli", "relay_plugins")):
            continue
        seen.add(function)
        yield function
        names = [node.id for node in ast.walk(ast.parse(source_of(function))) if isinstance(node, ast.Name)]
        found = [function.__globals__.get(name) for name in names]
        todo += [inspect.unwrap(one) for one in found if inspect.isfunction(one)]


def source_of(function: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(function))


def exit_codes(function: Callable[..., Any]) -> set[int]:
    """The exit codes that the code of one function names."""
    codes: set[int] = set()
    tree = ast.parse(source_of(function))
    guarded = {id(node) for part in ast.walk(tree) if catches_config_error(part) for node in ast.walk(part)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        text = ast.unparse(call.func)
        if text in ("SystemExit", "ctx.exit", "_leave", "leave"):
            codes |= {
                leaf.value for leaf in ast.walk(call) if isinstance(leaf, ast.Constant) and type(leaf.value) is int
            }
            codes |= {BAD_CONFIGURATION} if "BAD_CONFIGURATION" in ast.unparse(call) else set()
        elif text == "click.ClickException":
            codes.add(1)
        elif text == "load" and id(call) not in guarded:
            codes.add(BAD_CONFIGURATION)
    return codes


def catches_config_error(node: ast.AST) -> bool:
    return isinstance(node, ast.Try) and any("ConfigError" in ast.unparse(how.type or node) for how in node.handlers)


@pytest.mark.parametrize(("usage", "told"), [(usage, told) for usage, _, told in COMMAND_ROWS])
def test_the_documented_exit_codes_are_the_real_ones(usage: str, told: str) -> None:
    documented = {int(code) for code in re.findall(r"\b\d+\b", told)}
    functions = [command.callback for command in told_commands(usage) if command.callback]
    real = {code for function in functions for one in called(function) for code in exit_codes(one)}
    assert real | {0} == documented


@pytest.mark.parametrize(("usage", "about"), [(usage, about) for usage, about, _ in COMMAND_ROWS])
def test_every_documented_option_is_there(usage: str, about: str) -> None:
    documented = set(re.findall(r"--[a-z][a-z-]*", f"{usage} {about}"))
    assert documented <= {name for command in told_commands(usage) for name in options(command)} | EVERYWHERE


@pytest.mark.parametrize("name", sorted({usage.split(" ")[0] for usage, *_ in COMMAND_ROWS}))
def test_every_option_is_documented(name: str) -> None:
    rows = " ".join(f"{usage} {about}" for usage, about, _ in COMMAND_ROWS if usage.split(" ")[0] == name)
    documented = set(re.findall(r"--[a-z][a-z-]*", rows)) | EVERYWHERE
    command = relay.get_command(click.Context(relay), name)
    assert command
    subcommands = [*command.commands.values()] if isinstance(command, click.Group) else []
    there = [command, *(one for one in subcommands if f"{name} {one.name}" not in STANDINS)]
    assert {option for one in there for option in options(one)} <= documented
    assert {one.name for one in subcommands} <= set(re.findall(r"[a-z]+", rows))


@pytest.mark.parametrize("name", sorted({usage.split(" ")[0] for usage, *_ in COMMAND_ROWS}))
def test_every_option_says_what_it_does(name: str) -> None:
    command = relay.get_command(click.Context(relay), name)
    assert command
    for one in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
        assert one.help, one.name
        assert all(param.help for param in one.params if isinstance(param, click.Option) and not param.hidden), one.name


def options(command: click.Command) -> set[str]:
    found = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    return {name for param in found for name in (*param.opts, *param.secondary_opts) if name.startswith("--")}


def test_every_command_that_reads_the_configuration_takes_plugins() -> None:
    for name in COMMANDS:
        command = relay.get_command(click.Context(relay), name)
        assert command
        for one in leaves(command):
            assert {"--conf", "--plugins"} & options(one) != {"--conf"}, f"{name} {one.name}"


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"DEMO_OUTPUT|^PERFORMANCE$|TODO|FIXME", README, re.MULTILINE)
