"""Pages name every kind of entry of the history, the commands that work in a folder alone, and every room."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from relay.cli.main import relay
from relay.commands import COMMANDS
from relay.kinds import KINDS

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"


def kinds(page: str) -> set[str]:
    """Return the kinds that the table under the anchor `kinds` of a page names in its first column."""
    section = (GUIDE / page).read_text().partition('<a id="kinds"></a>')[2].partition("\n## ")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \| ", section, re.MULTILINE)
    return {kind for cell in cells for kind in re.findall(r"`(\w+)`", cell)}


def test_the_page_on_history_names_every_kind_of_entry() -> None:
    assert kinds("history.md") == {*KINDS}


def test_commands_without_url_are_named() -> None:
    (told,) = re.findall(r"take no `--url`: (.*?)\.\n", (GUIDE / "command-line.md").read_text())
    assert {*re.findall(r"`([a-z ]+)`", told)} == {*local_commands()}


def test_the_page_on_architecture_names_every_folder() -> None:
    page = (ROOT / "docs/explain/architecture.md").read_text()
    named = re.findall(r"^\| \[relay/(\w+)\]", page, re.MULTILINE)
    assert sorted(named) == sorted(init.parent.name for init in ROOT.glob("relay/*/__init__.py"))


def local_commands() -> Iterator[str]:
    """Yield the commands that have a state folder and no URL."""
    for name in COMMANDS:
        command = relay.get_command(click.Context(relay), name)
        assert command
        leaves = [*command.commands.values()] if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            options = {text for param in leaf.params if isinstance(param, click.Option) for text in param.opts}
            if "--state" in options and "--url" not in options:
                yield name if leaf is command else f"{name} {leaf.name}"
