"""Several workers as one, while they go and come."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from relay.alerts import Alerts
from relay.config.mistake import Mistake
from relay.config.model import Config
from relay.engine import open_store
from relay.runtime.control import View
from relay.runtime.worker import Worker
from relay.state.database import StateDatabase
from relay.state.layout import make_worker_folder
from relay.status.model import Status
from relay.status.reload_result import ReloadChange, ReloadResult, ReloadWarning
from relay.store import Cursor
from relay.workers.control import JointView
from tests.unit.admin.shown_daemon import CONFIG
from tests.unit.status.statuses import a_lane, a_source, a_status

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def counted(started: float, accepted: int) -> Status:
    lane = a_lane(accepted=accepted, attempts={"delivered": accepted})
    return a_status(started=started, sources=[a_source(accepted=accepted)], lanes=[lane])


@dataclass
class Faked:
    """What the supervisor sees of a worker, without the worker."""

    worker: Worker
    over: bool = False
    status: Status = field(default_factory=lambda: counted(1.0, 1))
    hold: Callable[[str], Awaitable[object]] | None = None
    """Called with the path before it answers."""
    anew: int = 0
    has_died: bool = False
    newer: Sequence[str] = ()
    reloaded: ReloadResult = field(default_factory=ReloadResult)

    def restart(self) -> None:
        self.anew += 1

    async def answer(self, request: web.Request) -> web.StreamResponse:
        status, hold = self.status, self.hold
        if hold is not None:
            await hold(request.path)
        if request.path == "/status":
            return web.Response(body=msgspec.json.encode(status))
        if request.path == "/reload/value":
            return web.Response(body=msgspec.json.encode(self.reloaded))
        return web.Response(status=500, text="500 Internal Server Error")


@asynccontextmanager
async def serve(workers: Sequence[Faked]) -> AsyncIterator[None]:
    """Answer at the sockets of these workers."""
    async with AsyncExitStack() as stack:
        for one in workers:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", one.answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.UnixSite(runner, str(one.worker.admin)).start()
        yield


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[Faked]]:
    found = [Faked(Worker(number, 2, str(tmp_path), (), False, "{}")) for number in range(2)]
    async with serve(found):
        yield found


def joint(folder: Path, workers: list[Faked], config: Config = CONFIG, new: Config = CONFIG) -> JointView:
    return JointView(config, lambda: new, open_store(folder, config.journal), folder, workers)


async def test_two_status_requests_during_a_restart_count_each_process_once(
    tmp_path: Path, workers: list[Faked]
) -> None:
    view, answered, go = joint(tmp_path, workers), asyncio.Event(), asyncio.Event()
    look = view._ask_status

    async def looked(worker: Worker) -> Status | None:
        status = await look(worker)
        answered.set()
        return status

    async def late(_: str) -> None:
        workers[1].hold = None
        await go.wait()

    view._ask_status = looked  # type: ignore[method-assign]
    workers[0].status, workers[1].hold = counted(1.0, 100), late
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        first = group.create_task(view.status(), name="the first look")
        await answered.wait()
        workers[0].status = counted(2.0, 10)
        await view.status()
        go.set()
        await first
    for _ in range(2):
        assert [one.attempts for one in (await view.status()).lanes] == [{"delivered": 100 + 10 + 1}]


async def test_a_worker_that_only_starts_is_not_away(tmp_path: Path, workers: list[Faked]) -> None:
    third = Faked(Worker(2, 2, str(tmp_path), (), False, "{}"))
    view = joint(tmp_path, [*workers, third])
    found = []
    for third.has_died in (False, True):
        found.append([one.away for one in (await view.status()).workers])
    assert found == [[False, False, False], [False, False, True]]


async def test_no_connector_is_forgotten_in_the_middle_of_a_reload_that_adds_it(
    tmp_path: Path, workers: list[Faked]
) -> None:
    state = StateDatabase(tmp_path)
    await state.save({"heap": Cursor(0, 4)}, 10)
    view, reloading, go = joint(tmp_path, workers, Config(), CONFIG), asyncio.Event(), asyncio.Event()
    for one in workers:
        one.status = a_status(lanes=[])

    async def late(path: str) -> None:
        if path == "/reload/value":
            reloading.set()
            await go.wait()

    workers[0].hold = late

    async def forget() -> None:
        await reloading.wait()
        await view.forget("heap")

    async def go_on() -> None:
        await reloading.wait()
        while not (view._reloading._waiters or await state.load_cursor("heap") is None):
            await asyncio.sleep(0.01)
        go.set()

    async with asyncio.timeout(30):
        reloaded, forgotten, _ = await asyncio.gather(view.reload(), forget(), go_on(), return_exceptions=True)
    assert isinstance(reloaded, ReloadResult)
    assert "heap is configured" in str(forgotten)
    assert await state.load_cursor("heap") == Cursor(0, 4)
    state.close()


async def test_what_a_worker_says_that_is_no_answer_is_told_and_no_bug(tmp_path: Path, workers: list[Faked]) -> None:
    state = StateDatabase(tmp_path)
    with pytest.raises(OSError, match="worker 0: "):
        await joint(tmp_path, workers).pause("heap", None)
    state.close()


async def test_a_bug_in_a_reload_is_told_and_ends_nothing(tmp_path: Path, workers: list[Faked]) -> None:
    def broken() -> Config:
        raise ZeroDivisionError("oops")

    with capture_logs() as logs:
        outcome = await JointView(CONFIG, broken, open_store(tmp_path, CONFIG.journal), tmp_path, workers).reload()
    assert (outcome.ok, outcome.said) == (False, ["a bug in relay: ZeroDivisionError: oops; restart it to be sure"])
    assert logs[-1]["event"] == "reload failed by a bug"


async def test_a_worker_away_during_a_reload_starts_with_the_new_configuration(
    tmp_path: Path, workers: list[Faked]
) -> None:
    """Its process may have been handed the configuration before, and not be there yet."""
    workers[1].worker.admin.unlink()
    state = StateDatabase(tmp_path)
    view = joint(tmp_path, workers, Config(), CONFIG)
    outcome = await view.reload()
    assert (outcome.ok, view.config) == (True, CONFIG)
    assert "warning: worker 1 is away; it begins with this configuration" in outcome.said
    assert [one.anew for one in workers] == [0, 1]
    state.close()


async def test_warnings_of_two_workers_on_a_connector_are_told_once(tmp_path: Path, workers: list[Faked]) -> None:
    state, view = StateDatabase(tmp_path), joint(tmp_path, workers)
    for one in workers:
        sentence = f"connector heap: no answer after 5.0{one.worker.number} s"
        changed = ReloadChange("connector", "heap", "changed")
        one.reloaded = ReloadResult([changed], ["ingest.tls"], [ReloadWarning("connector heap", sentence)])
    assert (await view.reload()).said == [
        "connector heap: changed",
        "ingest.tls: takes a restart",
        "warning: connector heap: no answer after 5.00 s",
    ]
    state.close()


async def test_setting_that_one_worker_takes_at_a_restart_is_told_once(tmp_path: Path, workers: list[Faked]) -> None:
    state, view = StateDatabase(tmp_path), joint(tmp_path, workers)
    workers[0].reloaded = ReloadResult([ReloadChange("setting", "ingest.tls", "needs no restart any more")])
    workers[1].reloaded = ReloadResult(restart_needed=["ingest.tls"])
    assert (await view.reload()).said == ["ingest.tls: takes a restart"]
    state.close()


async def test_refusal_of_the_second_worker_says_what_the_first_has_done(tmp_path: Path, workers: list[Faked]) -> None:
    state, view = StateDatabase(tmp_path), joint(tmp_path, workers)
    tried = asyncio.Event()

    async def refuse(path: str) -> None:
        if path == "/reload/value" and tried.is_set():
            workers[1].reloaded = ReloadResult(mistakes=[Mistake(reason="relay.db cannot be used")])
        elif path == "/reload/value":
            tried.set()

    workers[1].hold = refuse
    outcome = await view.reload()
    torn = "other workers have gone over to it already: correct that, and reload again"
    assert (outcome.ok, outcome.said) == (False, ["relay.db cannot be used", torn])
    state.close()


async def test_worker_that_answers_a_reload_with_an_error_has_not_reloaded(
    tmp_path: Path, workers: list[Faked]
) -> None:
    async def fail(_: str) -> None:
        raise web.HTTPServiceUnavailable(text="{}")

    workers[1].hold = fail
    outcome = await joint(tmp_path, workers).reload(dry_run=True)
    assert (outcome.ok, outcome.said) == (False, ["worker 1: HTTP 503"])


class EmptyStatusReader:
    """What a worker sees of its own lanes and sources."""

    async def read_status(self, *_: object) -> Status:
        return a_status()


def a_view(state: Path, number: int) -> View:
    nothing = cast("Any", None)
    looks = cast("Any", EmptyStatusReader())
    store = open_store(state, CONFIG.journal)
    announcer = cast("Any", SimpleNamespace(alerts=Alerts(store.alerts)))
    return View(CONFIG, store, state, looks, nothing, nothing, nothing, nothing, announcer, alone=False)


class Viewed(Faked):
    """Answers with what the view of a worker sees."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        folder = Path(self.worker.rendezvous)
        self.status = await a_view(folder, self.worker.number).status()
        return await super().answer(request)


async def test_status_of_four_workers_opens_each_database_once_per_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [StateDatabase(make_worker_folder(tmp_path, number), number) for number in range(4)]
    workers: list[Faked] = [Viewed(Worker(number, 4, str(tmp_path), (), False, "{}")) for number in range(4)]
    opened: list[str] = []
    connect = sqlite3.connect

    def counting(database: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(str(database))
        return connect(database, *args, **options)

    monkeypatch.setattr(sqlite3, "connect", counting)
    async with serve(workers):
        status = await joint(tmp_path, workers).status()
    assert [one.away for one in status.workers] == [False] * 4
    parked = 4
    failing = 4 + 1  # erasures at connectors are in the first database
    doubts = 4 * 2  # whether there are tables, and then what they hold
    assert len(opened) == parked + failing + doubts
    for state in states:
        state.close()
