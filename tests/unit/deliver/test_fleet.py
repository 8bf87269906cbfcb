"""A fleet that goes over to another configuration: what is paused, and what goes wrong in the middle."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.api import Batch, ConnectorSettings, Event, Filter, FilterSettings, Retry, Secret
from relay.config.mistake import ConfigError
from relay.config.model import Config, Configured
from relay.state.replays import FolderReplays
from relay.store import Cursor, Pause, Replay, Unavailable
from tests.unit.deliver.test_lane import Bench, Scripted, bench

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
        await it.state.run(lambda db: db.execute("INSERT INTO pause VALUES ('it', 1.0, NULL)"))
        await it.fleet.heed_pauses()
        await it.send(5)
        read = it.state.read_pauses

        async def slowly() -> dict[str, Pause]:
            await asyncio.sleep(0.1)
            return await read()

        monkeypatch.setattr(it.state, "read_pauses", slowly)
        await it.fleet.change(otherwise(it.config, window=500), BUDGET_S)
        assert answers(it).batches == []
        await it.state.run(lambda db: db.execute("DELETE FROM pause"))
        await it.fleet.heed_pauses()
        await it.settled()
        assert answers(it).delivered.total() == 5


def fail(*_: Any) -> Any:
    raise Unavailable("database is locked")


@pytest.mark.parametrize("what", ["save", "read_pauses", "load_cursor"])
async def test_a_database_that_fails_has_no_lane_ended(tmp_path: Path, monkeypatch: Any, what: str) -> None:
    async with bench(tmp_path) as it:
        await it.send(5)
        await it.settled()
        both = otherwise(it.config, window=500)
        both = replace(both, connectors={**both.connectors, "new": replace(both.connectors["it"], name="new")})
        with monkeypatch.context() as patch:
            patch.setattr(it.state, what, fail)
            await it.send(5)
            await it.settled()
            with pytest.raises(Unavailable):
                await it.fleet.change(both, BUDGET_S)
        first = answers(it)
        await it.send(5)
        await it.settled()
        assert first.delivered.total() == 15
        assert (await it.fleet.change(both, BUDGET_S)).changed == ["it"]


async def test_what_failed_in_the_middle_is_made_good_by_the_next_change(tmp_path: Path, monkeypatch: Any) -> None:
    async with bench(tmp_path) as it:
        await it.send(5)
        await it.settled()

        async def is_not_saved() -> bool:
            return False

        changed = otherwise(it.config, window=500)
        with monkeypatch.context() as patch:
            patch.setattr(it.fleet, "_save_for_good", is_not_saved)
            patch.setattr(it.state, "load_cursor", fail)
            with pytest.raises(Unavailable):
                await it.fleet.change(changed, BUDGET_S)
        assert (await it.fleet.change(changed, BUDGET_S)).added == ["it"]
        await it.open()
        await it.send(5)
        await it.settled()
        assert answers(it).delivered.total() == 5, "the connector is a new one, and goes on where the old one was"


class Shut(Scripted, type="shut"):
    """Cannot be opened until `opens`, and tells its secret then."""

    class Settings(ConnectorSettings):
        url: Secret

    opens = asyncio.Event()
    closed = 0

    async def open(self) -> None:
        if not self.opens.is_set():
            raise ValueError(f"InvalidURL: {self.settings.url.reveal()}")
        await super().open()

    async def close(self) -> None:
        type(self).closed += 1

    async def probe(self) -> None:
        raise ValueError(f"no way to {self.settings.url.reveal()}")


@pytest.fixture
def shut(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HOOK", "https://a.example/hook/k3y-value")
    monkeypatch.setattr("relay.deliver.opener.AGAIN_S", 0.01)
    monkeypatch.setattr(Shut, "opens", asyncio.Event())
    monkeypatch.setattr(Shut, "closed", 0)
    return Configured("new", Shut, Shut.Settings.model_validate({"type": "shut", "url": {"env": "HOOK"}}))


async def test_a_connector_that_cannot_be_opened_fails_alone_and_is_opened_again(tmp_path: Path, shut: Any) -> None:
    """Looked at: its lane, a replay beside it, what is told of it, and that an attempt that failed is closed."""
    async with bench(tmp_path) as it:
        await it.send(5)
        await it.settled()
        FolderReplays(tmp_path).ask(Replay("new", Cursor(0, 0), 5))
        changes = await it.fleet.change(replace(it.config, connectors={**it.config.connectors, "new": shut}), BUDGET_S)
        problem = "cannot be opened: ValueError: InvalidURL: ..."
        assert (changes.added, changes.unready) == (
            ["new"],
            {"new": f"connector new: {problem}; tried again by itself"},
        )
        await it.send(5)
        await it.settled()
        first, second = it.fleet.lanes
        assert (first.fault, second.fault, second.cursor.position) == ("", problem, 5)
        await it.until(lambda: Shut.closed > 10 and len(it.fleet.replays) == 1)
        assert not any(second.destination.metrics.attempts.values())
        assert second.connector.log is not None
        Shut.opens.set()
        await it.until(lambda: second.cursor.position == 10 and not it.fleet.replays)
        assert second.fault == ""
        assert second.connector.delivered.total() == 10, "five live events, and five of the replay"  # type: ignore[attr-defined]
        assert answers(it).delivered.total() == 10


async def test_a_destination_that_cannot_be_reached_is_told_without_its_secret(tmp_path: Path, shut: Any) -> None:
    Shut.opens.set()
    async with bench(tmp_path) as it:
        added = replace(it.config, connectors={"new": shut})
        assert (await it.fleet.change(added, BUDGET_S)).unready == {"new": "connector new: no way to ..."}


async def test_a_lane_whose_connector_never_opens_says_so_and_stops_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("relay.deliver.opener.SLOW_S", 0.01)
    opening, ended = asyncio.Event(), asyncio.Event()

    async def never(_: Scripted) -> None:
        opening.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with capture_logs() as logs:
        async with bench(tmp_path) as it:
            monkeypatch.setattr(Scripted, "open", never)
            await it.fleet.change(otherwise(it.config, window=500, open_timeout=3600.0), BUDGET_S)
            await opening.wait()
            (lane,) = it.fleet.lanes
            await it.until(lambda: bool(lane.fault))
            slow = "it is not ready after 0.01s, and has 3600s (open_timeout)"
            assert lane.fault == f"cannot be opened: {slow}"
    assert ended.is_set()
    (told,) = [line for line in logs if line["event"] == "connector is not open yet"]
    assert (told["connector"], told["reason"]) == (lane.name, slow)


async def test_a_connector_that_exceeds_its_open_timeout_is_opened_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("relay.deliver.opener.AGAIN_S", 0.01)
    hangs, tries = True, 0

    async def open_slowly(_: Scripted) -> None:
        nonlocal tries
        tries += 1
        await asyncio.sleep(3600 if hangs else 0)

    async with bench(tmp_path) as it:
        monkeypatch.setattr(Scripted, "open", open_slowly)
        changes = await it.fleet.change(otherwise(it.config, open_timeout=0.01), BUDGET_S)
        assert "cannot be opened: it was not ready within 0.01s (open_timeout)" in changes.unready["it"]
        await it.until(lambda: tries >= 2)
        hangs = False
        await it.until(lambda: not it.fleet.lanes[0].fault)


class Picky(Filter, type="picky_about_files"):
    """Cannot be made."""

    def __init__(self, name: str, settings: FilterSettings) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/nope")

    def apply(self, event: Event) -> Event:
        return event


async def test_what_cannot_be_made_ends_no_lane(tmp_path: Path) -> None:
    """Looked at: a filter, a connector; sources are made by the daemon before it asks the fleet."""
    async with bench(tmp_path) as it:
        table = Configured("picky", Picky, FilterSettings(type="picky_about_files"), "60.toml", 7)
        changed = replace(otherwise(it.config, filters=("picky",)), filters={"picky": table})  # type: ignore[dict-item]
        with pytest.raises(ConfigError) as refused:
            await it.fleet.change(changed, BUDGET_S)
        why = "FileNotFoundError: [Errno 2] No such file or directory: '/nope'"
        assert [*map(str, refused.value.mistakes)] == [f"60.toml:7: filter.picky: cannot be made: {why}"]
        await it.send(5)
        await it.settled()
        assert answers(it).delivered.total() == 5


async def test_a_replay_goes_on_with_the_connector_that_has_changed(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await it.send(5)
        await it.settled()

        def busy(_: Batch) -> None:
            raise Retry("busy")

        answers(it).answer = busy
        FolderReplays(tmp_path).ask(Replay("it", Cursor(0, 0), 5))
        await it.until(lambda: bool(it.fleet.replays) and len(answers(it).batches) > 1)
        await it.fleet.save()
        await it.fleet.change(otherwise(it.config, window=500), BUDGET_S)
        await it.until(lambda: not it.fleet.replays)
        assert answers(it).delivered.total() == 5


async def test_a_replay_requested_during_a_change_begins_after_the_change(tmp_path: Path) -> None:
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
            await it.until(lambda: it.fleet.lanes[0].is_stopping)
            FolderReplays(tmp_path).ask(Replay("it", Cursor(0, 0), 5))
            assert it.fleet._group is not None
            await it.fleet._heed_admins(it.fleet._group)
            held.set()
            await changing
        await it.until(lambda: not it.fleet.replays and answers(it).delivered.total() == 5)
        assert first.delivered.total() == 6
