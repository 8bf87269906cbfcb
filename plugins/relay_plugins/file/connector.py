"""The connector type `file`: events as NDJSON in files, on disk before they count as delivered."""

import gzip
import os
import re
import string
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Final, Literal

from pydantic import Field, field_validator

from relay.api import (
    DELIVERED,
    Batch,
    Block,
    ByteSize,
    Connector,
    ConnectorSettings,
    Contradiction,
    Duration,
    Outcome,
    Retry,
    Skipped,
    User,
)
from relay_plugins.file.retention import FileLimits, OldFiles
from relay_plugins.file.writer import NOT_REGULAR, ClosedFiles, Files

NAME_LENGTH: Final = 128
"""Characters of an event type that go into a file's name; a name may have 255 bytes."""
PATHS_REMEMBERED: Final = 1024
HOUR_SECONDS: Final = 3600
GZIP_LEVEL: Final = 2
MIB: Final = 1 << 20
PARTS: Final = 10
"""Files that `max_total` is divided into, if nothing says how large one may be."""
ENDINGS: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}
STATE: Final = "/var/lib/relay"
KERNELS: Final = ("/proc", "/sys")
PLACEHOLDERS: Final = ("date", "hour", "type", "source", "worker")
SHARE_OF_TIMEOUT: Final = 0.5
"""Of `timeout`; no file is begun after that. What is on disk must be reported before the delivery counts as failed."""


class File(Connector, type="file", batch={"events": 10_000, "size": "8MiB", "age": "100ms"}, retry={"max": "5s"}):
    """Appends events to files, one event per line. A delivered event is on disk and readable.

    Batches are larger than over a network, because each batch needs an fsync for each file. A compressed file grows by
    a complete gzip member or zstd frame per batch; zcat and zstdcat can read the file. After a crash relay cuts a
    plain file back to its last whole line when it opens the file. relay sets a compressed file that no clean stop has
    closed aside under the next number, and writes its last events again. If something else renames or deletes a file,
    relay creates the file again.
    """

    class Settings(ConnectorSettings):
        """Where the files are, and when the next one begins."""

        path: str
        """Path of the files, relative to the state folder. It may hold `{date}`, `{hour}` (both UTC, of receipt),
        `{type}`, `{source}` and `{worker}`."""
        max_size: ByteSize = 0
        """Maximum size of a file. relay renames a file that would exceed this size to `NAME.1.ndjson`, the next file to
        `NAME.2.ndjson`. 0: no limit, but a tenth of `max_total` if that is set.

        The highest number is the newest file.
        """
        max_age: Duration = 0
        """Longest time from opening a file to renaming it, as with `max_size`. 0: no limit."""
        keep: Duration = 0
        """How long a file stays after its last write; then it is removed. 0: files stay.

        This applies to every file with a name that `path` can make, numbered and compressed files included. The current
        file always stays. relay removes old files when it writes, when it begins a file, and once a minute.
        """
        max_total: ByteSize = 0
        """Maximum size of all files together. When the files are larger, relay removes the oldest files. 0: no limit.

        With `{worker}` in `path`, `max_total` is the limit of each worker.
        """
        compress: Literal["none", "gzip", "zstd"] = "none"
        """Compression of the files. `"gzip"` adds `.gz` to the name, `"zstd"` adds `.zst`.

        Each batch is a complete member, so that every file can be read at any time.
        """
        concurrency: int = Field(1, ge=1, le=1)
        """Maximum number of batches under way at a time. It is always 1, so that lines stay whole."""

        @field_validator("path")
        @classmethod
        def _known_placeholders(cls, path: str) -> str:
            for _, name, spec, conversion in string.Formatter().parse(path):
                if name is not None and (name not in PLACEHOLDERS or spec or conversion):
                    raise ValueError(f"{{{name}}} is none of " + ", ".join(f"{{{known}}}" for known in PLACEHOLDERS))
            if not PurePath(path).name or path.endswith("/"):
                raise ValueError(f'expected the path of a file such as "archive/{{date}}.ndjson", got {path!r}')
            return path

        def contradictions(self) -> Iterator[Contradiction]:
            """What is removed has to be a file that is no longer written."""
            yield from super().contradictions()
            ends = self.max_size or self.max_age or "{date}" in self.path or "{hour}" in self.path
            if self.keep and not (ends or self.max_total):
                yield "keep path", "keep removes nothing: no file ever ends without max_size, max_age or {date} in path"

        def warnings(self) -> Iterator[Contradiction]:
            """Nothing ends what grows in the state folder, but a full disk."""
            yield from super().warnings()
            if not (self.keep or self.max_total) and _is_beside_journal(self.path):
                reason = "grows without limit on the file system of the journal: when it is full senders are refused"
                yield "path", f"{reason}; set keep or max_total, or give it a disk of its own"

        @field_validator("compress")
        @classmethod
        def _can_compress(cls, compress: str) -> str:
            _compressor(compress)
            return compress

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        suffix = PurePath(settings.path).suffix
        ending = ("" if "{" in suffix else suffix) + ENDINGS[settings.compress]
        self._compress = _compressor(settings.compress)
        self._path = lru_cache(PATHS_REMEMBERED)(self._path_of)
        self._files = Files(
            max_size=settings.max_size or settings.max_total // PARTS,
            max_age=settings.max_age,
            ending=ending,
            whole=None if settings.compress == "none" else ClosedFiles(folder / "closed" / name),
            warn=lambda what, path: self.log.warning(what, path=str(path)),
        )

    @cached_property
    def _old(self) -> OldFiles:
        limits = FileLimits(self.settings.keep, self.settings.max_total)
        return OldFiles(self.folder, self.settings.path, self.worker, limits)

    async def probe(self) -> str:
        """Look whether a file could be written now. Raises `Retry`."""
        return await self.run_blocking(self._probe)

    @property
    def single_worker(self) -> bool:
        """Several processes must not append to one file; with {worker} in its path each has its own."""
        return "{worker}" not in self.settings.path

    @property
    def local_path(self) -> Path:
        """The file of an event that comes now."""
        return self._path(time.time() // HOUR_SECONDS, "type", "source")

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        """Append the batch's events to their files; `Retry` for those of a file that could not be written, or for which
        there was no time left."""
        return await self.run_blocking(self._write, batch, time.monotonic() + SHARE_OF_TIMEOUT * self.settings.timeout)

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Files belong to others as soon as they are written."""
        return [Skipped(f"files are yours: {self.folder / self.settings.path} may still have the user")] * len(users)

    async def close(self) -> None:
        """Close all files."""
        await self.run_blocking(self._files.close)

    def _probe(self) -> str:
        path = self.local_path
        if path.exists() and not path.is_file():
            raise Retry(f"{path}: {NOT_REGULAR}")
        place = next(place for place in (path, *path.parents) if place.exists())
        kernels = any(place.is_relative_to(folder) for folder in KERNELS)  # where root may write, but make no files
        if kernels or not os.access(place, os.W_OK) or place.is_dir() == (place == path):
            raise Retry(f"{place} cannot be written, for {path}")
        return f"{path} can be written"

    def _write(self, batch: Batch, until: float) -> list[Outcome] | None:
        """Write file after file up to that time (monotonic seconds), but at least one."""
        failed: dict[int, Outcome] = {}
        shares = self._shares(batch)
        for written, (path, share) in enumerate(shares.items()):
            if written and time.monotonic() > until:
                retry = Retry(f"{written} of {len(shares)} files are written, goes on", after=0, hold_lane=False)
            elif (problem := self._append(path, share)) is not None:
                retry = Retry(problem)
            else:
                continue
            failed |= dict.fromkeys(share.events(), retry)
        return [failed.get(number, DELIVERED) for number in range(len(batch))] if failed else None

    def _append(self, path: Path, share: "Share") -> str | None:
        """Append a file's share of a batch to it; return what went wrong."""
        opened = self._files.opened
        try:
            data, size = self._data(Batch(share.blocks))
            if full := self._full(path, size):
                self._remove_old(at_once=False)
                return full
            self._files.append(path, data, size)
            self._remove_old(at_once=self._files.opened > opened)
        except OSError as error:
            return f"{error.filename or path}: {error.strerror}"
        return None

    def _full(self, path: Path, size: int) -> str:
        """Why so many bytes must not be written: they would take the room of the journal, and senders would be refused.
        "" if they may. Raises OSError."""
        place = next(place for place in path.parents if place.exists())
        if not self.min_free or place.stat().st_dev != self.folder.stat().st_dev:
            return ""
        about = os.statvfs(place)
        free, kept = about.f_bavail * about.f_frsize, 2 * self.min_free
        if free - size >= kept:
            return ""
        numbers = f"{free / MIB:,.0f} MiB free; {kept / MIB:,.0f} MiB, twice journal.min_free, are kept for the journal"
        limits = [name for name in ("keep", "max_total") if getattr(self.settings, name)]
        lower = f", or lower {' or '.join(limits)}" if limits else ""
        return f"its file system is full: {path} ({numbers}): free some space{lower}"

    def _remove_old(self, *, at_once: bool) -> None:
        """Remove files that are too old or too many; that one stays is no reason to write events again."""
        try:
            removed = self._old.remove(self._files.is_open, at_once=at_once)
        except OSError as error:
            self.log.warning("old files cannot be removed", path=str(error.filename), reason=error.strerror)
            return
        if removed:
            freed = sum(file.size for file in removed)
            oldest, newest = removed[0].path, removed[-1].path
            self.log.info("old files removed", files=len(removed), bytes=freed, oldest=str(oldest), newest=str(newest))

    def _data(self, batch: Batch) -> tuple[Iterable[bytes | bytearray], int]:
        """What is written, in parts, and how many bytes that is."""
        if self._compress is None:
            return batch.line_parts(), batch.size + 1
        member = self._compress(batch.lines())
        return [member], len(member)

    def _shares(self, batch: Batch) -> dict[Path, "Share"]:
        """What of the batch goes into which file."""
        shares: dict[Path, Share] = {}
        base = 0
        for block in batch.blocks:
            for path, mine in self._files_of(block).items():
                share = shares.setdefault(path, Share([], []))
                share.blocks.append(block if len(mine) == len(block) else block.pick(mine))
                share.numbers.append((base, mine))
            base += len(block)
        return shares

    def _files_of(self, block: Block) -> dict[Path, Sequence[int]]:
        """The numbers of a block's events, by the file that they go into."""
        hour, kinds = block.received // HOUR_SECONDS, block.kinds
        paths = {kind: self._path(hour, kinds[kind].type, kinds[kind].source) for kind in set(block.index)}
        if len(found := set(paths.values())) == 1:
            return {found.pop(): range(len(block))}
        numbers: dict[Path, list[int]] = {}
        for number, kind in enumerate(block.index):
            numbers.setdefault(paths[kind], []).append(number)
        return {**numbers}

    def _path_of(self, hour: float, type: str, source: str) -> Path:
        moment = datetime.fromtimestamp(hour * HOUR_SECONDS, UTC)
        name = self.settings.path.format(
            date=f"{moment:%Y-%m-%d}",
            hour=f"{moment:%H}",
            type=file_name(type),
            source=file_name(source),
            worker=self.worker,
        )
        return self.folder / (name + ENDINGS[self.settings.compress])


@dataclass(frozen=True, slots=True)
class Share:
    """What of a batch goes into one file: blocks, and which events of the batch they are."""

    blocks: list[Block]
    numbers: list[tuple[int, Sequence[int]]]
    """By block: how many events of the batch come before it, and the numbers in it."""

    def events(self) -> Iterator[int]:
        """The numbers in the batch."""
        return (before + number for before, numbers in self.numbers for number in numbers)


def _is_beside_journal(path: str) -> bool:
    """Whether a path leads into the state folder, or to the file system of the one that relay has by default."""
    state, folder = Path(os.environ.get("STATE_DIRECTORY", STATE)), PurePath(path.partition("{")[0])
    if not folder.is_absolute():
        return True
    try:
        place = next(place for place in (Path(folder), *Path(folder).parents) if place.exists())
        return place.stat().st_dev == state.stat().st_dev
    except OSError:  # there is none, or it is not for us to look at
        return False


def file_name(text: str) -> str:
    """A sender's text as part of a file's name: it can neither name another folder nor a hidden file."""
    return re.sub(r"[^A-Za-z0-9._-]|^\.+", "_", text)[:NAME_LENGTH]


def _compressor(how: str) -> Callable[[bytes], bytes] | None:
    """The function that makes one member or frame; None for plain lines. Raises ValueError if it is not installed."""
    if how == "none":
        return None
    if how == "gzip":
        return lambda data: gzip.compress(data, GZIP_LEVEL, mtime=0)
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise ValueError('compress = "zstd" needs a package: install currents-relay[zstd]') from None
    return zstd.compress
