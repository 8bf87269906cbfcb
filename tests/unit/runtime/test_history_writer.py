"""The history ends nothing: neither what cannot be written, nor what cannot be looked up."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.api import ConnectorSettings, Secret
from relay.cli.main import relay
from relay.config.model import Config, HistorySettings, JournalSettings
from relay.config.redaction import LogRedaction
from relay.engine import open_store
from relay.runtime.condition_watch import ConditionWatch
from relay.runtime.history_writer import WAITING, History
from relay.state.database import StateDatabase
from relay.state.history import FolderHistory
from relay.status.model import Refusing
from relay.store import Entry
from tests.unit.status.statuses import NOON, a_lane, a_source, a_status


async def test_a_bug_costs_the_entry_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, loop, add = asyncio.Event(), asyncio.get_running_loop(), FolderHistory.add

    def fail(*_: Any) -> None:
        loop.call_soon_threadsafe(asked.set)
        raise KeyError("a bug")

    def fail_once(*_: Any) -> None:
        monkeypatch.setattr(FolderHistory, "add", add)
        raise KeyError("another")

    monkeypatch.setattr(FolderHistory, "find_done", fail)
    monkeypatch.setattr(FolderHistory, "add", fail_once)
    StateDatabase(tmp_path).close()
    config = Config()
    one = History(open_store(tmp_path, JournalSettings()), lambda: config, ConditionWatch(), every=0.01)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        tasks = [group.create_task(work, name="history") for work in (one.run(), one.keep_checking())]
        await asked.wait()
        while not FolderHistory(tmp_path).read():
            one.note(Entry("failing", "journal", "good"))
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()


async def test_entries_that_wait_are_bounded(tmp_path: Path) -> None:
    StateDatabase(tmp_path).close()
    config = Config()
    one = History(open_store(tmp_path, JournalSettings()), lambda: config, ConditionWatch())
    for number in range(WAITING + 10):
        one.note(Entry("failing", "journal", str(number)))
    await one.end()
    assert len(FolderHistory(tmp_path).read()) == WAITING


async def test_entries_are_kept_as_the_settings_in_force_say(tmp_path: Path) -> None:
    StateDatabase(tmp_path).close()
    config = Config()
    one = History(open_store(tmp_path, JournalSettings()), lambda: config, ConditionWatch())
    for settings, kept in (
        ({"max_entries": 3}, {"3", "4"}),
        ({"max_entries": 9, "keep": 60.0}, {"3", "4"}),
        ({"max_entries": 9, "keep": 86400.0}, {"old", "0", "1", "2", "3", "4"}),
    ):
        config = Config(history=HistorySettings().model_copy(update=settings))
        one.note(Entry("failing", "journal", "old", at=time.time() - 3600))
        for number in range(5):
            one.note(Entry("failing", "journal", str(number)))
        await one.end()
        told = [entry.sentence for entry in FolderHistory(tmp_path).read() if entry.kind == "failing"]
        assert kept <= {*told}, settings
        assert ("old" in told) is ("old" in kept)
        assert len(told) < settings["max_entries"], "the entry of the stop is kept, too"


def read_as_written(folder: Path) -> list[Entry]:
    """Read the entries in the order of writing: here statuses have times of their own."""
    return sorted(FolderHistory(folder).read(), key=lambda one: one.number)


async def test_a_source_that_refuses_is_not_told_anew_after_a_restart(tmp_path: Path) -> None:
    StateDatabase(tmp_path).close()
    refusing = Refusing(since=NOON - 600, status=401, reason="wrong token", deadline=None)
    config, bad = Config(), a_status(sources=[a_source(refusing=refusing)])
    for looks, told in (([bad], ["source_refusing"]), ([bad], []), ([bad, a_status()], ["source_recovered"])):
        watch, before = ConditionWatch(), len(FolderHistory(tmp_path).read())
        one = History(open_store(tmp_path, JournalSettings()), lambda: config, watch)
        await one.start()
        for status in looks:
            watch.check(status)
        await one.end()
        kinds = [entry.kind for entry in read_as_written(tmp_path)[before:]]
        assert kinds == ["started", *told, "stopped"]


async def test_what_was_counted_since_the_last_entry_is_told_at_a_stop(tmp_path: Path) -> None:
    StateDatabase(tmp_path).close()
    config, watch = Config(), ConditionWatch()
    one = History(open_store(tmp_path, JournalSettings()), lambda: config, watch)
    for parked in (0, 3, 5):
        watch.check(a_status(lanes=[a_lane(parked=parked)]))
    await one.end()
    told = [(entry.kind, entry.about.get("number")) for entry in read_as_written(tmp_path)]
    assert told == [("parked", 3), ("parked", 2), ("stopped", None)]


def test_history_since_shows_what_is_younger(tmp_path: Path) -> None:
    StateDatabase(tmp_path).close()
    ages = {"old": 7200, "new": 60}
    FolderHistory(tmp_path).add([Entry("failing", "journal", said, at=time.time() - age) for said, age in ages.items()])
    asked = ["history", "--state", str(tmp_path)]
    for more, shown in (([], ["old", "new"]), (["--since", "1h"], ["new"])):
        lines = CliRunner().invoke(relay, [*asked, *more]).output.splitlines()
        assert [line.split()[-1] for line in lines] == shown


async def test_a_stop_is_written_behind_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StateDatabase(tmp_path).close()
    begun, go_on, add = threading.Event(), threading.Event(), FolderHistory.add

    def add_slowly(*given: Any) -> None:
        begun.set()
        go_on.wait(30)
        add(*given)

    monkeypatch.setattr(FolderHistory, "add", add_slowly)
    config = Config()
    one = History(open_store(tmp_path, JournalSettings()), lambda: config, ConditionWatch())
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        writing = group.create_task(one.run(), name="history")
        await one.start()
        while not begun.is_set():
            await asyncio.sleep(0.01)
        monkeypatch.setattr(FolderHistory, "add", add)
        ending = group.create_task(one.end(), name="end")
        await asyncio.wait([ending], timeout=0.2)
        go_on.set()
        await ending
        writing.cancel()
    assert [entry.kind for entry in FolderHistory(tmp_path).read()] == ["started", "stopped"]


class Chatty(ConnectorSettings):
    token: Secret


async def test_entries_hide_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Siblings: the sentence, by whom, and what programs read."""
    monkeypatch.setenv("CHATTY", "hunter2")
    redaction = LogRedaction()
    redaction.note("connector", "heap", Chatty(type="chatty", token=Secret("env", "CHATTY")))
    monkeypatch.setattr("relay.runtime.history_writer.LOG", redaction)
    StateDatabase(tmp_path).close()
    config = Config()
    one = History(open_store(tmp_path, JournalSettings()), lambda: config, ConditionWatch())
    one.note(Entry("failing", "connector heap", "said hunter2", by="hunter2 of ops", about={"why": ["not hunter2"]}))
    await one.end()
    entry = FolderHistory(tmp_path).read()[0]
    assert (entry.sentence, entry.by, entry.about) == ("said ...", "... of ops", {"why": ["not ..."]})
