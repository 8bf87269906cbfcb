"""The night drill: its page tells what it plays, and one of its scenes is played."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from relay.cli.main import relay
from tests.drill.__main__ import play
from tests.drill.page import PAGE, SHOWN, samples, shape, unwrapped
from tests.drill.played import told
from tests.drill.scenes import SCENES, Scene

ROOT = Path(__file__).parents[2]
TEXT = PAGE.read_text()
CODE = "".join(path.read_text() for path in (ROOT / "relay").rglob("*.py"))


def sections() -> dict[str, str]:
    """The text of each section that has an anchor, by that."""
    parts = re.split(r'<a id="([\w-]+)"></a>\n## ', TEXT)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_page_has_each_scene_in_its_index_and_in_a_section() -> None:
    names = [scene.name for scene in SCENES]
    assert [*samples(TEXT)] == names
    assert [one for one in sections() if one in names] == names
    without_scene = {"postgres"}  # the drill has no database server
    assert {*re.findall(r"\]\(#([\w-]+)\) \|", sections()["find"])} == {*names} | without_scene
    for name in names:
        for part in ("**Are events lost?**", "**How long?**", "**It means:**", "**Do"):
            assert part in sections()[name], (name, part)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_page_quotes_in_its_index_what_relay_says(scene: Scene) -> None:
    sample = unwrapped(samples(TEXT)[scene.name])
    (row,) = re.findall(rf"^\| (.+) \| \[.+\]\(#{scene.name}\) \|$", sections()["find"], re.MULTILINE)
    assert "`" in row
    for phrase in re.findall(r"`([^`]+)`", row):
        assert phrase in sample, phrase


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_page_shows_what_the_drill_waits_for(scene: Scene) -> None:
    """A sentence that changes is changed in the drill's table; the page has to be written anew then."""
    trouble, over = unwrapped(samples(TEXT)[scene.name]).split("\n-- ", 1)
    assert over.startswith(f"{scene.mended}: ")
    assert {*re.findall(r"([a-z ]+) after \d+ s", over.splitlines()[0].removeprefix(f"{scene.mended}:"))} == {
        f" {voice}" for voice in scene.over
    }
    said = "\n" + re.sub("^  ", "", trouble, flags=re.MULTILINE)
    for voice, patterns in scene.says.items():
        if voice not in SHOWN:
            assert re.search(rf"\nalso: .*\b{voice} after \d+ s", said), voice
            continue
        assert f"\n{SHOWN[voice]}, after " in said, voice
        for pattern in patterns.splitlines():
            assert re.search(pattern, said, re.MULTILINE), f"{voice}: {pattern}\n{said}"


def test_page_quotes_in_its_other_rows_what_relay_says() -> None:
    """Rows that lead to a section and beyond have words that no sample has: the code has them."""
    rows = re.findall(r"^\| (.+) \| .*\]\(#[\w-]+\), .* \|$", sections()["find"], re.MULTILINE)
    quoted = [phrase for row in rows for phrase in re.findall(r"`([^`]+)`", row)]
    assert quoted
    assert not [phrase for phrase in quoted if phrase not in CODE]


def test_page_quotes_messages_of_the_log_that_exist() -> None:
    quoted = re.findall(r"^  (?:warning|error) +(.+?) +\{", unwrapped(TEXT), re.MULTILINE)
    assert len({*quoted}) > 9
    for message in quoted:
        assert f'"{message}"' in CODE, message


def test_page_gives_commands_and_options_that_exist() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    given = re.findall(r"\brelay ([a-z][^#|&)\n]*)", re.sub(r" +# .*", "", "".join(blocks)))
    assert len(given) > 30
    for one in given:
        command: click.Command = relay
        for word in shlex.split(one):
            if isinstance(command, click.Group) and not word.startswith("-"):
                found = command.get_command(click.Context(command), word)
                assert found is not None, one
                command = found
            elif word.startswith("--"):
                assert word in {name for each in command.params for name in each.opts}, one


def test_page_names_rules_that_exist() -> None:
    rules = yaml.safe_load((ROOT / "systemd/monitoring/alerts.yml").read_text())
    known = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    named = {*re.findall(r"`(Relay\w+)`", TEXT)}
    assert named
    assert named <= known


def test_page_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PAGE.parent / target).exists(), target


def test_figures_times_and_line_breaks_do_not_change_the_page() -> None:
    before = "log, after 1 s:\n  error x at 2026-12-01T10:02:00Z, 120 pending; full in 1s if it goes on like this\n"
    after = "log, after 10 s:\n  error x at 2027-01-31T00:00:09Z,\n      1,300 pending\n"
    assert shape(before) == shape(after)
    assert shape(before) != shape(after.replace("x at", "y at"))


@pytest.mark.long
async def test_a_destination_that_is_away_is_told_by_every_voice(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (scene,) = [one for one in SCENES if one.name == "destination-away"]
    played = await play(scene, tmp_path, request.getfixturevalue("relay_forks"))
    silent = [one.voice for one in (*played.trouble, *played.over) if one.seconds is None]
    assert not silent, told(played)
