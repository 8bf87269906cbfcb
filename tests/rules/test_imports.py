"""What relay imports, counted: imports take most of the time of a start, and most of the memory when idle."""

import subprocess
import sys
from typing import Final

import click
import pytest

from relay.cli.main import relay
from relay.commands import COMMANDS
from relay.config import KINDS, Registry
from relay.plugin_places import find_entry_points
from tests.daemon import Daemon

TELL: Final = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from relay.cli.main import main; "
"""Runs a command of relay, and prints the names of all imported modules at its end."""
TELL_BUILT: Final = """
def tell_built():
    print(*(name for name, one in sys.modules["relay.config"].OWN_TABLES.items() if one.__pydantic_complete__))
atexit.register(tell_built)
"""
"""Prints the tables for which pydantic has built a validator or a serializer, before the modules."""
UNUSED: Final = {
    *("ctypes", "fastavro", "jinja2", "multiprocessing", "prometheus_client", "psycopg", "pyarrow", "rich", "tomlkit"),
    *("relay.client", "relay.console", "relay.postgres", "relay.sandbox", "relay.workers"),
}
"""What a relay with its journal on disk does without, unless it is asked."""
MOST_OF_HELP: Final = 13
MOST_OF_DAEMON: Final = 311
MOST_OF_CONSOLE: Final = 285
"""The most modules of relay and its plugins that each may import. A module takes half a millisecond or more."""


async def test_a_start_imports_nothing_that_the_configuration_does_not_use(daemon: Daemon) -> None:
    daemon.configure(
        "flow", '[source.braze]\ntype = "currents"\npath = "/currents"\n[connector.out]\ntype = "stdout"\n'
    )
    daemon.wrapper = [sys.executable, "-c", f"{TELL}{TELL_BUILT}sys.argv = ['relay', *sys.argv[4:]]; main()"]
    await daemon.start()
    assert await daemon.stop() == 0
    built, told = daemon.stdout.read_text().splitlines()
    assert built == "ingest"  # the only table of relay's own in these files
    modules = {*told.split()}
    if not all(find_entry_points().values()):
        pytest.skip("this environment is older than pyproject.toml: run make .venv/dev.done")
    registry = Registry.discover(())
    libraries = {library for kind in KINDS for one in registry.get_types(kind).values() for library in one.requires}
    assert not modules & (UNUSED | libraries)
    assert "relay.runtime" in modules
    assert count_ours(modules) <= MOST_OF_DAEMON


def test_the_console_imports_little_of_the_daemon() -> None:
    pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")
    done = subprocess.run([sys.executable, "-c", f"{TELL}import relay.console"], capture_output=True, check=True)
    modules = {*done.stdout.decode().split()}
    assert not modules & {"psycopg", "relay.deliver", "relay.ingest", "relay.postgres", "relay.runtime"}
    assert count_ours(modules) <= MOST_OF_CONSOLE


def test_help_imports_neither_commands_nor_a_server() -> None:
    command = [sys.executable, "-c", f"{TELL}main()", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = {*done.stdout.splitlines()[-1].split()}
    assert "  cohorts   Show Braze cohorts as relay knows them; send whole memberships.\n" in done.stdout
    assert not modules & {
        *UNUSED,
        "aiohttp",
        "asyncio",
        "pydantic",
        "relay.api",
        "relay.cli.options",
        "relay.runtime",
        "structlog",
    }
    assert count_ours(modules) <= MOST_OF_HELP


def test_help_says_of_each_command_what_the_command_says() -> None:
    for name, own in COMMANDS.items():
        command = relay.get_command(click.Context(relay), name)
        assert command is not None
        assert own.summary == command.get_short_help_str(limit=200)


def count_ours(modules: set[str]) -> int:
    return sum(name.partition(".")[0] in ("relay", "relay_plugins") for name in modules)
