"""What an author writes passes type checkers as they come, and what cannot be is told by them already."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = """
from collections.abc import Iterator, Sequence

from pydantic import Field

from relay.api import (
    DELIVERED,
    Batch,
    Connector,
    ConnectorSettings,
    Contradiction,
    Duration,
    Event,
    EventSelection,
    Filter,
    FilterSettings,
    HttpUrl,
    Outcome,
    Reject,
    Retry,
    Secret,
    Unauthorized,
)


class Lake(Connector, type="lake", batch={"events": 10_000, "size": "8MiB", "age": "1m"}, retry={"max": "1m"}):
    class Settings(ConnectorSettings):
        url: HttpUrl
        token: Secret | None = None
        timeout: Duration = Field(default=60.0, gt=0, le=600)
        events: EventSelection = ("email",)

        def contradictions(self) -> Iterator[Contradiction]:
            if self.batch.events > 50_000:
                yield "batch", "batch.events: the lake takes 50,000 at most"

    settings: Settings

    async def deliver(self, batch: Batch) -> Sequence[Outcome]:
        return [await self.one(event) for event in batch]

    async def one(self, event: Event) -> Outcome:
        try:
            await self.post(self.settings.url, event.body, {"Idempotency-Key": event.id})
        except (Retry, Reject, Unauthorized) as outcome:
            return outcome
        return DELIVERED


class Pond(Lake, type="pond", batch={"age": "5m"}):
    pass


class Once(Filter, type="once"):
    stateful = True

    class Settings(FilterSettings):
        most: int = 1000

    settings: Settings

    def apply(self, event: Event) -> Event | None:
        return event if len(event.body) < self.settings.most else None


lake = Lake.Settings(type="lake", url="https://lake.example")
"""
GIVEN = 'batch={"age": "5m"}'
WRONG = {
    'batch={"age": 300}': 'TypedDict item "age" has type "str"',
    'batch={"ages": "5m"}': 'Extra key "ages" for TypedDict "BatchDefaults"',
    "window=5": 'Unexpected keyword argument "window" for "__init_subclass__"',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(PLUGIN)
    for number, wrong in enumerate(WRONG):
        (tmp_path / f"wrong{number}.py").write_text(PLUGIN.replace(GIVEN, wrong))
    return tmp_path


@pytest.mark.long
def test_mypy_strict_takes_a_plugin_and_no_wrong_default(folder: Path) -> None:
    """Without any plugin of mypy's."""
    cache = ROOT / ".mypy_cache" / "of_plugins"  # kept: from nothing it takes many seconds
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", "."]
    lines = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True).stdout.splitlines()
    errors = [line for line in lines if ": error: " in line]
    for number, said in enumerate(WRONG.values()):
        (error,) = [line for line in errors if line.startswith(f"wrong{number}.py:")]
        assert said in error
    assert not [line for line in errors if line.startswith("good.py:")]


def test_pyright_strict_takes_a_plugin_and_no_wrong_default(folder: Path) -> None:
    if (pyright := shutil.which("pyright")) is None:
        pytest.skip("pyright is not here: npm install --global pyright")
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [pyright, "--outputjson", "--pythonpath", sys.executable]
    found = json.loads(subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True).stdout)
    errors = {Path(one["file"]).stem for one in found["generalDiagnostics"] if one["severity"] == "error"}
    assert errors == {f"wrong{number}" for number in range(len(WRONG))}
