"""A type whose library is not installed: the check says what to install, and nobody else notices."""

import json
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import relay as command
from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import KINDS, Registry
from relay.plugin_places import OWN
from relay.proposal.available import list_available

LAKE = """
from typing import ClassVar, Literal
from pydantic import field_validator
from relay.api import Batch, Connector, ConnectorSettings, require_library

class Lake(Connector, type="lake"):
    requires: ClassVar = {"relay_test_store": "relay-lake[store]", "relay_test_table": "relay-lake[store]"}

    class Settings(ConnectorSettings):
        format: str = "ndjson"

        @field_validator("format")
        @classmethod
        def _check_format(cls, format: str) -> str:
            if format == "parquet":
                require_library("relay_test_parquet", "relay-lake[parquet]>=2")
            return format

    async def open(self) -> None:
        import relay_test_store

    async def deliver(self, batch: Batch) -> None: ...

class Pond(Connector, type="pond"):
    async def deliver(self, batch: Batch) -> None: ...
"""
SOURCE = '[source.braze]\ntype = "currents"\npath = "/c"\nallow = ["unix"]\n'
TABLE = '[connector.lake]\ntype = "lake"\n'
MISSING = "needs relay_test_store and relay_test_table: pip install 'relay-lake[store]'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "lake.py").write_text(LAKE)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "20-braze.toml").write_text(SOURCE)
    return tmp_path


def run(folder: Path, *words: object) -> Result:
    return CliRunner().invoke(command, [*map(str, words), "--plugins", str(folder / "plugins")])


def test_a_type_without_its_library_is_a_mistake_of_its_line(folder: Path) -> None:
    (folder / "conf.d" / "60-lake.toml").write_text(f"{TABLE}format = 5\n")
    (folder / "conf.d" / "70-pond.toml").write_text('[connector.pond]\ntype = "pond"\n')
    answer = run(folder, "check", folder / "conf.d")
    assert answer.exit_code == 78
    assert [line for line in answer.output.splitlines() if line.startswith("60-lake")] == [
        f"60-lake.toml:2: connector.lake.type: lake {MISSING}",
        "60-lake.toml:3: connector.lake.format: expected a text in quotes",
    ]


def test_a_type_without_a_table_or_switched_off_needs_no_library(folder: Path) -> None:
    (folder / "conf.d" / "70-pond.toml").write_text('[connector.pond]\ntype = "pond"\n')
    registry = Registry.discover([folder / "plugins"])
    assert [*load([folder / "conf.d"], registry).config.connectors] == ["pond"]
    (folder / "conf.d" / "60-lake.toml").write_text(f"{TABLE}enabled = false\n")
    (warning,) = load([folder / "conf.d"], registry).warnings
    assert str(warning) == f"60-lake.toml:2: connector.lake.type: lake {MISSING}"


def test_a_library_that_is_installed_later_takes_no_restart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "conf.d" / "60-lake.toml").write_text(TABLE)
    registry = Registry.discover([folder / "plugins"])
    with pytest.raises(ConfigError, match="needs relay_test_store and relay_test_table"):
        load([folder / "conf.d"], registry)
    for name in ("relay_test_store", "relay_test_table"):
        (folder / f"{name}.py").write_text("raise AssertionError('it is used before it is needed')")
    monkeypatch.syspath_prepend(str(folder))
    assert [*load([folder / "conf.d"], registry).config.connectors] == ["lake"]
    assert "relay_test_store" not in sys.modules


def test_a_library_that_a_setting_needs_is_a_mistake_of_the_setting(folder: Path) -> None:
    text = LAKE.replace('"relay_test_store": "relay-lake[store]", "relay_test_table": "relay-lake[store]"', "")
    (folder / "plugins" / "lake.py").write_text(text)
    (folder / "conf.d" / "60-lake.toml").write_text(f'{TABLE}format = "parquet"\n')
    answer = run(folder, "check", folder / "conf.d")
    said = "60-lake.toml:3: connector.lake.format: needs relay_test_parquet: pip install 'relay-lake[parquet]>=2'"
    assert answer.output.splitlines()[0] == said


def test_lists_of_plugins_and_types_say_which_library_is_missing(folder: Path) -> None:
    assert f"    connector lake, connector pond\n    connector lake {MISSING}\n" in run(folder, "plugins").output
    (lake,) = [one for one in json.loads(run(folder, "plugins", "--json").output) if one["name"] == "lake"]
    assert (lake["error"], lake["notes"]) == (None, [f"connector lake {MISSING}"])
    found = list_available([folder / "plugins"], {})
    assert {one.type: one.missing for one in found.types if one.plugin == "lake"} == {"lake": MISSING, "pond": ""}
    assert [one.notes for one in found.plugins if one.name == "lake"] == [[f"connector lake {MISSING}"]]


@pytest.mark.parametrize(
    ("requires", "wrong"),
    [
        ('["relay_test_store"]', "Lake.requires: Input should be "),
        ('{"relay-store": "relay-store"}', "Lake.requires: expected the name of an import and what"),
        ('{"relay_store": "relay-store\\nother"}', "Lake.requires: expected the name of an import and what"),
    ],
)
def test_a_list_of_libraries_that_is_wrong_makes_a_broken_plugin(folder: Path, requires: str, wrong: str) -> None:
    (folder / "plugins" / "lake.py").write_text(LAKE.replace("requires: ClassVar = {", f"requires = {requires} #"))
    assert f"BROKEN: TypeError: {wrong}" in run(folder, "plugins").output


def test_relay_has_an_extra_for_each_library_and_all_has_each_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    registry = Registry.discover(())
    wanted = [what for kind in KINDS for one in registry.get_types(kind).values() for what in one.requires.values()]
    assert {*wanted} <= {f"{OWN}[{extra}]" for extra in extras}
    assert extras["all"] == [f"{OWN}[{','.join(extra for extra in extras if extra != 'all')}]"]
