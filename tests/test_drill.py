"""The night drill: its page tells what it plays, and one of its scenes is played."""

import re
from pathlib import Path

import pytest
import yaml

from tests.drill.__main__ import play
from tests.drill.page import PAGE, samples, shape
from tests.drill.played import told
from tests.drill.scenes import SCENES, Scene

ROOT = Path(__file__).parents[1]
TEXT = PAGE.read_text()


def test_page_has_each_scene_in_its_index_and_in_a_section() -> None:
    names = [scene.name for scene in SCENES]
    assert re.findall(r"\| \[.+\]\(#([\w-]+)\) \|", TEXT) == names
    assert re.findall(r'<a id="([\w-]+)"></a>\n## ', TEXT) == names
    assert [*samples(TEXT)] == names
    sections = TEXT.split('<a id="')[1:]
    assert all("**It means:**" in one and "**Do:**" in one for one in sections)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_page_shows_what_the_drill_waits_for(scene: Scene) -> None:
    """A sentence that changes is changed in the drill's table; the page has to be written anew then."""
    trouble, over = samples(TEXT)[scene.name].split("\n-- ", 1)
    assert over.splitlines()[0] == scene.mended
    for said, wanted in ((trouble, scene.says), (over, scene.over)):
        for voice, patterns in wanted.items():
            (part,) = re.findall(rf"^ +\d+ s  {voice} .*\n(?: {{19}}.*\n|\n)*", f"{said}\n", re.MULTILINE)
            plain = re.sub(r"^.{19}", "", part, flags=re.MULTILINE)
            for pattern in patterns.splitlines():
                assert re.search(pattern, plain, re.MULTILINE), f"{voice}: {pattern}\n{part}"


def test_page_quotes_messages_of_the_log_that_exist() -> None:
    code = "".join(path.read_text() for path in (ROOT / "relay").rglob("*.py"))
    quoted = re.findall(r"(?:log|whole log) +(?:info|warning|error)  (.+?)  \{", TEXT)
    assert len({*quoted}) > 10
    for message in quoted:
        assert f'"{message}"' in code, message


def test_page_names_rules_that_exist() -> None:
    rules = yaml.safe_load((ROOT / "systemd/monitoring/alerts.yml").read_text())
    known = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    named = {*re.findall(r"`(Relay\w+)`", TEXT)}
    assert named
    assert named <= known


def test_page_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PAGE.parent / target).exists(), target


def test_figures_and_times_do_not_change_the_page() -> None:
    before = "  1 s  log  error  x at 2026-12-01T10:02:00Z, 120 pending\n  2 s  status  exit code 1\n"
    after = "  2 s  status  exit code 1\n 10 s  log  error  x at 2027-01-31T00:00:09Z, 1,300 pending\n"
    assert shape(before) == shape(after)
    assert shape(before) != shape(after.replace("x at", "y at"))


async def test_a_destination_that_is_away_is_told_by_every_voice(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (scene,) = [one for one in SCENES if one.name == "destination-away"]
    played = await play(scene, tmp_path, request.getfixturevalue("_forks"))
    silent = [one.voice for one in (*played.trouble, *played.over) if one.seconds is None]
    assert not silent, told(played)
