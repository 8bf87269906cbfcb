"""Serves the admin API for several workers: the supervisor asks each worker and merges the answers.

A worker that is away for a moment is no error: its part is as it was last, and the status says so. The counts of its
earlier processes are kept, so that sums do not fall.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec.structs import replace

from relay.admin import RELOAD_AS_VALUE
from relay.alerts import Alerts
from relay.config import Config, ConfigError
from relay.logs import change_logs, count_dropped_lines
from relay.proposal import compare_alerts_and_settings, find_waiting
from relay.runtime import (
    Announcer,
    ConditionWatch,
    History,
    Worker,
    catch_bug,
    forget_removed,
    make_refused,
    merge_with_stored,
    reload_and_report,
)
from relay.socket_path import address_of
from relay.status import (
    RefusedReload,
    ReloadResult,
    ReloadWarning,
    Status,
    WorkerStatus,
    freeze,
    keep_configured,
    keep_counts,
    make_idle_status,
    measure_cpu,
    measure_memory,
    merge_results,
    merge_statuses,
    read_retired,
)
from relay.stop import STOP
from relay.store import Forgotten, Store
from relay.threads import ADMIN

ANSWER_S: Final = 5.0
"""Seconds that a worker has to answer. It answers to a pause when its lane obeys."""
PAUSE_S: Final = 10.0
AGAIN_S: Final = 0.5
PIECES: Final = 4
"""Lines of a live tap that may wait for their reader. Beyond that the workers leave events out, and count them."""
GONE: Final = (aiohttp.ClientError, OSError)
TORN: Final = "other workers have gone over to it already: correct that, and reload again"


class Running(Protocol):
    """A worker's process, as the control sees it."""

    worker: Worker
    over: bool
    """The process has ended for good: everything is delivered."""

    has_died: bool
    """Whether any of its processes has ended. Until then a worker that never answered only starts."""
    newer: Sequence[str]
    """The plugins with newer code than relay was started with."""

    def restart(self) -> None:
        """End the process, so that the next one begins with the configuration in force."""


class JointView:
    """Several workers for `relay.admin`."""

    def __init__(
        self, config: Config, load: Callable[[], Config], store: Store, folder: Path, workers: Sequence[Running]
    ) -> None:
        self._load = load
        self.used = config
        """The configuration of the start."""
        self.alerts = Alerts(store.alerts)
        self.watch = ConditionWatch([self.alerts.take_snapshot])
        self.history = History(store, lambda: self.config, self.watch)
        self.note = self.history.note
        self.announcer = Announcer(store, self.alerts, self.watch, self.history, lambda: self.config)
        self.config = config
        """The configuration in force. Restarted workers begin with it."""
        self._restart: Sequence[str] = ()
        self.refused_reload: RefusedReload | None = None
        self.store, self.folder, self._workers = store, folder, workers
        self._reloading = asyncio.Lock()
        self._started = time.time()
        self._seen: dict[int, Status] = {}
        self._before: dict[int, Status] = {}
        """The counts of each worker's earlier processes."""

    async def status(self, *, own: bool = False) -> Status:
        """Return the status. `own`: without parked events, erasures and doubts, which are in the store."""
        running = {one.worker.number: one for one in self._workers if not one.over}
        async with asyncio.TaskGroup() as group:
            asked = {
                number: group.create_task(self._ask_status(one.worker), name=f"look at worker {number}")
                for number, one in running.items()
            }
            retired = group.create_task(read_retired(self.store, asked.keys(), self.config), name="read other ledgers")
        answers = {number: task.result() for number, task in asked.items()}
        found = [self._read_own(), *(keep_configured(before, self.config) for before in self._before.values())]
        for number, last in self._seen.items():
            if number not in answers:  # it has ended for good: its counts and its ledgers remain
                found.append(keep_configured(keep_counts(last), self.config))
            else:
                found.append(last if answers[number] else freeze(last))
        found += retired.result()
        announces = self.announcer.announces and not any(one.unreachable_since for one in found)
        if own or not announces:
            whole = merge_statuses(found, ())  # the node that announces tells of the store
        else:
            parts = 1 if self.store.shared_partitions else self.config.runtime.workers
            whole = await merge_with_stored(self.store, found, self.config.parked.max_size * parts)
        workers = [self._describe_worker(one, is_away=answers[number] is None) for number, one in running.items()]
        whole = replace(whole, alerts=self.alerts.statuses, refused_reload=self.refused_reload)
        return replace(whole, workers=workers, announces=announces)

    def _describe_worker(self, one: Running, *, is_away: bool) -> WorkerStatus:
        """Return a worker's own row, from its last answer."""
        number = one.worker.number
        last = self._seen.get(number)
        if last is None:
            return WorkerStatus(
                worker=number,
                away=one.has_died,
                started=None,
                memory=0,
                journal=None,
                only_drains=one.worker.only_drains,
            )
        return WorkerStatus(
            worker=number,
            away=is_away,
            started=last.started,
            memory=0 if is_away else last.memory,
            journal=last.journal,
            only_drains=one.worker.only_drains,
        )

    async def _ask_status(self, worker: Worker) -> Status | None:
        """Ask a worker for its status; return None if it is away."""
        try:
            async with _open_session(worker, ANSWER_S) as session, session.get("http://worker/status") as answer:
                status = msgspec.json.decode(await answer.read(), type=Status)
        except (*GONE, msgspec.MsgspecError):
            return None
        # Keep it at once: others ask as well, and may hear of the worker's next process before
        number, last = worker.number, self._seen.get(worker.number)
        if last is not None and last.started != status.started:
            before = [self._before[number]] if number in self._before else []
            self._before[number] = merge_statuses([*before, keep_counts(last)], ())
        self._seen[number] = status
        return status

    def _read_own(self) -> Status:
        """Return the status of the supervisor itself."""
        newer = [
            f"the new code of plugin {plugin}, which worker {one.worker.number} runs already"
            for one in self._workers
            if not one.over
            for plugin in one.newer
        ]
        return replace(
            make_idle_status(0, {}, {}, self.config),
            started=self._started,
            cpu=measure_cpu(),
            memory=measure_memory(),
            restart=[*self._restart, *newer],
            dropped_log_lines=count_dropped_lines(),
        )

    async def reload(self, *, dry_run: bool = False, by: str = "") -> ReloadResult:
        """Switch all workers to the configuration on disk, once each has made everything new: all of them or none.

        A second reload waits its turn. `dry_run`: only check whether the reload is possible. `by`: who asks.
        """
        async with self._reloading:
            return await catch_bug(self._try_all() if dry_run else reload_and_report(self, self._reload_all, by))

    async def _try_all(self) -> ReloadResult:
        """Check whether all workers can reload."""
        tried, _ = await self._ask_all(dry_run=True)
        return tried

    async def _ask_all(self, *, dry_run: bool) -> tuple[ReloadResult, Sequence[Running]]:
        """Reload the workers one after the other until one refuses; return the result and the absent workers."""
        results: list[ReloadResult] = []
        away: list[Running] = []
        for one in [one for one in self._workers if not one.over]:
            result = await _reload_worker(one.worker, dry_run=dry_run)
            if result is None:
                away.append(one)
                name = f"worker {one.worker.number}"
                warning = ReloadWarning(name, f"{name} is away; it begins with this configuration")
                result = ReloadResult(warnings=[warning])
            if not result.ok:
                torn = [TORN] if results and not dry_run else []
                return make_refused([*result.mistakes, *torn]), away
            results.append(result)
        return merge_results(results), away

    async def _reload_all(self) -> ReloadResult:
        try:
            new = await ADMIN.run(self._load)
            alerts = self.alerts.make_alerts(new)
        except ConfigError as error:
            return make_refused(error.mistakes)
        if not (tried := await self._try_all()).ok:
            return tried
        done, away = await self._ask_all(dry_run=False)
        if not done.ok:
            return done
        old, self.config = self.config, new
        self._restart = find_waiting(self.used, new)
        STOP.drain = new.runtime.drain
        change_logs(new.log)
        await self.announcer.change(new, alerts)
        for one in away:  # its process may have begun with the configuration before
            one.restart()
        return merge_results([done, compare_alerts_and_settings(old, new, self._restart)])

    async def pause(self, connector: str, until: float | None) -> bool:
        """Pause a connector in all workers until a time (Unix seconds) or until it is resumed.

        Returns False if it is paused as long already. Returns when the running workers obey; the others obey when they
        start. Raises LookupError, OSError if a worker does not obey in time, Unavailable.
        """
        self._check(connector)
        changed = await ADMIN.run(self.store.pauses.pause, connector, until)
        await self._post_all(connector, "pause" if until is None else f"pause?until={until!r}")
        return changed

    async def resume(self, connector: str) -> bool:
        """Resume a connector in all workers; return False if it was not paused. Returns when the running workers obey.

        Raises LookupError, OSError if a worker does not obey in time, Unavailable.
        """
        self._check(connector)
        changed = await ADMIN.run(self.store.pauses.resume, connector)
        await self._post_all(connector, "resume")
        return changed

    async def try_now(self, connector: str) -> bool:
        """Make a waiting connector try again at once in all workers; return False if it waits in none.

        Raises LookupError, OSError if a worker refuses.
        """
        self._check(connector)
        return any(said.get("retried") for said in await self._post_all(connector, "retry"))

    def _check(self, connector: str) -> None:
        """Check that a connector is configured. Raises LookupError."""
        if connector not in self.config.connectors:
            known = ", ".join(sorted(self.config.connectors)) or "none"
            raise LookupError(f"no connector {connector} runs; there are: {known}")

    async def _post_all(self, connector: str, what: str) -> list[dict[str, Any]]:
        """Post to all workers for a connector; return the answers of the present ones. Raises OSError."""
        path = f"/lanes/{quote(connector, safe='')}/{what}"
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._post(one.worker, path), name=f"ask worker {one.worker.number}")
                for one in self._workers
                if not one.over
            ]
        answers = [task.result() for task in asked]
        if refused := [one for one in answers if isinstance(one, str)]:
            raise OSError(refused[0])
        return [one for one in answers if isinstance(one, dict)]

    async def forget(self, connector: str) -> Forgotten:
        """Remove everything of a connector that is not configured and runs in no worker, between two reloads.

        Raises LookupError, ValueError if the connector is configured or runs, Unavailable.
        """
        async with self._reloading:
            running = [lane.connector for lane in (await self.status(own=True)).lanes]
            return await forget_removed(self.store, connector, {*self.config.connectors, *running})

    async def _post(self, worker: Worker, path: str) -> dict[str, Any] | str | None:
        """Post to a worker; return its answer, or its refusal as text, or None if it is away."""
        try:
            async with _open_session(worker, PAUSE_S) as session, session.post(f"http://worker{path}") as answer:
                said = msgspec.json.decode(await answer.read(), type=dict[str, Any])
                return said if answer.ok else f"worker {worker.number}: {said.get('detail')}"
        except GONE:
            return None
        except msgspec.MsgspecError as error:
            return f"worker {worker.number}: {error}"

    @asynccontextmanager
    async def tap(self, at: str, entries: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the events at "ingest", or at a connector behind its filters, in all workers, as NDJSON.

        Raises LookupError.
        """
        if at != "ingest" and at not in self.config.connectors:
            known = ", ".join(sorted(self.config.connectors)) or "none"
            raise LookupError(f"no connector {at} runs; there are: {known}")
        lines = asyncio.Queue[bytes](PIECES)
        query = [("at", at), *(("events", entry) for entry in entries)]
        failed: Exception | None = None
        async with asyncio.TaskGroup() as group:
            tapping = [
                group.create_task(_tap_worker(one.worker, query, lines), name=f"tap worker {one.worker.number}")
                for one in self._workers
            ]
            try:
                yield _take_lines(lines)
            except Exception as error:  # the group would wrap it
                failed = error
            finally:
                for task in tapping:
                    task.cancel()
        if failed is not None:
            raise failed


async def _reload_worker(worker: Worker, *, dry_run: bool) -> ReloadResult | None:
    """Reload a worker; return the result, None if the worker is away."""
    url = f"http://worker{RELOAD_AS_VALUE}?dry_run={str(dry_run).lower()}"
    try:
        async with _open_session(worker, None) as session, session.post(url) as answer:
            if not answer.ok:
                return make_refused([f"worker {worker.number}: HTTP {answer.status}"])
            return msgspec.json.decode(await answer.read(), type=ReloadResult)
    except GONE:
        return None
    except msgspec.MsgspecError as error:
        return make_refused([f"worker {worker.number}: {error}"])


async def _tap_worker(worker: Worker, query: Sequence[tuple[str, str]], lines: asyncio.Queue[bytes]) -> None:
    """Pass on the tap of a worker, over its restarts, for ever."""
    while True:
        with suppress(*GONE):
            async with (
                _open_session(worker, None) as session,
                session.get("http://worker/tail", params=query) as answer,
            ):
                answer.raise_for_status()
                rest = b""
                async for piece in answer.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    numbered = [b'{"worker":%d,%s\n' % (worker.number, line.removeprefix(b"{")) for line in whole]
                    await lines.put(b"".join(numbered))
        await asyncio.sleep(AGAIN_S)


async def _take_lines(lines: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    while True:
        yield await lines.get()


@asynccontextmanager
async def _open_session(worker: Worker, seconds: float | None) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session with a worker. Raises OSError if its folder is missing."""
    with address_of(worker.admin) as address:
        connector = aiohttp.UnixConnector(address)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=seconds)) as session:
            yield session
