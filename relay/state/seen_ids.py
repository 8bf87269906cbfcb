"""The ids of the events that a source has taken lately, by which its duplicates are told.

How it fails and recovers:

- An id is noted after the commit that holds its event, never before: whatever is found here is in the journal. A crash
  between the two forgets the id, and a duplicate of that event passes.
- What came within one window lies in one file, a generation. When the newer of the two is a window old, the older one
  is removed and the next one begins: nothing is forgotten before its time, and forgetting is an unlink.
- The files are dispensable. A damaged one is removed; while the disk refuses, ids are not noted. Then duplicates pass,
  which is better than to refuse a sender.
- Events of a subject are noted with it, at one moment: those of an earlier moment are superseded, and found no more.
  That a subject has other events is on disk before these are in the journal; where that fails, everything is forgotten.
- Memory is a small page cache per file, whatever the traffic. On disk an event takes about 40 bytes, for up to twice
  the window.
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

import structlog

T = TypeVar("T")

SEEN: Final = "seen"
FILE: Final = re.compile(r"([a-z0-9_-]+)\.([0-9]+)\.db")
"""Source, and when the generation began (Unix microseconds)."""
DIGEST_BYTES: Final = 16
DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Primary result codes that say that the file itself is no good."""

_OPEN: Final = """
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA cache_size = -1024;
    CREATE TABLE IF NOT EXISTS seen (
        digest BLOB    PRIMARY KEY,  -- of the id
        at     INTEGER NOT NULL      -- Unix microseconds
    ) STRICT, WITHOUT ROWID;
"""
_PLACES: Final = """
    WITH RECURSIVE places (place) AS
    (SELECT 1 WHERE length(?1) > 0 UNION ALL SELECT place + 16 FROM places WHERE place + 16 <= length(?1))
"""
"""Where in a blob of digests each one begins. A statement takes all digests of a request in one step of SQLite: each
step gives the interpreter's lock away, and getting it back from a busy event loop takes milliseconds."""
_FIND: Final = f"""
    {_PLACES} SELECT group_concat(place || ':' || at)
    FROM places CROSS JOIN seen ON digest = substr(?1, place, 16) WHERE at >= ?2
"""  # noqa: S608
_NOTE: Final = f"{_PLACES} REPLACE INTO seen SELECT substr(?1, place, 16), ?2 FROM places"  # noqa: S608

log = structlog.stdlib.get_logger()


class Generation:
    """The digests that came within one window; opened when it is first asked. Blocking. All raises sqlite3.Error."""

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.start = path, start
        self._db: sqlite3.Connection | None = None

    def find(self, digests: bytes, since: int) -> dict[int, int]:
        """Which of the digests came at that time or later: their numbers, and when."""
        (places,) = self._opened().execute(_FIND, (digests, since)).fetchone()
        pairs = (one.split(":") for one in places.split(",")) if places else ()
        return {int(place) // DIGEST_BYTES: int(at) for place, at in pairs}

    def note(self, digests: bytes, at: int) -> None:
        """Remember that these came at that time."""
        self._opened().execute(_NOTE, (digests, at))

    def note_now(self, digests: bytes, at: int) -> None:
        """Remember it even over a power cut."""
        db = self._opened()
        db.execute("PRAGMA synchronous = FULL")
        try:
            self.note(digests, at)
        finally:
            db.execute("PRAGMA synchronous = NORMAL")

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                db.executescript(_OPEN)
            except sqlite3.Error:
                db.close()
                raise
            self._db = db
        return self._db

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def remove(self) -> None:
        """Forget all of it. Raises OSError."""
        self.close()
        for suffix in ("-wal", ""):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


class Seen:
    """The ids that one source took within a window of so many seconds, up to now. All disk work is on a thread."""

    def __init__(self, state: Path, source: str, window: float, clock: Callable[[], float] = time.time) -> None:
        """Nothing is opened before the first use."""
        self._folder, self._source = state / SEEN, source
        self.window, self._clock = window, clock
        self._generations: list[Generation] | None = None
        self._thread = ThreadPoolExecutor(1, f"seen {source}")

    async def find(self, ids: Sequence[str], subject: str | None = None) -> set[str]:
        """Those of the ids that were noted within the window, fewer if they cannot be read; with a subject, those that
        were noted with it last."""
        return await self._run(lambda: self._find(ids, subject))

    async def note(self, ids: Sequence[str], subject: str | None = None) -> None:
        """Remember that events with these ids are in the journal, if that is possible."""
        await self._run(lambda: self._note(ids if subject is None else [*ids, subject]))

    async def supersede(self, subject: str) -> None:
        """From now on, whatever happens, find no event that was noted with this subject before."""
        await self._run(lambda: self._supersede(subject))

    async def close(self) -> None:
        """Let go of the files."""
        await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _find(self, ids: Sequence[str], subject: str | None) -> set[str]:
        asked = ids if subject is None else [*ids, subject]
        digests, since = _digests(asked), self._now() - round(self.window * 1e6)
        found: dict[str, int] = {}
        for generation in [*self._known()]:
            with self._dispensable(generation):
                found |= {asked[number]: at for number, at in generation.find(digests, since).items()}
        if subject is None:
            return {*found}
        newest = found.pop(subject, None)
        return {one for one, at in found.items() if at == newest}

    def _note(self, ids: Sequence[str]) -> None:
        now = self._now()
        generation = self._newest(now)
        with self._dispensable(generation):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            generation.note(_digests(ids), now)

    def _supersede(self, subject: str) -> None:
        now = self._now()
        generation = self._newest(now)
        with self._dispensable(generation):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            generation.note_now(_digests([subject]), now)
            return
        while self._known():  # better a duplicate than to leave out what a subject has come back to
            with suppress(OSError):
                self._known().pop().remove()

    def _newest(self, now: int) -> Generation:
        """The generation to write to; if it is a new one, the one before the last goes."""
        known = self._known()
        if not known or abs(now - known[-1].start) >= self.window * 1e6:  # abs: a wrong clock is not waited for
            known.append(Generation(self._folder / f"{self._source}.{now}.db", now))
        for old in known[:-2]:
            with self._dispensable(old):
                old.remove()
                known.remove(old)
        return known[-1]

    def _known(self) -> list[Generation]:
        """The generations, the newest last."""
        if self._generations is None:
            mine = [(start, path) for source, start, path in _files(self._folder) if source == self._source]
            self._generations = [Generation(path, start) for start, path in sorted(mine)]
        return self._generations

    @contextmanager
    def _dispensable(self, generation: Generation) -> Iterator[None]:
        """Say what fails with a generation, and go on without it."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            name, what = generation.path.name, {"source": self._source, "error": str(error)}
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
                log.error("ids of events cannot be kept, so that duplicates of them pass", file=name, **what)
                return
            log.error("ids of events are damaged and removed, so that duplicates of them pass", file=name, **what)
            self._known().remove(generation)
            with suppress(OSError):
                generation.remove()

    def _close(self) -> None:
        for generation in self._known():
            with self._dispensable(generation):
                generation.close()

    def _now(self) -> int:
        return round(self._clock() * 1e6)


def forget_seen(state: Path, keep: Collection[str]) -> None:
    """Remove the ids of all sources but these. Blocking."""
    for source, start, path in _files(state / SEEN):
        if source not in keep:
            with suppress(OSError):
                Generation(path, start).remove()


def _files(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """The generations of all sources: source, start, path."""
    with suppress(OSError):
        for path in folder.iterdir():
            if match := FILE.fullmatch(path.name):
                yield match[1], int(match[2]), path


def _digests(ids: Sequence[str]) -> bytes:
    """128 bits of each id, one behind the other: two ids that differ never meet."""
    texts = [one.encode("utf-8", "surrogatepass") for one in ids]
    return b"".join(blake2b(text, digest_size=DIGEST_BYTES).digest() for text in texts)
