"""The filters on the page about filters do to the events on the page what the page says."""

import json
import re
from pathlib import Path

import pytest

from relay.config.load import load
from relay.config.plugins.make import make_filters
from relay.config.plugins.registry import Registry
from relay.testing import filtered

PAGE = (Path(__file__).parents[2] / "docs/guide/selection-and-filters.md").read_text()
EXAMPLES = re.findall(
    r"^```toml\n(\[filter\.(\w+)\][^`]*?)^```\n\n(?:```csv\n([^`]*)^```\n\n)?(?:```json\n([^`]*)^```)?",
    PAGE,
    re.MULTILINE,
)
"""The table of a filter, its name, the file that it names, and its events: before and after, or before alone if the
filter drops it."""
SECRET = "pepper"


@pytest.mark.parametrize(("table", "name", "rows", "events"), EXAMPLES, ids=[name for _, name, *_ in EXAMPLES])
async def test_a_filter_does_what_its_page_says(
    table: str, name: str, rows: str, events: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for credential in re.findall(r'credential = "(.*?)"', table):
        (tmp_path / credential).write_text(SECRET)
    (tmp_path / "rows.csv").write_text(rows)
    table = re.sub(r"^file +=.*$", f'file = "{tmp_path}/rows.csv"', table, flags=re.MULTILINE)
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "50-example.toml").write_text(f'{table}\n[connector.a]\ntype = "stdout"\nfilters = ["{name}"]\n')
    loaded = load([folder], Registry.discover([]))
    (step,) = make_filters(loaded.config, "a", tmp_path)
    await step.open()
    try:
        for pair in events.strip().split("\n\n"):
            before, *after = map(json.loads, pair.splitlines())
            assert [event.data for event in filtered(step, json.dumps(before).encode())] == after
    finally:
        await step.release()


def test_every_filter_has_an_example() -> None:
    named = {
        kind
        for table, *_, events in EXAMPLES
        if events
        for kind in re.findall(r'^type *= "(\w+)"', table, re.MULTILINE)
    }
    assert named | {"drop"} == {*Registry.discover([]).get_types("filter")}
