"""The README tells what the code does: settings with their defaults, commands, files."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter

from relay.api import ConnectorSettings, Settings, SourceSettings
from relay.cli.main import COMMANDS
from relay.config import (
    ErasureSettings,
    IngestSettings,
    JournalSettings,
    LogSettings,
    ParkedSettings,
    Registry,
    RuntimeSettings,
    TlsSettings,
)

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
REGISTRY = Registry.discover(())


def own(kind: str, name: str, base: type[Settings]) -> tuple[type[Settings], set[str]]:
    """A plugin type's settings model, and the fields that every plugin of its kind has."""
    plugin = REGISTRY.types(kind)[name]
    return plugin.Settings, {field.alias or name for name, field in base.model_fields.items()}


TABLES: dict[str, tuple[type[Settings], set[str]]] = {
    "`[ingest]`": (IngestSettings, set()),
    "`[ingest.tls]`": (TlsSettings, set()),
    "`[journal]`": (JournalSettings, set()),
    "`[parked]`": (ParkedSettings, set()),
    "`[erasure]`": (ErasureSettings, set()),
    "`[runtime]`": (RuntimeSettings, set()),
    "`[log]`": (LogSettings, set()),
    "every source": (SourceSettings, set()),
    "source type `json`": own("source", "json", SourceSettings),
    "source type `heap_segments`": own("source", "heap_segments", SourceSettings),
    "every connector": (ConnectorSettings, set()),
    "connector type `heap`": own("connector", "heap", ConnectorSettings),
    "connector type `braze_cohorts`": own("connector", "braze_cohorts", ConnectorSettings),
    "connector type `http`": own("connector", "http", ConnectorSettings),
    "connector type `file`": own("connector", "file", ConnectorSettings),
    "filter type `redact`": (REGISTRY.types("filter")["redact"].Settings, {"type"}),
    "filter types `keep`, `drop`": (REGISTRY.types("filter")["keep"].Settings, {"type"}),
    "filter type `sample`": (REGISTRY.types("filter")["sample"].Settings, {"type"}),
}


def rows(title: str) -> dict[str, str]:
    """The settings a table names, each with its default as written."""
    _, _, after = README.partition(f"| {title} | default |")
    assert after, f"the README has no table {title}"
    found: dict[str, str] = {}
    for line in after.split("\n\n")[0].splitlines()[2:]:
        names, default = (cell.strip() for cell in line.replace("\\|", "/").split("|")[1:3])
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), default.strip("`"))
    return found


@pytest.mark.parametrize("title", TABLES)
def test_every_setting_is_documented_and_none_that_does_not_exist(title: str) -> None:
    model, common = TABLES[title]
    fields = {field.alias or name for name, field in model.model_fields.items()}
    overridden = {name for name in common if name in ("batch", "concurrency")}
    assert rows(title).keys() - overridden == fields - common


@pytest.mark.parametrize("title", TABLES)
def test_the_documented_defaults_are_the_real_ones(title: str) -> None:
    model, _ = TABLES[title]
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for name, written in rows(title).items():
        if written:
            kind: Any = Annotated[fields[name].annotation, "a setting", *fields[name].metadata]
            value = TypeAdapter(kind).validate_python(tomllib.loads(f"value = {written}")["value"])
            assert value == fields[name].get_default(call_default_factory=True), f"{title} {name}"


def test_every_command_is_documented() -> None:
    added = {command.name for command in REGISTRY.commands}
    assert set(re.findall(r"^\| `relay (\w+)", README, re.MULTILINE)) == {*COMMANDS, *added}


def test_every_link_into_the_repository_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"DEMO_OUTPUT|^PERFORMANCE$|TODO|FIXME", README, re.MULTILINE)


def test_the_examples_run(tmp_path: Path) -> None:
    chat, outcomes, tests = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = "from relay.api import DELIVERED, Event, Outcome, Reject, Retry, Unauthorized\n"
    one_by_one = (
        chat.split("    async def deliver")[0].replace("Chat", "OneByOne").replace('"chat"', '"one"') + outcomes
    )
    suite = tests.split("async def test_")[0].replace("Chat", "OneByOne").replace("from chat", "from one")
    (tmp_path / "chat.py").write_text(chat)
    (tmp_path / "one.py").write_text(names + one_by_one)
    (tmp_path / "test_chat.py").write_text(tests)
    (tmp_path / "test_one.py").write_text(suite)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\npythonpath = .\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout
