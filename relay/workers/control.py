"""What admins see of several workers: the supervisor asks each of them, and tells what they say as one.

A worker that is away for the moment is no error: its part is as it was seen last, and the status says so. What it had
counted since its start is kept when it starts again, so that sums do not fall.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import aiohttp
import msgspec

from relay.admin import RELOAD_AS_VALUE
from relay.alerts import Alerts
from relay.config import Config, ConfigError
from relay.runtime import (
    ConditionWatch,
    History,
    Worker,
    change_logs,
    changed_alerts_and_settings,
    doubts_in,
    dropped_log_lines,
    failing_erasures_in,
    forgotten,
    guarded,
    in_full,
    parked_in,
    refused,
    waiting,
)
from relay.socket_path import address_of
from relay.state import Forgotten, pause_connector, resume_connector
from relay.status import (
    RefusedReload,
    ReloadResult,
    ReloadWarning,
    Status,
    WorkerStatus,
    configured,
    cpu_seconds,
    ended,
    memory_bytes,
    merged,
    merged_results,
    nobody,
    retired,
    still,
)
from relay.stop import STOP
from relay.threads import ADMIN

ANSWER_S: Final = 5.0
"""A worker that has not answered by then is away; to a pause it answers when it heeds it."""
PAUSE_S: Final = 10.0
AGAIN_S: Final = 0.5
PIECES: Final = 4
"""How much of a live tap waits for who reads it: beyond that the workers leave events out, and count them."""
GONE: Final = (aiohttp.ClientError, OSError)
TORN: Final = "other workers have gone over to it already: mend that, and reload again"


class Running(Protocol):
    """What is to be known of a worker's process."""

    worker: Worker
    over: bool
    """It has ended, and is not started again: all it had is delivered."""

    newer: Sequence[str]
    """The plugins of which it runs newer code than relay was started with."""

    def begin_anew(self) -> None:
        """End its process, so that the next one begins with the configuration in force."""


class JointView:
    """Several workers as `relay.admin` wants them."""

    def __init__(self, config: Config, load: Callable[[], Config], folder: Path, workers: Sequence[Running]) -> None:
        self._used, self._load = config, load
        self.alerts = Alerts(folder)
        self.watch = ConditionWatch([self.alerts.look])
        self.history = History(folder, lambda: self.config, self.watch)
        self.note = self.history.note
        self.config = config
        """What is in force: workers that are started again begin with it."""
        self._restart: Sequence[str] = ()
        self.refused_reload: RefusedReload | None = None
        self.folder, self._workers = folder, workers
        self._reloading = asyncio.Lock()
        self._started = time.time()
        self._seen: dict[int, Status] = {}
        self._before: dict[int, Status] = {}
        """Of each worker what its earlier processes had counted."""

    async def status(self) -> Status:
        """How everything is now."""
        running = [one.worker for one in self._workers if not one.over]
        async with asyncio.TaskGroup() as group:
            asked = {
                worker.number: group.create_task(self._look(worker), name=f"look at worker {worker.number}")
                for worker in running
            }
            books = group.create_task(retired(self.folder, asked.keys(), self.config), name="look at other books")
            parked = group.create_task(parked_in(self.folder), name="count parked events")
            failing = group.create_task(failing_erasures_in(self.folder), name="look for erasures that fail")
            doubts = group.create_task(doubts_in(self.folder, self._used.journal.path), name="look for doubts")
        answers = {number: task.result() for number, task in asked.items()}
        parts = [self._part(number, status, answers) for number, status in self._seen.items()]
        before = [configured(status, self.config) for status in self._before.values()]
        found = [self._mine(), *before, *parts, *books.result()]
        most = self.config.parked.max_size * self.config.runtime.workers
        whole = merged(found, parked.result(), failing.result(), doubts.result(), parked_most=most)
        workers = [self._worker(number, away=status is None) for number, status in answers.items()]
        return replace(whole, workers=workers, alerts=self.alerts.statuses, refused_reload=self.refused_reload)

    def _part(self, number: int, last: Status, answers: Mapping[int, Status | None]) -> Status:
        """What a worker adds to the whole: what it says, or what it said last; of one that has ended for good that is
        what it had counted, beside its books."""
        if number not in answers:
            return configured(ended(last), self.config)
        return last if answers[number] else still(last)

    async def _look(self, worker: Worker) -> Status | None:
        """How a worker is; None if it is away."""
        try:
            async with _session(worker, ANSWER_S) as session, session.get("http://worker/status") as answer:
                status = msgspec.json.decode(await answer.read(), type=Status)
        except (*GONE, msgspec.MsgspecError):
            return None
        self._keep(worker.number, status)  # at once: others look as well, and may hear of its next process before
        return status

    def _keep(self, number: int, status: Status) -> None:
        last = self._seen.get(number)
        if last is not None and last.started != status.started:
            ones = [before for before in (self._before.get(number),) if before]
            self._before[number] = merged([*ones, ended(last)], ())
        self._seen[number] = status

    def _mine(self) -> Status:
        """The supervisor itself."""
        mine = nobody(0, {}, {}, self.config)
        newer = [
            f"the new code of plugin {plugin}, which worker {one.worker.number} runs already"
            for one in self._workers
            if not one.over
            for plugin in one.newer
        ]
        restart = [*self._restart, *newer]
        mine = replace(mine, started=self._started, cpu=cpu_seconds(), memory=memory_bytes(), restart=restart)
        return replace(mine, dropped_log_lines=dropped_log_lines())

    def _worker(self, number: int, *, away: bool) -> WorkerStatus:
        seen = self._seen.get(number)
        if seen is None:
            return WorkerStatus(worker=number, away=away, started=None, memory=0, journal=None)
        memory = 0 if away else seen.memory
        return WorkerStatus(worker=number, away=away, started=seen.started, memory=memory, journal=seen.journal)

    async def reload(self, *, dry_run: bool = False, by: str = "") -> ReloadResult:
        """Have all workers go over to the configuration as it is on disk now, once each of them has made what it takes:
        if one cannot, none does. A second reload waits its turn. `dry_run`: only see whether it can be done. `by`: who
        asks, as they say."""
        async with self._reloading:
            return await guarded(self._try_all() if dry_run else in_full(self, self._reload_all, by))

    async def _try_all(self) -> ReloadResult:
        """See whether all workers can reload."""
        tried, _ = await self._ask_all(dry_run=True)
        return tried

    async def _ask_all(self, *, dry_run: bool) -> tuple[ReloadResult, Sequence[Running]]:
        """Have the workers reload one after the other, as long as none refuses; also return those that are away."""
        results: list[ReloadResult] = []
        away: list[Running] = []
        for one in [one for one in self._workers if not one.over]:
            result = await self._reload(one.worker, dry_run=dry_run)
            if result is None:
                away.append(one)
                result = ReloadResult(warnings=[away_warning(one.worker)])
            if not result.ok:
                torn = [TORN] if results and not dry_run else []
                return refused([*result.mistakes, *torn]), away
            results.append(result)
        return merged_results(results), away

    async def _reload_all(self) -> ReloadResult:
        try:
            new = await ADMIN.run(self._load)
            alerts = self.alerts.made(new)
        except ConfigError as error:
            return refused(error.mistakes)
        if not (tried := await self._try_all()).ok:
            return tried
        done, away = await self._ask_all(dry_run=False)
        if not done.ok:
            return done
        old, self.config = self.config, new
        self._restart = waiting(self._used, new)
        STOP.drain = new.runtime.drain
        change_logs(new.log)
        await self.alerts.change(new, alerts)
        for one in away:  # its process may have begun with the configuration before
            one.begin_anew()
        return merged_results([done, changed_alerts_and_settings(old, new, self._restart)])

    async def _reload(self, worker: Worker, *, dry_run: bool) -> ReloadResult | None:
        """What a worker's reload comes to; None if it is away."""
        url = f"http://worker{RELOAD_AS_VALUE}?dry_run={str(dry_run).lower()}"
        try:
            async with _session(worker, None) as session, session.post(url) as answer:
                if not answer.ok:
                    return refused([f"worker {worker.number}: HTTP {answer.status}"])
                return msgspec.json.decode(await answer.read(), type=ReloadResult)
        except GONE:
            return None
        except msgspec.MsgspecError as error:
            return refused([f"worker {worker.number}: {error}"])

    async def pause(self, connector: str, until: float | None) -> bool:
        """Have a connector hold its events in all workers, until a time (Unix seconds) or until it is resumed; False if
        it does so already, as long. Returns when those that run heed it; the others do when they start.

        Raises LookupError, OSError (it is not heeded yet), sqlite3.Error."""
        self._check(connector)
        changed = await ADMIN.run(pause_connector, self.folder, connector, until)
        await self._post_all(connector, "pause" if until is None else f"pause?until={until!r}")
        return changed

    async def resume(self, connector: str) -> bool:
        """Have a connector go on in all workers; False if it was not paused. Returns when those that run heed it.

        Raises LookupError, OSError (it is not heeded yet), sqlite3.Error."""
        self._check(connector)
        changed = await ADMIN.run(resume_connector, self.folder, connector)
        await self._post_all(connector, "resume")
        return changed

    async def try_now(self, connector: str) -> bool:
        """Have a connector that waits for its destination try again at once, in all workers; False if it waits in none.
        Raises LookupError, OSError (a worker refuses)."""
        self._check(connector)
        return any(said.get("retried") for said in await self._post_all(connector, "retry"))

    def _check(self, connector: str) -> None:
        """Raise LookupError unless a connector is configured."""
        if connector not in self.config.connectors:
            known = ", ".join(sorted(self.config.connectors)) or "none"
            raise LookupError(f"no connector {connector} runs; there are: {known}")

    async def _post_all(self, connector: str, what: str) -> list[dict[str, Any]]:
        """Ask all workers for something about a connector; what those say that are there. Raises OSError."""
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
        """Let go of all that is kept of a connector that is not configured, and runs in no worker; not in the middle of
        a reload. Raises LookupError, ValueError (it is, or does), OSError, sqlite3.Error."""
        async with self._reloading:
            running = [lane.connector for lane in (await self.status()).lanes]
            return await forgotten(self.folder, connector, {*self.config.connectors, *running})

    async def _post(self, worker: Worker, path: str) -> dict[str, Any] | str | None:
        """Ask a worker for something: what it says, or why it does not do it; None if it is not there."""
        try:
            async with _session(worker, PAUSE_S) as session, session.post(f"http://worker{path}") as answer:
                said = msgspec.json.decode(await answer.read(), type=dict[str, Any])
                return said if answer.ok else f"worker {worker.number}: {said.get('detail')}"
        except GONE:
            return None
        except msgspec.MsgspecError as error:
            return f"worker {worker.number}: {error}"

    @asynccontextmanager
    async def tap(self, at: str, entries: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """What passes at "ingest", or at a connector behind its filters, in all workers, as NDJSON. Raises
        LookupError."""
        if at != "ingest" and at not in self.config.connectors:
            known = ", ".join(sorted(self.config.connectors)) or "none"
            raise LookupError(f"no connector {at} runs; there are: {known}")
        lines = asyncio.Queue[bytes](PIECES)
        query = [("at", at), *(("events", entry) for entry in entries)]
        failed: Exception | None = None
        async with asyncio.TaskGroup() as group:
            tapping = [
                group.create_task(_tap(one.worker, query, lines), name=f"tap worker {one.worker.number}")
                for one in self._workers
            ]
            try:
                yield _taken(lines)
            except Exception as error:  # the group would wrap it
                failed = error
            finally:
                for task in tapping:
                    task.cancel()
        if failed is not None:
            raise failed


def away_warning(worker: Worker) -> ReloadWarning:
    """Say that a worker takes no part in a reload."""
    name = f"worker {worker.number}"
    return ReloadWarning(name, f"{name} is away; it begins with this configuration")


async def _tap(worker: Worker, query: Sequence[tuple[str, str]], lines: asyncio.Queue[bytes]) -> None:
    """Hand on what passes in a worker, over its restarts, for ever."""
    while True:
        with suppress(*GONE):
            async with _session(worker, None) as session, session.get("http://worker/tail", params=query) as answer:
                answer.raise_for_status()
                rest = b""
                async for piece in answer.content.iter_any():
                    *whole, rest = (rest + piece).split(b"\n")
                    await lines.put(b"".join(_named(worker, line) for line in whole))
        await asyncio.sleep(AGAIN_S)


def _named(worker: Worker, line: bytes) -> bytes:
    """A JSON object that says which worker it is from."""
    return b'{"worker":%d,%s\n' % (worker.number, line.removeprefix(b"{"))


async def _taken(lines: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    while True:
        yield await lines.get()


@asynccontextmanager
async def _session(worker: Worker, seconds: float | None) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with a worker. Raises OSError if its folder is gone."""
    with address_of(worker.admin) as address:
        connector = aiohttp.UnixConnector(address)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=seconds)) as session:
            yield session
