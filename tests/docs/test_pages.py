"""The pages of docs: configuration is valid, commands exist, and sentences are short."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import click
import pytest

from relay.cli.main import relay
from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry
from tests.docs.pages import PROSE, ROOT, blocks, long_sentences, sentences

REGISTRY = Registry.discover([])
MEDIAN_WORDS = 15
OF_THE_READER = (
    "No such file or directory",
    ".type: is missing",
    "there is no source or connector",
    "write the real address",
)
"""Mistakes of examples that are a part of a table, or that name files, tables and addresses of the reader."""

each_prose_page = pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.parametrize(
    ("page", "text"),
    [
        pytest.param(page, text, id=str(page.relative_to(ROOT)))
        for page in PROSE
        if page.parent.name != "plugins"  # their examples are of plugins that are not installed
        for text in blocks(page, "toml")
        if re.search(r"^\[", text, re.MULTILINE)
    ],
)
def test_every_example_of_a_configuration_is_valid(page: Path, text: str, tmp_path: Path) -> None:
    (tmp_path / "50-example.toml").write_text(text)
    mistakes: list[str] = []
    try:
        load([tmp_path], REGISTRY, secrets_required=False)
    except ConfigError as error:
        mistakes = [str(mistake) for mistake in error.mistakes]
    assert not [mistake for mistake in mistakes if not any(part in mistake for part in OF_THE_READER)]


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each relay command in the shell blocks of a page."""
    for text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", re.sub(r"(?:^|\s)#.*", "", line)):
                if told := re.match(r"\s*(?:\w+=\S* |nice |ionice -c3 |sudo )*relay(?: (.*))?$", part):
                    yield (told[1] or "").split()


@each_prose_page
def test_every_command_of_an_example_exists_with_its_options(page: Path) -> None:
    for words in commands(page):
        if words[:2] == ["add", "--plugins"]:  # a type of the reader; tests/process/test_new_plugin.py runs the command
            continue
        command: click.Command = relay
        context = click.Context(relay)
        for word in words:
            found = command.get_command(context, word) if isinstance(command, click.Group) else None
            command = found or command
        named = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert command is not relay or options, f"relay {shlex.join(words)}"
        assert options <= named | {"--help", "--version"}, f"relay {shlex.join(words)}"


@each_prose_page
def test_every_sentence_is_short(page: Path) -> None:
    assert not long_sentences(page)
    assert median(len(one.split()) for one in sentences(page)) <= MEDIAN_WORDS


def test_the_readme_is_short_and_has_the_ten_promises() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.encode()) <= 8192
    promises = readme.partition("\n## Ten promises\n")[2].partition("\n## ")[0]
    assert re.findall(r"^(\d+)\. ", promises, re.MULTILINE) == [str(number) for number in range(1, 11)]
