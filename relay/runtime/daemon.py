"""Connects all parts in the order of the flow, runs and reloads them, and stops them in the same order.

Start: journal, state, connectors and their lanes, and last the listener, so that nothing is accepted that could not be
kept; then systemd is notified. Stop: senders are told to come again, lanes finish what is under way, cursors are saved,
the listener closes, the journal is sealed. A second signal, or the end of the drain budget, cuts the deliveries short:
unsettled events are delivered after the next start.
"""

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from relay import __version__
from relay.admin import Admin
from relay.alerts import Alerts
from relay.api import Source
from relay.catalogue import Selection
from relay.config import (
    Config,
    ConfigError,
    NotMade,
    TlsError,
    make_mistakes,
    make_sources,
    read_all_traits,
    read_shared_traits,
)
from relay.ingest import First, FirstPartition, Ingest, Others, SourceWatch
from relay.logs import change_logs
from relay.proposal import compare_configs, find_waiting
from relay.runtime.announcer import Announcer
from relay.runtime.background import Chores
from relay.runtime.condition_watch import ConditionWatch
from relay.runtime.control import View
from relay.runtime.history_writer import History
from relay.runtime.partitions import Partitions
from relay.runtime.process import (
    StartError,
    explain_listen_errors,
    freeze_objects,
    make_limits,
    on_signal,
    take_inherited,
)
from relay.runtime.reload_report import (
    HANGUP,
    catch_bug,
    make_refused,
    reload_and_report,
)
from relay.runtime.status import StatusReader
from relay.runtime.watchdog import Pulse, keep_reporting
from relay.runtime.worker import Worker, divide_by_partitions
from relay.status import ReloadResult, ReloadWarning, Status, merge_results, read_retired
from relay.stop import STOP, count_seconds_left
from relay.store import Entry, Inbox, Log, State, Store, Unavailable
from relay.systemd import Notify
from relay.threads import ADMIN

Load = Callable[[], Config]
LOOK_S: Final = 0.2
REPORT_S: Final = 5.0
"""Seconds between two reports to the other processes that share the partitions."""
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
    number = worker.number if worker else 0
    partitions = Partitions(config, store, folder, number)
    try:
        await partitions.open()
        inbox = await open_inbox(config, store, number)
        try:
            await Daemon(config, load, store, folder, partitions, inbox, worker).run(stop, hangup)
        finally:
            await inbox.close()
    finally:
        await partitions.close()
    log.info("worker stopped" if worker else "relay stopped")


class Daemon:
    """One process with its inbox and its partitions."""

    def __init__(
        self,
        config: Config,
        load: Load,
        store: Store,
        folder: Path,
        partitions: Partitions,
        inbox: Inbox,
        worker: Worker | None,
    ) -> None:
        self._used, self._config, self._load = config, config, load
        self._store, self._partitions, self._inbox, self._worker = store, partitions, inbox, worker
        self._first = make_first(store, worker)
        self._ingest = Ingest(build_sources(config), config.ingest, inbox, self._first)
        partitions.limit_inbox = inbox.set_limits
        partitions.watch_first = self._watch_for_sources if isinstance(self._first, FirstPartition) else None
        self._status_reader = StatusReader(partitions, self._ingest, inbox.events)
        self._watch = ConditionWatch()
        self._history = History(store, lambda: self._config, self._watch)
        note = self._history.note if worker is None else _ignore_entry  # the supervisor of several workers writes it
        alerts = Alerts(store.alerts)
        self._announcer = Announcer(store, alerts, self._watch, self._history, lambda: self._config)
        self._view = View(
            config, store, folder, self._status_reader, partitions, inbox.events, self.reload, note, self._announcer,
            alone=worker is None,
        )  # fmt: skip
        self._admin = Admin(self._view, config.admin, config.metrics, worker.admin if worker else None)
        self._notify = Notify()
        self._pulse = Pulse(self._notify, partitions, inbox.events)
        self._chores = Chores()
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
            running = group.create_task(self._partitions.run(), name="partitions")
            self._start_tasks(group, hangup)
            beating = group.create_task(self._pulse.run(), name="signs of life")
            try:
                freeze_objects()
                told = {"version": __version__, "listen": addresses, **self._admin.addresses}
                told |= {"sources": sorted(self._config.sources), "connectors": sorted(self._config.connectors)}
                log.info("worker runs" if worker else "relay runs", **told, **self._count_events())
                await self._await_end(stop)
                await self._end(running)
            finally:
                self._chores.end()
                await self._ingest.stop()
                await self._admin.stop()
                beating.cancel()

    def _count_events(self) -> dict[str, int]:
        """Count the events in the journal, for the log. Shared partitions open later: nothing is known of them yet."""
        if self._store.shared_partitions:
            return {}
        return {"events_in_journal": sum(one.journal.head - one.journal.oldest for one in self._partitions)}

    def _start_tasks(self, group: asyncio.TaskGroup, hangup: asyncio.Event) -> None:
        """Start each task beside the flow, and reload at each SIGHUP from now on. `hangup`: there was one before."""
        self._chores.set_group(group)
        start = self._chores.start
        start("watch certificates", self._ingest.watch_tls())
        start("look after sources", self._ingest.keep_asking_sources())
        start("sample the counters", self._status_reader.keep_sampling())
        start("reload", self._keep_reloading())
        start("keep the admin socket", self._admin.keep_socket())
        if self._worker is None:
            start("watch what is wrong", self._watch.run(self._choose_announced))
            start("write the history", self._history.run())
            start("look around for the history", self._history.keep_checking())
            start("alerts", self._view.alerts.run())
        else:
            start("say that the loop turns", keep_reporting(self._notify))
        if self._store.shared_partitions:
            start("report to the other processes", self._keep_reporting())
        if isinstance(self._first, First):
            start("hand on to the first worker", self._first.run())
        elif self._first is None and self._worker is not None:
            others = Others(self._ingest.keep, self._ingest.get_source)
            start("keep for other workers", others.run(self._worker.first))
        if self._worker is None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: self._ask_reload(by=HANGUP))
        if hangup.is_set():
            self._ask_reload(by=HANGUP)

    async def _open(self) -> None:
        self._set_selections()
        if self._store.shared_partitions and (self._worker is None or not self._worker.number):
            with suppress(Unavailable):
                health = await ADMIN.run(self._store.read_health)
                log.info("events are in the database", place=self._store.place, acknowledged=health.durability)
        if self._worker is None:
            await self._announcer.change(self._config, self._view.alerts.make_alerts(self._config))
            self._watch.listeners.append(self._view.alerts.take_snapshot)
            others = await read_retired(self._store, {0}, self._config)
            self._pulse.others = sum(one.journal.head for one in others)
        if isinstance(self._first, First):
            with suppress(TimeoutError):  # until it is there, its share is answered 503, and nobody waits for it
                async with asyncio.timeout(FIRST_S):
                    await self._first.connect()
            for partition in self._partitions:
                await partition.follow_pauses()

    async def _choose_announced(self) -> Status | None:
        """Return the status to announce; None while another process announces."""
        return await self._announcer.choose(await self._view.status(own=bool(self._store.shared_partitions)))

    async def _watch_for_sources(self, journal: Log, state: State) -> None:
        """Pass the events of partition 0 to the sources that watch theirs, for ever."""
        await SourceWatch(journal, state, lambda: [*self._ingest.intakes.values()]).run()

    async def _keep_reporting(self) -> None:
        """Report the status of this process to the others, for ever."""
        while True:
            self._partitions.moved.clear()
            await self._partitions.report(await self._status_reader.read_status(self._config, self._view.restart))
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._partitions.moved.wait()

    def _set_selections(self) -> None:
        """Set the events that the first worker or partition must have in its journal, unless all are there."""
        if self._first is not None:
            self._first.selections = find_first(self._config, shared_partitions=self._store.shared_partitions)

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
            self._partitions.try_change(new)
        except ConfigError as error:
            return make_refused(error.mistakes)
        return ReloadResult()

    async def _apply_reload(self) -> ReloadResult:
        try:
            new = await ADMIN.run(self._load)
            sources, alerts = build_sources(new), self._view.alerts.make_alerts(new)
            changes = await self._partitions.change(new)
        except ConfigError as error:
            return make_refused(error.mistakes)
        except Unavailable as error:
            return make_refused(
                [f"the database cannot be used: {error}; reload again: connectors may be missing until then"]
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
        self._set_selections()
        await self._announcer.change(new, alerts)
        self._view.restart = find_waiting(self._used, new)
        self._partitions.moved.set()  # the other nodes learn of the configuration at once
        return merge_results([compare_configs(old, new, changes, self._view.restart), ReloadResult(warnings=kept)])

    async def _await_end(self, stop: asyncio.Event) -> None:
        """Wait for the signal or, if the worker only drains, for the end of the deliveries and erasures."""
        drains = self._worker is not None and self._worker.only_drains
        while not (stop.is_set() or (drains and await self._partitions.is_idle())):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if drains else None):
                    await stop.wait()

    async def _end(self, running: asyncio.Task[None]) -> None:
        """Stop the flow in its order: deliveries under way end within the drain budget, connectors close.

        A second signal ends the wait.
        """

        def cut_short(why: str) -> None:
            self._partitions.cut(why)
            self._chores.end()

        STOP.begin()
        self._watch.stop()
        log.info("worker stops" if self._worker else "relay stops", drain_s=STOP.drain)
        await self._notify.report_stopping()
        await self._ingest.drain()
        self._partitions.stop()
        on_signal(lambda: cut_short("another signal"))
        done, _ = await asyncio.wait([running], timeout=count_seconds_left(STOP.cut))
        if not done:
            cut_short("the drain budget is used up")
        if self._worker is None:
            await self._history.end()


async def open_inbox(config: Config, store: Store, number: int) -> Inbox:
    """Open the inbox of the process with this number. Raises StartError."""
    limits = make_limits(divide_by_partitions(config, store.shared_partitions))
    try:
        return await ADMIN.run(store.open_inbox, number, limits)
    except Unavailable as error:
        raise StartError(str(error)) from error


def make_first(store: Store, worker: Worker | None) -> First | FirstPartition | None:
    """Make the first worker or partition as this process sees it; None if all events of this process are there."""
    if store.shared_partitions:
        return FirstPartition([])
    return First(worker.first, []) if worker and worker.number else None


def find_first(config: Config, *, shared_partitions: int) -> list[Selection]:
    """Find the events that the first worker or partition must have in its journal.

    Partitions that all processes share have their parts of a connector's rate, and each looks for erasures by itself.
    """
    known = (read_shared_traits if shared_partitions else read_all_traits)(config.connectors)
    found = [Selection(config.list_entries(name)) for name, traits in known.items() if traits.single_worker]
    asked = config.erasure.on
    return found if shared_partitions or not asked else [*found, Selection(asked)]


def _ignore_entry(_: Entry) -> None:
    """Write no entry of the history."""


def build_sources(config: Config) -> list[Source]:
    """Make the sources of a configuration. Raises ConfigError."""
    try:
        return make_sources(config)
    except NotMade as error:
        raise ConfigError(make_mistakes(error.failures)) from None
