"""The generated pages are current; the help of each command says what the code does; links lead somewhere."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from relay.cli.commands.config.check import BAD_CONFIGURATION
from relay.commands import COMMANDS
from relay.config.plugins.registry import Registry
from tests.docs.generate.commands import commands, subcommands
from tests.docs.generate.commands import exit_codes as documented_codes
from tests.docs.generate.guarantees import marked_tests
from tests.docs.generate.pages import PAGES, is_current
from tests.docs.generate.promises import PROMISES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REGISTRY = Registry.discover(())
if "alert" not in {provided.partition(" ")[0] for info in REGISTRY.list_plugins() for provided in info.provides}:
    pytest.exit("relay is not installed as pyproject.toml has it: make .venv/dev.done", 1)


@pytest.mark.parametrize("path", PAGES)
def test_a_generated_page_is_what_make_docs_writes(path: str) -> None:
    assert is_current(path, PAGES[path]()), f"{path} is out of date: run `make docs` and commit it"


@pytest.mark.parametrize("number", PROMISES)
def test_each_promise_has_tests(number: int) -> None:
    assert len(marked_tests()[number]) >= 3


def test_no_test_is_of_a_promise_that_relay_does_not_make() -> None:
    assert marked_tests().keys() == PROMISES.keys()


DOCUMENTED = commands()
"""Every command of docs/reference/commands.md, by its name behind `relay`."""


def called(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A function and those of relay's that it mentions, and so on."""
    todo, seen = [inspect.unwrap(function)], set[Callable[..., Any]]()
    while todo:
        if (function := todo.pop()) in seen or not function.__module__.startswith(("relay.cli", "relay_plugins")):
            continue
        seen.add(function)
        yield function
        names = [node.id for node in ast.walk(tree_of(function)) if isinstance(node, ast.Name)]
        found = [function.__globals__.get(name) for name in names]
        todo += [inspect.unwrap(one) for one in found if inspect.isfunction(one)]


@cache
def tree_of(function: Callable[..., Any]) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


@cache
def exit_codes(function: Callable[..., Any]) -> set[int]:
    """The exit codes that the code of one function names."""
    codes: set[int] = set()
    tree = tree_of(function)
    guarded = {id(node) for part in ast.walk(tree) if catches_config_error(part) for node in ast.walk(part)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        text = ast.unparse(call.func)
        if text in ("SystemExit", "ctx.exit", "_leave", "leave"):
            codes |= {
                leaf.value for leaf in ast.walk(call) if isinstance(leaf, ast.Constant) and type(leaf.value) is int
            }
            codes |= {BAD_CONFIGURATION} if "BAD_CONFIGURATION" in ast.unparse(call) else set()
        elif text in ("click.ClickException", "ClientError"):
            codes.add(1)
        elif text in ("load", "run_console") and id(call) not in guarded:
            codes.add(BAD_CONFIGURATION)
    return codes


def catches_config_error(node: ast.AST) -> bool:
    return isinstance(node, ast.Try) and any("ConfigError" in ast.unparse(how.type or node) for how in node.handlers)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_help_has_the_exit_codes_of_the_code(name: str) -> None:
    command = DOCUMENTED[name]
    if isinstance(command, click.Group) and not command.invoke_without_command and name != "add":
        return
    functions = [one.callback for one in (command, *types_of(name)) if one.callback]
    real = {code for function in functions for one in called(function) for code in exit_codes(one)}
    assert real | {0} == documented_codes(command).keys()


def types_of(name: str) -> list[click.Command]:
    """The commands that write a table of a type, one of each kind; their group tells their exit codes."""
    return [subcommands(group)[0] for group in subcommands(DOCUMENTED["add"])] if name == "add" else []


@pytest.mark.parametrize("name", DOCUMENTED)
def test_help_names_no_option_that_does_not_exist(name: str) -> None:
    named = set(re.findall(r"--[a-z][a-z-]*", DOCUMENTED[name].help or ""))
    assert named <= options(DOCUMENTED[name])


@pytest.mark.parametrize("name", DOCUMENTED)
def test_help_says_what_each_option_does(name: str) -> None:
    command = DOCUMENTED[name]
    assert command.help
    assert all(param.help for param in command.params if isinstance(param, click.Option) and not param.hidden)


def options(command: click.Command) -> set[str]:
    found = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
    return {name for param in found for name in (*param.opts, *param.secondary_opts) if name.startswith("--")}


def test_every_command_that_reads_the_configuration_takes_plugins() -> None:
    for name, command in DOCUMENTED.items():
        if name.split()[0] in COMMANDS and name != "console":  # it reads [console] alone, which no plugin has a part in
            assert {"--conf", "--plugins"} & options(command) != {"--conf"}, name


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"DEMO_OUTPUT|^PERFORMANCE$|TODO|FIXME", README, re.MULTILINE)
