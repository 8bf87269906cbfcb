"""The filter `lookup`: what it sets, what is wrong with a file, and what happens when the file changes."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.config import ConfigError
from relay.config.load import load
from relay.config.plugins.registry import Registry
from relay_plugins.filters import Lookup, lookup
from tests.unit.plugins.filters.make import make

ROWS = 'id,team,"the owner"\nc-1,blue,Anna\n7,,"Bo, ""B"""\n\nc-2,red,\n'
FIELDS = {"p.team": "team", "p.owner": "the owner"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lookup, "LOOK_S", 0.01)
    path = tmp_path / "campaigns.csv"
    path.write_text(ROWS)
    return path


@pytest.fixture
async def opened(file: Path) -> AsyncIterator[Callable]:
    async with AsyncExitStack() as stack:

        async def run(**settings) -> Lookup:
            step = make(Lookup, **({"file": str(file), "key": "p.id", "fields": FIELDS} | settings))
            stack.push_async_callback(step.release)
            await step.open()
            return step

        yield run


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"p": {"id": "c-1"}}, {"p": {"id": "c-1", "team": "blue", "owner": "Anna"}}),
        ({"p": {"id": 7, "team": "x"}}, {"p": {"id": 7, "team": "x", "owner": 'Bo, "B"'}}),
        ({"p": {"id": "c-2", "owner": "x"}}, {"p": {"id": "c-2", "owner": "x", "team": "red"}}),
    ],
)
async def test_an_event_gets_the_values_of_its_row(opened, make_event, before, after):
    assert (await opened()).apply(make_event(before)).data == after


@pytest.mark.parametrize(
    "data",
    [
        {"p": {"id": "c-3"}}, {"p": {"id": None}}, {"p": {"id": True}}, {"p": {"id": ["c-1"]}}, {"p": {"id": ""}},
        {"p": 1}, {},
        {"p": {"id": "c-1", "team": "blue", "owner": "Anna"}},
    ],
)  # fmt: skip
async def test_an_event_without_a_row_or_with_the_values_stays_as_it_is(opened, make_event, data):
    event = make_event(data)
    assert (await opened()).apply(event) is event


async def test_the_key_may_be_in_any_column(opened, make_event, file):
    file.write_text(ROWS.replace("red,", "red,Eve"))
    step = await opened(column="the owner", key="q", fields={"r": "id"})
    assert step.apply(make_event({"q": "Anna"})).data == {"q": "Anna", "r": "c-1"}


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"", ":1: has no columns 'id'; columns: none"),
        (b"id,owner\n", ":1: has no columns 'team'; columns: id, owner"),
        (b"id,team,team\n", ":1: has 2 columns 'team'; columns: id, team, team"),
        (b'id,team\n"a\nb",x\nc\n', ":4: has 1 values, and the first line has 2 names"),
        (b"id,team\na,x\n\nb,y\na,z\n", ":5: has the same key as line 2"),
        (b"id,team\na,x\n,y\n", ":3: has no key"),
        (b"id,team\na,\xff\n", ":2: is not UTF-8"),
        (b'id,team\na,x\nb,"y\n', ":3: unexpected end of data"),
    ],
)
def test_a_mistake_in_the_file_has_file_and_line(file, content, mistake):
    file.write_bytes(content)
    step = make(Lookup, file=str(file), key="p.id", column="id", fields={"p.team": "team"})
    assert [*step.settings.warnings()] == [("file", f"{file}{mistake}; the connector waits until the file is mended")]


def test_a_file_that_cannot_be_read_is_a_warning_at_its_setting(file):
    conf = file.parent / "conf.d"
    conf.mkdir()
    table = '[filter.{0}]\ntype = "lookup"\nkey = "p.id"\nfile = "{1}"\nfields = {{ "p.team" = "team" }}\n'
    os.mkfifo(file.parent / "fifo")
    names = {"a": "/nowhere.csv", "b": f"{file.parent}/fifo", "c": str(file)}
    (conf / "50-a.toml").write_text("".join(table.format(*one) for one in names.items()))
    waits = "the connector waits until the file is mended"
    assert [str(one) for one in load([conf], Registry.discover([])).warnings if ".file" in one.key] == [
        f"50-a.toml:4: filter.a.file: /nowhere.csv cannot be read: No such file or directory; {waits}",
        f"50-a.toml:9: filter.b.file: {file.parent}/fifo cannot be read: is a FIFO, not a file; {waits}",
    ]
    (conf / "50-a.toml").write_text(table.format("a", "relative.csv"))
    with pytest.raises(ConfigError) as raised:
        load([conf], Registry.discover([]))
    assert str(raised.value) == (
        "50-a.toml:4: filter.a.file: write the path from / on: relay runs in another folder than you do"
    )


async def test_a_changed_file_is_read_anew_and_a_broken_one_leaves_the_rows(opened, make_event, file):
    step, event = await opened(), make_event({"p": {"id": "c-1"}})

    async def until(wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not wanted():
                await asyncio.sleep(0.005)

    with capture_logs() as logs:
        file.write_text(ROWS + "c-1,green,Eve\n")
        await until(lambda: step.notice != "")
        assert step.apply(event).data["p"]["team"] == "blue"
        assert step.notice == f"{file}:6: has the same key as line 2; the rows before stay in force"
        file.unlink()
        await until(lambda: "No such file" in step.notice)
        assert step.apply(event).data["p"]["team"] == "blue"
        file.write_text(ROWS.replace("blue", "green"))
        await until(lambda: step.notice == "")
        assert step.apply(event).data["p"]["team"] == "green"
    assert [(line["log_level"], line["event"], line.get("reason")) for line in logs] == [
        ("error", "lookup file cannot be used", f"{file}:6: has the same key as line 2"),
        ("error", "lookup file cannot be used", f"{file} cannot be read: No such file or directory"),
        ("info", "lookup file is read anew", None),
    ]


async def test_a_file_that_somebody_still_writes_is_left_for_later(opened, make_event, file, monkeypatch):
    step, looks, done = await opened(), count(), asyncio.Event()

    def look(path: str) -> tuple[int, int, int]:
        if (number := next(looks)) >= 5:
            loop.call_soon_threadsafe(done.set)
        return 0, 0, number

    loop = asyncio.get_running_loop()
    file.write_text("half a fi")
    monkeypatch.setattr(lookup, "_read_stamp", look)
    async with asyncio.timeout(10):
        await done.wait()
    assert step.notice == ""
    assert step.apply(make_event({"p": {"id": "c-1"}})).data["p"]["team"] == "blue"


async def test_the_watch_ends_with_the_filter(file):
    step = make(Lookup, file=str(file), key="p.id", fields=FIELDS)
    await step.open()
    await step.release()
    assert not [task for task in asyncio.all_tasks() if "watch" in task.get_name()]
