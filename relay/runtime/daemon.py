"""Connects all parts in the order of the flow, runs and reloads them, and stops them in the same order.

Start: journal, state, connectors and their lanes, and last the listener, so that nothing is accepted that could not be
kept; then systemd is notified. Stop: senders are told to come again, lanes finish what is under way, cursors are saved,
the listener closes, the journal is sealed. A second signal, or the end of the drain budget, cuts the deliveries short:
unsettled events are delivered after the next start.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

import structlog

from relay import __version__
from relay.admin import Admin
from relay.api import Source
from relay.config import Config, ConfigError, NotMade, TlsError, make_mistakes, make_sources
from relay.deliver import Changes, Fleet
from relay.erasure import Eraser
from relay.ingest import First, Ingest, Others
from relay.runtime.background import Chores
from relay.runtime.condition_watch import ConditionWatch
from relay.runtime.control import View
from relay.runtime.history_writer import History
from relay.runtime.logs import change_logs
from relay.runtime.parked_removal import keep_removing_parked
from relay.runtime.process import (
    StartError,
    explain_listen_errors,
    make_limits,
    make_parked_limits,
    on_signal,
    open_state,
    take_inherited,
    tune_collector,
)
from relay.runtime.reload_report import (
    HANGUP,
    catch_bug,
    compare_configs,
    find_waiting,
    make_refused,
    reload_and_report,
)
from relay.runtime.status import StatusReader
from relay.runtime.systemd import Notify
from relay.runtime.watchdog import Pulse, keep_reporting
from relay.runtime.worker import Worker, make_connector_folder
from relay.status import ReloadResult, ReloadWarning, merge_results, read_retired
from relay.stop import STOP, count_seconds_left
from relay.store import Entry, Log, State, Store, Unavailable
from relay.threads import ADMIN

Load = Callable[[], Config]
LOOK_S: Final = 0.2
ROOM_S: Final = 5.0
"""Seconds between two checks for room for the journal's next segment."""
FILLERS_S: Final = 60.0
"""Seconds for which relay remembers what fills a full disk."""
FIRST_S: Final = 5.0
"""Seconds that a worker's start waits for the first worker."""
log = structlog.stdlib.get_logger()


async def run(config: Config, load: Load, store: Store, folder: Path, worker: Worker | None = None) -> None:
    """Run until SIGTERM or SIGINT, alone or as one of several workers. Raises StartError.

    `load` reads the configuration again. `folder`: the state folder.
    """
    stop, hangup = asyncio.Event(), asyncio.Event()
    STOP.watch(config.runtime.drain, supervised=worker is not None)
    on_signal(stop.set)
    if worker is None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    async with open_state(config, store, worker.number if worker else 0) as (journal, state):
        await Daemon(config, load, store, folder, journal, state, worker).run(stop, hangup)
    log.info("worker stopped" if worker else "relay stopped")


class Daemon:
    """One process with its journal."""

    def __init__(
        self,
        config: Config,
        load: Load,
        store: Store,
        folder: Path,
        journal: Log,
        state: State,
        worker: Worker | None,
    ) -> None:
        self._used, self._config, self._load = config, config, load
        self._store, self._journal, self._state, self._worker = store, journal, state, worker
        number = worker.number if worker else 0
        self._fleet = Fleet(journal, state, make_connector_folder(folder, number), number)
        self._first = First(worker.first, []) if worker and number else None
        self._ingest = Ingest(build_sources(config), config.ingest, journal, state, self._first)
        self._eraser = Eraser(self._fleet, journal, state, config.erasure, number)
        self._status_reader = StatusReader(self._fleet, self._ingest, journal)
        self._watch = ConditionWatch()
        self._history = History(store, lambda: self._config, self._watch)
        note = self._history.note if worker is None else _ignore_entry  # the supervisor of several workers writes it
        self._view = View(
            config, store, folder, self._status_reader, self._fleet, journal, self.reload, note, alone=worker is None
        )
        self._admin = Admin(self._view, config.admin, config.metrics, worker.admin if worker else None)
        self._notify = Notify()
        self._pulse = Pulse(self._notify, journal, self._fleet)
        self._chores = Chores()
        self._filled = "", -inf
        journal.set_fillers(self._describe_fillers)
        self._asked = asyncio.Queue[tuple[asyncio.Future[ReloadResult], bool, str]]()
        """Requests for a reload: the future of the outcome, whether it is a dry run, and who asks."""

    async def run(self, stop: asyncio.Event, hangup: asyncio.Event) -> None:
        """Run until `stop`, or, if the worker only drains, until everything is delivered.

        `hangup`: a reload was requested before. Raises StartError, ConfigError.
        """
        worker = self._worker
        await self._open()
        with explain_listen_errors(self._config):
            await self._admin.start()
            sockets = take_inherited() if worker is None else [socket.socket(fileno=fd) for fd in worker.fds]
            addresses = await self._ingest.start(sockets, outlived=worker is None or worker.outlived)
        if worker is None:
            await self._history.start()
        async with asyncio.TaskGroup() as group:
            lanes = group.create_task(self._fleet.run(), name="fleet")
            self._start_tasks(group, hangup)
            beating = group.create_task(self._pulse.run(), name="signs of life")
            try:
                tune_collector()
                told = {"version": __version__, "listen": addresses, **self._admin.addresses}
                told |= {"sources": sorted(self._config.sources), "connectors": sorted(self._config.connectors)}
                events = self._journal.head - self._journal.oldest
                log.info("worker runs" if worker else "relay runs", **told, events_in_journal=events)
                await self._await_end(stop)
                await self._end(lanes)
            finally:
                self._chores.end()
                await self._ingest.stop()
                await self._admin.stop()
                beating.cancel()

    def _start_tasks(self, group: asyncio.TaskGroup, hangup: asyncio.Event) -> None:
        """Start each task beside the flow, and reload at each SIGHUP from now on. `hangup`: there was one before."""
        self._chores.set_group(group)
        start = self._chores.start
        start("tidy parking", keep_removing_parked(self._state))
        start("watch certificates", self._ingest.watch_tls())
        start("look after sources", self._ingest.keep_asking_sources())
        start("look for room", self._keep_checking_room())
        start("sample the counters", self._status_reader.keep_sampling())
        start("erasures", self._eraser.run())
        start("reload", self._keep_reloading())
        start("keep the admin socket", self._admin.keep_socket())
        if self._worker is None:
            start("watch what is wrong", self._watch.run(self._view.status))
            start("write the history", self._history.run())
            start("look around for the history", self._history.keep_checking())
            start("alerts", self._view.alerts.run())
        else:
            start("say that the loop turns", keep_reporting(self._notify))
        if self._first is not None:
            start("hand on to the first worker", self._first.run())
        elif self._worker is not None:
            others = Others(self._ingest.keep, self._ingest.get_source)
            start("keep for other workers", others.run(self._worker.first))
        if self._worker is None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: self._ask_reload(by=HANGUP))
        if hangup.is_set():
            self._ask_reload(by=HANGUP)

    async def _open(self) -> None:
        try:
            await self._fleet.open(self._config)
            await self._eraser.open()
            await self._state.read_accepted()  # connectors that a reload adds begin at the head, if nothing is in doubt
        except Unavailable as error:
            place = self._store.view(self._state.worker).place
            raise StartError(f"{place}: relay.db cannot be used: {error}") from error
        with suppress(OSError):  # the first commit says it
            await self._journal.check_room()
        self._set_selections()
        if self._worker is None:
            await self._view.alerts.change(self._config, self._view.alerts.make_alerts(self._config))
            self._watch.listeners.append(self._view.alerts.take_snapshot)
            others = await read_retired(self._store, {0}, self._config)
            self._pulse.others = sum(one.journal.head for one in others)
        if self._first is not None:
            with suppress(TimeoutError):  # until it is there, its share is answered 503, and nobody waits for it
                async with asyncio.timeout(FIRST_S):
                    await self._first.connect()
            # Pause what the first worker pauses
            try:
                await self._state.follow_pauses()
            except Unavailable as error:
                log.error("what the first worker pauses cannot be read", error=str(error))
            await self._fleet.heed_pauses()

    def _set_selections(self) -> None:
        """Set the events that the first worker must have in its journal, unless this is the first worker."""
        if self._first is not None:
            self._first.selections = [*self._fleet.single_worker_selections, *self._eraser.wants]

    async def _keep_checking_room(self) -> None:
        """Notice a full disk before a sender does, for ever."""
        while True:
            with suppress(OSError):  # the next commit says it
                await self._journal.check_room()
            await asyncio.sleep(ROOM_S)

    def _describe_fillers(self) -> str:
        """Describe what fills the disk. Blocking."""
        now = time.monotonic()
        if now - self._filled[1] > FILLERS_S:
            files = [lane.traits.local_path for lane in self._fleet.lanes if lane.traits.local_path is not None]
            self._filled = self._store.describe_usage(self._config.runtime.workers, files), now
        return self._filled[0]

    async def reload(self, *, dry_run: bool = False, by: str = "") -> ReloadResult:
        """Switch to the configuration on disk. Unchanged parts go on; with any mistake, everything does.

        A second reload waits its turn, even if its requester has gone. `dry_run`: only check whether the reload is
        possible. `by`: who asks.
        """
        return await self._ask_reload(dry_run=dry_run, by=by)

    def _ask_reload(self, *, dry_run: bool = False, by: str = "") -> asyncio.Future[ReloadResult]:
        future = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((future, dry_run, by))
        return future

    async def _keep_reloading(self) -> None:
        while True:
            future, dry_run, by = await self._asked.get()
            outcome = await catch_bug(self._try_reload() if dry_run else self._reload_in_turn(by))
            if not future.done():
                future.set_result(outcome)

    async def _reload_in_turn(self, by: str) -> ReloadResult:
        await self._notify.report_reloading()
        async with self._view.changing:
            outcome = await catch_bug(
                self._apply_reload() if self._worker else reload_and_report(self._view, self._apply_reload, by)
            )
        await self._notify.report_ready(self._pulse.describe_status())
        return outcome

    async def _try_reload(self) -> ReloadResult:
        """Check whether a reload is possible: make everything that it would make, and drop it."""
        try:
            new = await ADMIN.run(self._load)
            build_sources(new)
            self._view.alerts.make_alerts(new)
            self._fleet.try_change(new)
        except ConfigError as error:
            return make_refused(error.mistakes)
        return ReloadResult()

    async def _apply_reload(self) -> ReloadResult:
        try:
            new = await ADMIN.run(self._load)
            sources, alerts = build_sources(new), self._view.alerts.make_alerts(new)
            changes = await self._change_lanes(new)
        except ConfigError as error:
            return make_refused(error.mistakes)
        except Unavailable as error:
            return make_refused(
                [f"relay.db cannot be used: {error}; reload again: connectors may be missing until then"]
            )
        kept: list[ReloadWarning] = []
        try:
            await self._ingest.reload_tls(new.ingest.tls)
        except TlsError as error:  # it was good a moment ago, when the configuration was checked
            kept = [ReloadWarning("ingest.tls", f"{error}; the certificate before is served on")]
        old, self._config, self._view.config = self._config, new, new
        STOP.drain = new.runtime.drain
        change_logs(new.log, None if self._worker is None else self._worker.number)
        self._ingest.change(sources, new.ingest)
        self._journal.set_limits(make_limits(new), new.journal.memory)
        self._state.parked_limits = make_parked_limits(new)
        for lane in self._fleet.lanes:
            lane.connector.min_free = new.journal.min_free
        self._set_selections()
        await self._view.alerts.change(new, alerts)
        self._view.restart = find_waiting(self._used, new)
        return merge_results([compare_configs(old, new, changes, self._view.restart), ReloadResult(warnings=kept)])

    async def _change_lanes(self, new: Config) -> Changes:
        """Change the lanes. Erasures rest meanwhile, because they must reach all lanes.

        Raises ConfigError, Unavailable.
        """
        await self._chores.stop("erasures")
        try:
            changes = await self._fleet.change(new, new.runtime.drain)
        except Exception:
            self._chores.start("erasures", self._eraser.run())
            raise
        # Replace the eraser, which knows connectors and settings. The new eraser continues where the old one was.
        self._eraser = Eraser(self._fleet, self._journal, self._state, new.erasure, self._state.worker)
        await self._eraser.open()
        self._chores.start("erasures", self._eraser.run())
        return changes

    async def _await_end(self, stop: asyncio.Event) -> None:
        """Wait for the signal or, if the worker only drains, for the end of the deliveries and erasures."""
        drains = self._worker is not None and self._worker.only_drains
        while not (stop.is_set() or (drains and await self._fleet.is_idle() and await self._eraser.is_idle())):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if drains else None):
                    await stop.wait()

    async def _end(self, lanes: asyncio.Task[None]) -> None:
        """Stop the flow in its order: deliveries under way end within the drain budget, connectors close.

        A second signal ends the wait.
        """

        def cut_short(why: str) -> None:
            if self._fleet.releases:
                return
            log.warning("deliveries under way are cut short and made again after the next start", reason=why)
            lanes.cancel()
            self._chores.end()

        STOP.begin()
        self._watch.stop()
        log.info("worker stops" if self._worker else "relay stops", drain_s=STOP.drain)
        await self._notify.report_stopping()
        await self._ingest.drain()
        self._fleet.stop()
        on_signal(lambda: cut_short("another signal"))
        done, _ = await asyncio.wait([lanes], timeout=count_seconds_left(STOP.cut))
        if not done:
            cut_short("the drain budget is used up")
        if self._worker is None:
            await self._history.end()


def _ignore_entry(_: Entry) -> None:
    """Write no entry of the history."""


def build_sources(config: Config) -> list[Source]:
    """Make the sources of a configuration. Raises ConfigError."""
    try:
        return make_sources(config)
    except NotMade as error:
        raise ConfigError(make_mistakes(error.failures)) from None
