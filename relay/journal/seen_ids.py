"""The ids of a source's recent events, by which duplicates are found.

Failure and recovery:

- An id is noted after the commit that holds its event, never before, so every id found here is in the journal. A crash
  between the two loses the id, and a duplicate of that event passes.
- The ids of one window are in one file, a generation. When the newer of the two is a window old, the older one is
  removed and the next one begins. So nothing is forgotten too early, and forgetting is an unlink.
- The files are dispensable. A damaged file is removed; while the disk refuses, ids are not noted. Then duplicates pass,
  which is better than refusing a sender.
- Events of a subject are noted with the subject at one time. Those of an earlier time are superseded, and not found any
  more. That is on disk before the new events are in the journal. Where it fails, everything is forgotten.
- Memory is a small page cache per file, whatever the traffic. On disk an event takes about 40 bytes, for up to twice
  the window.
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, TypeVar

import structlog

T = TypeVar("T")

FILE: Final = re.compile(r"([a-z0-9_-]+)\.([0-9]+)\.db")
"""Source, and the start of the generation (Unix microseconds)."""
DIGEST_BYTES: Final = 16
DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Primary result codes of a damaged file."""

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
    (SELECT 1 WHERE length(:digests) > 0 UNION ALL SELECT place + 16 FROM places WHERE place + 16 <= length(:digests))
"""
"""The place of each digest in a blob. A statement takes all digests of a request in one step of SQLite: each step
releases the interpreter's lock, and getting it back from a busy event loop takes milliseconds."""
_FIND: Final = f"""
    {_PLACES} SELECT group_concat(place || ':' || at)
    FROM places CROSS JOIN seen ON digest = substr(:digests, place, 16) WHERE at >= :since
"""  # noqa: S608
_NOTE: Final = f"{_PLACES} REPLACE INTO seen SELECT substr(:digests, place, 16), :at FROM places"  # noqa: S608

log = structlog.stdlib.get_logger()


class Generation:
    """The digests of one window. Opened at its first use. Blocking. All methods raise sqlite3.Error."""

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.start = path, start
        self._db: sqlite3.Connection | None = None

    def find(self, digests: bytes, since: int) -> dict[int, int]:
        """Return the digests that came at that time or later: their numbers, and the times."""
        (places,) = self._open().execute(_FIND, {"digests": digests, "since": since}).fetchone()
        pairs = (one.split(":") for one in places.split(",")) if places else ()
        return {int(place) // DIGEST_BYTES: int(at) for place, at in pairs}

    def note(self, digests: bytes, at: int) -> None:
        """Note digests with their time."""
        self._open().execute(_NOTE, {"digests": digests, "at": at})

    def note_durably(self, digests: bytes, at: int) -> None:
        """Note digests so that they survive a power cut."""
        db = self._open()
        db.execute("PRAGMA synchronous = FULL")
        try:
            self.note(digests, at)
        finally:
            db.execute("PRAGMA synchronous = NORMAL")

    def read(self) -> Iterator[tuple[bytes, int]]:
        """Yield the digests with their times."""
        yield from self._open().execute("SELECT digest, at FROM seen")

    def write(self, found: Iterable[tuple[bytes, int]]) -> None:
        """Note digests with the time of each, all or nothing."""
        db = self._open()
        db.execute("BEGIN")
        db.executemany("INSERT INTO seen VALUES (?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)", found)
        db.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
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
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def remove(self) -> None:
        """Remove the file. Raises OSError."""
        self.close()
        for suffix in ("-wal", ""):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


class Seen:
    """The ids that one source took within a window of seconds up to now. All disk work is on a thread."""

    def __init__(self, folder: Path, source: str, window: float, clock: Callable[[], float] = time.time) -> None:
        """`folder`: of the files of all sources. Opens nothing before the first use."""
        self._folder, self._source = folder, source
        self.window, self._clock = window, clock
        self._generations: list[Generation] | None = None
        self._thread = ThreadPoolExecutor(1, f"seen {source}")

    async def find(self, ids: Sequence[str], subject: str | None = None) -> set[str]:
        """Return the ids that were noted within the window; fewer if they cannot be read.

        With a subject, return only the ids noted with it last.
        """
        return await self._run(lambda: self._find(ids, subject))

    async def note(self, ids: Sequence[str], subject: str | None = None) -> None:
        """Note the ids of events that are in the journal. Failures are logged."""
        await self._run(lambda: self._note(ids if subject is None else [*ids, subject]))

    async def supersede(self, subject: str) -> None:
        """Supersede the events noted with this subject before, whatever happens."""
        await self._run(lambda: self._supersede(subject))

    async def close(self) -> None:
        """Close the files."""
        await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _find(self, ids: Sequence[str], subject: str | None) -> set[str]:
        asked = ids if subject is None else [*ids, subject]
        digests, since = b"".join(map(make_id_digest, asked)), self._read_clock() - round(self.window * 1e6)
        found: dict[str, int] = {}
        for generation in [*self._list_generations()]:
            with self._survive_failure(generation):
                found |= {asked[number]: at for number, at in generation.find(digests, since).items()}
        if subject is None:
            return {*found}
        newest = found.pop(subject, None)
        return {one for one, at in found.items() if at == newest}

    def _note(self, ids: Sequence[str], *, durably: bool = False) -> bool:
        """Note ids in the newest generation; return False if that failed. A new generation replaces the one before the
        last."""
        now, known = self._read_clock(), self._list_generations()
        if not known or abs(now - known[-1].start) >= self.window * 1e6:  # abs: a wrong clock is not waited for
            known.append(Generation(self._folder / f"{self._source}.{now}.db", now))
        for old in known[:-2]:
            with self._survive_failure(old):
                old.remove()
                known.remove(old)
        newest = known[-1]
        with self._survive_failure(newest):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            note = newest.note_durably if durably else newest.note
            note(b"".join(map(make_id_digest, ids)), now)
            return True
        return False

    def _supersede(self, subject: str) -> None:
        if self._note([subject], durably=True):
            return
        while self._list_generations():  # better a duplicate than to leave out what a subject has come back to
            with suppress(OSError):
                self._list_generations().pop().remove()

    def _list_generations(self) -> list[Generation]:
        """Return the generations, the newest last."""
        if self._generations is None:
            mine = [(start, path) for source, start, path in _list_files(self._folder) if source == self._source]
            self._generations = [Generation(path, start) for start, path in sorted(mine)]
        return self._generations

    @contextmanager
    def _survive_failure(self, generation: Generation) -> Iterator[None]:
        """Log what fails with a generation, and go on without it."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            name, what = generation.path.name, {"source": self._source, "error": str(error)}
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
                log.error("ids of events cannot be kept, so that duplicates of them pass", file=name, **what)
                return
            log.error("ids of events are damaged and removed, so that duplicates of them pass", file=name, **what)
            self._list_generations().remove(generation)
            with suppress(OSError):
                generation.remove()

    def _close(self) -> None:
        for generation in self._list_generations():
            with self._survive_failure(generation):
                generation.close()

    def _read_clock(self) -> int:
        return round(self._clock() * 1e6)


def forget_seen(folder: Path, keep: Collection[str]) -> None:
    """Remove the ids of all sources but these from the folder of the files. Blocking."""
    for source, start, path in _list_files(folder):
        if source not in keep:
            with suppress(OSError):
                Generation(path, start).remove()


def read_seen(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    """Yield the ids in the folder of the files: source, digest, Unix microseconds. Leaves out what is damaged.
    Blocking."""
    for source, start, path in _list_files(folder):
        with (
            closing(Generation(path, start)) as generation,
            suppress(sqlite3.Error),
        ):
            for digest, at in generation.read():
                yield source, digest, at


def write_seen(folder: Path, found: Iterable[tuple[str, bytes, int]]) -> None:
    """Put ids, as `read_seen` yields them, in place of all in the folder of the files. Blocking. Raises sqlite3.Error,
    OSError."""
    forget_seen(folder, ())
    folder.mkdir(mode=0o700, exist_ok=True)
    now = time.time_ns() // 1000
    for source, rows in groupby(found, itemgetter(0)):
        with closing(Generation(folder / f"{source}.{now}.db", now)) as generation:
            generation.write((digest, at) for _, digest, at in rows)


def _list_files(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """Yield the generations of all sources: source, start, path."""
    with suppress(OSError):
        for path in folder.iterdir():
            if match := FILE.fullmatch(path.name):
                yield match[1], int(match[2]), path


def make_id_digest(one: str) -> bytes:
    """Return 128 bits of an id. Two different ids never meet."""
    return blake2b(one.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
