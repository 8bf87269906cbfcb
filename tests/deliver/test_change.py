"""A fleet that goes over to another configuration: what is paused, and what goes wrong in the middle."""

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.api import Batch, ConnectorSettings, Retry, Secret
from relay.config import Config, Configured
from relay.deliver import NotOpened
from relay.journal import Cursor, Replay
from relay.journal.replays import ask_replay
from tests.deliver.test_lane import Bench, Scripted, bench

BUDGET_S = 5.0


def otherwise(config: Config, **settings: Any) -> Config:
    """The same connector with other settings."""
    one = config.connectors["it"]
    changed = replace(one, settings=one.settings.model_copy(update=settings))
    return replace(config, connectors={"it": changed})


def answers(it: Bench) -> Scripted:
    return it.connector


async def test_a_paused_connector_that_changes_begins_no_attempt(tmp_path: Path, monkeypatch: Any) -> None:
    async with bench(tmp_path) as it:
        await it.state.run(lambda db: db.execute("INSERT INTO pause VALUES ('it', 1.0)"))
        await it.fleet.heed_pauses()
        await it.send(5)
        read = it.state.pauses

        async def slowly() -> dict[str, float]:
            await asyncio.sleep(0.1)
            return await read()

        monkeypatch.setattr(it.state, "pauses", slowly)
        await it.fleet.change(otherwise(it.config, window=500), BUDGET_S)
        assert answers(it).batches == []
        await it.state.run(lambda db: db.execute("DELETE FROM pause"))
        await it.fleet.heed_pauses()
        await it.settled()
        assert answers(it).delivered.total() == 5


async def test_what_failed_in_the_middle_is_made_good_by_the_next_change(tmp_path: Path, monkeypatch: Any) -> None:
    async with bench(tmp_path) as it:
        await it.send(5)
        await it.settled()
        read, fails = it.state.cursor, True

        async def locked(connector: str) -> Any:
            if fails:
                raise sqlite3.OperationalError("database is locked")
            return await read(connector)

        monkeypatch.setattr(it.state, "cursor", locked)
        changed = otherwise(it.config, window=500)
        with pytest.raises(sqlite3.OperationalError):
            await it.fleet.change(changed, BUDGET_S)
        fails = False
        assert (await it.fleet.change(changed, BUDGET_S)).added == ["it"]
        await it.send(5)
        await it.settled()
        assert answers(it).delivered.total() == 5, "the connector is a new one, and goes on where the old one was"


async def test_why_a_connector_cannot_be_opened_or_reached_has_no_secret(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOOK", "https://a.example/hook/k3y-value")

    class Telling(Scripted, type="telling"):
        class Settings(ConnectorSettings):
            url: Secret

        opens = False

        async def open(self) -> None:
            if not self.opens:
                await self.probe()

        async def probe(self) -> None:
            raise ValueError(f"InvalidURL: {self.settings.url.reveal()}")

    settings = Telling.Settings.model_validate({"type": "telling", "url": {"env": "HOOK"}})
    async with bench(tmp_path) as it:
        added = replace(it.config, connectors={"new": Configured("new", Telling, settings)})  # type: ignore[dict-item,arg-type]
        with pytest.raises(NotOpened, match=r"new cannot be opened: ValueError: InvalidURL: \.\.\.$"):
            await it.fleet.change(added, BUDGET_S)
        Telling.opens = True
        assert (await it.fleet.change(added, BUDGET_S)).doubts == ["connector new: InvalidURL: ..."]


async def test_a_replay_goes_on_with_the_connector_that_has_changed(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(5)
        await it.settled()

        def busy(_: Batch) -> None:
            raise Retry("busy")

        answers(it).answer = busy
        ask_replay(tmp_path, Replay("it", Cursor(0, 0), 5))
        await it.until(lambda: bool(it.fleet.replays) and len(answers(it).batches) > 1)
        await it.fleet.save()
        await it.fleet.change(otherwise(it.config, window=500), BUDGET_S)
        await it.until(lambda: not it.fleet.replays)
        assert answers(it).delivered.total() == 5


async def test_a_replay_that_is_asked_for_while_its_connector_changes_begins_after_that(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(5)
        await it.settled()
        first, held = answers(it), asyncio.Event()
        deliver, asked = first.deliver, list[Batch]()

        async def slowly(batch: Batch) -> Any:
            asked.append(batch)
            await held.wait()
            return await deliver(batch)

        first.deliver = slowly  # type: ignore[method-assign]
        await it.send(1)
        await it.until(lambda: bool(asked))
        async with asyncio.TaskGroup() as group:
            changing = group.create_task(it.fleet.change(otherwise(it.config, window=500), BUDGET_S), name="change")
            await it.until(lambda: it.fleet.lanes[0].stops)
            ask_replay(tmp_path, Replay("it", Cursor(0, 0), 5))
            await it.fleet._look_again()
            held.set()
            await changing
        await it.until(lambda: not it.fleet.replays and answers(it).delivered.total() == 5)
        assert first.delivered.total() == 6
