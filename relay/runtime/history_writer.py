"""Writes the history in a thread. Nothing waits for it; an entry is dropped instead.

One process writes it: the daemon, or the supervisor of several workers. Failure: what cannot be written because the
disk is full or relay.db is locked is dropped with a line in the log. Entries wait while a database is away, which the
log says by itself. A written entry survives a SIGKILL.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from msgspec.structs import replace

from relay import __version__
from relay.config import LOG, Config, find_changed_files, read_stamps
from relay.runtime.condition_watch import ConditionSnapshot, ConditionWatch
from relay.runtime.history_entries import HistoryEntries
from relay.stop import STOP, count_seconds_left
from relay.store import Entry, HistoryQuery, Store, Unavailable, is_logged
from relay.threads import ADMIN
from relay.words import format_count, format_span, format_time

WAITING: Final = 1000
"""Entries that may wait to be written."""
NAMED: Final = 20
"""Files that an entry names, at most."""
END_S: Final = 3.0
"""Seconds that a stop waits for the last entries."""
log = structlog.stdlib.get_logger()


class History:
    """Takes entries, and writes them to the store."""

    def __init__(self, store: Store, in_force: Callable[[], Config], watch: ConditionWatch, every: float = 3.0) -> None:
        """`in_force` returns the configuration in force. `every`: seconds between two checks of what no status has."""
        self._store, self._in_force, self._every = store, in_force, every
        self._entries = HistoryEntries()
        self._waiting = deque[Entry]()
        self._some, self._writing = asyncio.Event(), asyncio.Lock()
        self._began = self._looked = time.time()
        self._last_erasure = -1
        self._changed: list[str] = []
        self.notes_done = True
        """Whether this process notes finished replays and erasures. Otherwise another process does."""
        self._seen: tuple[Config | None, Sequence[Any]] = None, []
        """The configuration that the files of conf.d were compared with last, and the files that differed."""
        watch.listeners.append(self._add_changes)

    def note(self, entry: Entry) -> None:
        """Write an entry soon. Never waits."""
        if len(self._waiting) >= WAITING:
            log.error("an entry of the history is lost", reason="too many wait to be written", kind=entry.kind)
            return
        line: dict[str, Any] = {"sentence": entry.sentence, "by": entry.by, "about": dict(entry.about)}
        kind, _, name = entry.subject.partition(" ")
        if kind in ("source", "connector"):
            line[kind] = name
        LOG.clean(line)
        self._waiting.append(replace(entry, sentence=line["sentence"], by=line["by"], about=line["about"]))
        self._some.set()

    def _add_changes(self, look: ConditionSnapshot) -> None:
        for entry in self._entries.find(look):
            self.note(entry)

    async def run(self) -> None:
        """Write entries until cancelled."""
        while True:
            await self._some.wait()
            await self._write()

    async def keep_checking(self) -> None:
        """Check again and again for what no status has: finished replays and erasures, changed files. Never ends."""
        while True:
            for look in (self._note_done, self._check_files):
                try:
                    await look()
                except OSError as error:  # of the store, or of the files of conf.d
                    if not is_logged(error):
                        log.warning("what is done cannot be looked up for the history", error=str(error))
                except Exception as bug:  # the history ends nothing
                    log.error("what is done cannot be looked up for the history", exc_info=bug)
            await asyncio.sleep(self._every)

    async def _note_done(self) -> None:
        """Note finished replays and erasures."""
        if not self.notes_done:
            self._last_erasure = -1
            return
        now, since = time.time(), self._looked
        for entry in await ADMIN.run(self._store.history.find_done, since - self._every):
            self.note(entry)
        asked, done, last = await ADMIN.run(self._store.erasures.count, self._last_erasure, since)
        if self._last_erasure >= 0:
            self._entries.count("erasure_requested", "relay", asked)
            self._entries.count("erased", "relay", done)
        self._last_erasure, self._looked = last, now

    async def _check_files(self) -> None:
        """Note files of conf.d that differ from the configuration in force, once for each set of files."""
        config = self._in_force()
        if not config.folders.others:
            return
        seen = config, await ADMIN.run(read_stamps, config.folders)
        if seen[1] == self._seen[1] and config is self._seen[0]:  # to read TOML takes time
            return
        changed = await ADMIN.run(find_changed_files, config.folders, config.texts)
        if config is not self._in_force():  # a reload has ended meanwhile
            return
        if changed and changed != self._changed:
            said = f"{format_count(len(changed), 'file')} of conf.d changed, which relay reload brings into force: "
            named = [*changed[:NAMED], *(["..."] if len(changed) > NAMED else [])]
            self.note(Entry("config_changed", "relay", said + ", ".join(named), about={"files": named}))
        self._seen, self._changed = seen, changed

    async def start(self, workers: int = 1) -> None:
        """Note the start of relay, how the last run ended, and what has finished since."""
        told: list[Entry] = []
        try:
            last = await ADMIN.run(self._store.history.find_last_run)
            before = await ADMIN.run(self._store.history.read, HistoryQuery(limit=1))
            for kind in ("source_refusing", "source_recovered"):
                told += await ADMIN.run(self._store.history.read, HistoryQuery(kind=kind))
        except Unavailable as error:
            if not error.is_logged:
                log.error("the history cannot be read", error=str(error))
            last, before = None, []
        self._entries.remember(sorted(told, key=lambda one: one.number))
        self._looked = before[0].at if before else self._began
        about: dict[str, Any] = {"version": __version__, "workers": workers, "stopped_before": None}
        said = f"relay {__version__} started"
        if last:
            about["stopped_before"] = last[0] != "started"
            if last[0] == "started":
                began = format_time(last[1])
                away = ", or the database was away at its stop" if self._store.shared_partitions else ""
                said += f"; the run since {began} has not ended by a stop: it crashed, or was killed{away}"
                log.warning("the last run has not ended by a stop", began=began)
        self.note(Entry("started", "relay", said, about=about, at=self._began))

    async def end(self) -> None:
        """Note the stop of relay, and write the waiting entries."""
        now = time.time()
        for entry in self._entries.make_counts(now, all_of_them=True):
            self.note(entry)
        ran = now - self._began
        self.note(
            Entry("stopped", "relay", f"relay stopped after {format_span(ran)}", about={"ran_s": round(ran, 1)}, at=now)
        )
        seconds = count_seconds_left(STOP.kept, END_S)
        try:
            async with asyncio.timeout(seconds):
                await self._write()
        except TimeoutError:
            log.error("entries of the history are lost", reason=f"they could not be written in {seconds:.1f} s")

    async def _write(self) -> None:
        """Write the waiting entries, after those being written."""
        async with self._writing:
            self._some.clear()
            entries = [*self._waiting]
            self._waiting.clear()
            settings = self._in_force().history
            try:
                await ADMIN.run(self._store.history.add, entries, settings.keep, settings.max_entries)
            except Unavailable as error:
                if error.is_logged:  # they go with the next entries, once the database is back
                    self._waiting.extendleft(reversed(entries))
                    return
                kinds = sorted({one.kind for one in entries})
                log.error("entries of the history are lost", entries=len(entries), kinds=kinds, reason=str(error))
            except Exception as bug:  # the history ends nothing
                log.error("entries of the history are lost", exc_info=bug)
