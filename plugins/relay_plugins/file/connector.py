"""The connector type `file`: events as NDJSON in files, on disk before they count as delivered."""

import gzip
import os
import re
import string
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
    load_zstd,
)
from relay_plugins.file.retention import FileLimits, OldFiles
from relay_plugins.file.writer import NOT_REGULAR, ClosedFiles, Files

NAME_LENGTH: Final = 128
"""Characters of an event type in the name of a file. A name may have 255 bytes."""
PATHS_REMEMBERED: Final = 1024
HOUR_SECONDS: Final = 3600
GZIP_LEVEL: Final = 2
MIB: Final = 1 << 20
PARTS: Final = 10
"""Number of files that share `max_total`, if `max_size` is not set."""
ENDINGS: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}
STATE: Final = "/var/lib/relay"
KERNELS: Final = ("/proc", "/sys")
PLACEHOLDERS: Final = ("date", "hour", "type", "source", "worker")
SHARE_OF_TIMEOUT: Final = 0.5
"""Share of `timeout` after which relay begins no file. Written events must be reported before the delivery fails."""


class File(Connector, type="file", batch={"events": 10_000, "size": "8MiB", "age": "100ms"}, retry={"max": "5s"}):
    """Appends events to files, one event per line. A delivered event is on disk and readable.

    Batches are larger than over a network, because each batch needs an fsync for each file. A compressed file grows by
    a complete gzip member or zstd frame per batch; zcat and zstdcat can read the file. After a crash relay cuts a
    plain file back to its last whole line when it opens the file. relay sets a compressed file that no clean stop has
    closed aside under the next number, and writes its last events again. If something else renames or deletes a file,
    relay creates the file again.
    """

    class Settings(ConnectorSettings):
        """Where the files are, and when relay begins the next file."""

        path: str
        """Path of the files, relative to the state folder. It may hold `{date}`, `{hour}` (both UTC, of receipt),
        `{type}`, `{source}` and `{worker}`.

        `{worker}` is the number of the worker, or of the partition with a journal in PostgreSQL.
        """
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

        With `{worker}` in `path`, `max_total` is the limit of each worker or partition.
        """
        compress: Literal["none", "gzip", "zstd"] = "none"
        """Compression of the files. `"gzip"` adds `.gz` to the name, `"zstd"` adds `.zst`.

        Each batch is a complete member, so that every file can be read at any time.
        """
        concurrency: int = Field(1, ge=1, le=1)
        """Maximum number of batches under way at a time. It is always 1, so that lines stay whole."""

        @field_validator("path")
        @classmethod
        def _check_placeholders(cls, path: str) -> str:
            for _, name, spec, conversion in string.Formatter().parse(path):
                if name is not None and (name not in PLACEHOLDERS or spec or conversion):
                    raise ValueError(f"{{{name}}} is none of " + ", ".join(f"{{{known}}}" for known in PLACEHOLDERS))
            if not PurePath(path).name or path.endswith("/"):
                raise ValueError(f'expected the path of a file such as "archive/{{date}}.ndjson", got {path!r}')
            return path

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield `keep` if no file ever ends: relay removes only files that have ended."""
            yield from super().contradictions()
            ends = self.max_size or self.max_age or "{date}" in self.path or "{hour}" in self.path
            if self.keep and not (ends or self.max_total):
                yield "keep path", "keep removes nothing: no file ever ends without max_size, max_age or {date} in path"

        def warnings(self) -> Iterator[Contradiction]:
            """Yield `path` if files without a limit grow on the disk of the journal."""
            yield from super().warnings()
            if self.keep or self.max_total:
                return
            state, folder = Path(os.environ.get("STATE_DIRECTORY", STATE)), Path(self.path.partition("{")[0])
            is_beside = not folder.is_absolute()
            with suppress(OSError):  # a folder does not exist, or relay may not look at it
                place = next(place for place in (folder, *folder.parents) if place.exists())
                is_beside |= place.stat().st_dev == state.stat().st_dev
            if is_beside:
                reason = "grows without limit on the file system of the journal: when it is full senders are refused"
                yield "path", f"{reason}; set keep or max_total, or give it a disk of its own"

        @field_validator("compress")
        @classmethod
        def _check_compress(cls, compress: str) -> str:
            _find_compressor(compress)
            return compress

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        self._compress = _find_compressor(settings.compress)
        self._path = lru_cache(PATHS_REMEMBERED)(self._make_path)

    @cached_property
    def _files(self) -> Files:
        suffix = PurePath(self.settings.path).suffix
        return Files(
            max_size=self.settings.max_size or self.settings.max_total // PARTS,
            max_age=self.settings.max_age,
            ending=("" if "{" in suffix else suffix) + ENDINGS[self.settings.compress],
            closed=None if self.settings.compress == "none" else ClosedFiles(self._closed_path),
            warn=lambda what, path: self.log.warning(what, path=str(path)),
        )

    @property
    def _closed_path(self) -> Path:
        """Return the place of the sizes of closed files. A worker has a folder of its own. Partitions have one folder,
        and a file of sizes each."""
        is_own = self.worker == 0 or self.folder.name == str(self.worker)
        return self.folder / "closed" / (self.name if is_own else f"{self.name}.{self.worker}")

    @cached_property
    def _old_files(self) -> OldFiles:
        limits = FileLimits(self.settings.keep, self.settings.max_total)
        return OldFiles(self.folder, self.settings.path, self.worker, limits)

    async def probe(self) -> str:
        """Check that relay could write a file now. Raises `Retry`."""
        return await self.run_blocking(self._probe)

    @property
    def single_worker(self) -> bool:
        """Return whether the path lacks `{worker}`: several processes must not append to the same file."""
        return "{worker}" not in self.settings.path

    @property
    def local_path(self) -> Path:
        """Return the file of an event that comes now."""
        return self._path(time.time() // HOUR_SECONDS, "type", "source")

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        """Append the batch's events to their files. Return `Retry` for the events of a file that could not be written
        in time."""
        return await self.run_blocking(self._write, batch, time.monotonic() + SHARE_OF_TIMEOUT * self.settings.timeout)

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Return `Skipped`: relay does not change lines that it has written."""
        where = f"{self.folder / self.settings.path}{'' if self.single_worker else ' on each node'}"
        return [Skipped(f"files are yours: {where} may still have the user")] * len(users)

    async def close(self) -> None:
        """Close all files."""
        await self.run_blocking(self._files.close)

    def _probe(self) -> str:
        path = self.local_path
        if path.exists() and not path.is_file():
            raise Retry(f"{path}: {NOT_REGULAR}")
        place = next(place for place in (path, *path.parents) if place.exists())
        # root may write in the kernel's folders, but make no files there
        is_kernel = any(place.is_relative_to(folder) for folder in KERNELS)
        if is_kernel or not os.access(place, os.W_OK) or place.is_dir() == (place == path):
            raise Retry(f"{place} cannot be written, for {path}")
        return f"{path} can be written"

    def _write(self, batch: Batch, until: float) -> list[Outcome] | None:
        """Write file after file until a time (monotonic seconds), but at least one file."""
        failed: dict[int, Outcome] = {}
        shares = self._divide(batch)
        for written, (path, share) in enumerate(shares.items()):
            if written and time.monotonic() > until:
                retry = Retry(f"{written} of {len(shares)} files are written, goes on", after=0, hold_lane=False)
            elif (problem := self._append(path, share)) is not None:
                retry = Retry(problem)
            else:
                continue
            failed |= dict.fromkeys(share.list_events(), retry)
        return [failed.get(number, DELIVERED) for number in range(len(batch))] if failed else None

    def _append(self, path: Path, share: "Share") -> str | None:
        """Append a file's share of a batch; return what went wrong, or None."""
        opened, batch = self._files.opened_total, Batch(share.blocks)
        try:
            data: Iterable[bytes | bytearray]
            if self._compress is None:
                data, size = batch.line_parts(), batch.size + 1
            else:
                member = self._compress(batch.lines())
                data, size = [member], len(member)
            if problem := self._check_space(path, size):
                self._remove_old(at_once=False)
                return problem
            self._files.append(path, data, size)
            self._remove_old(at_once=self._files.opened_total > opened)
        except OSError as error:
            return f"{error.filename or path}: {error.strerror}"
        return None

    def _check_space(self, path: Path, size: int) -> str:
        """Return why relay must not write `size` bytes; "" if it may. Without free space for the journal relay would
        refuse its senders. Raises OSError."""
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
        """Remove files that are too old or too many. A failure goes to the log only: the events are written."""
        try:
            removed = self._old_files.remove(self._files.is_open, at_once=at_once)
        except OSError as error:
            self.log.warning("old files cannot be removed", path=str(error.filename), reason=error.strerror)
            return
        if removed:
            freed = sum(file.size for file in removed)
            oldest, newest = removed[0].path, removed[-1].path
            self.log.info("old files removed", files=len(removed), bytes=freed, oldest=str(oldest), newest=str(newest))

    def _divide(self, batch: Batch) -> dict[Path, "Share"]:
        """Divide a batch into the shares of its files."""
        shares = defaultdict[Path, Share](Share)
        before = 0
        for block in batch.blocks:
            hour, kinds = block.received // HOUR_SECONDS, block.kinds
            paths = {kind: self._path(hour, kinds[kind].type, kinds[kind].source) for kind in set(block.index)}
            numbers: dict[Path, Sequence[int]]
            if len(found := set(paths.values())) == 1:
                numbers = {found.pop(): range(len(block))}
            else:
                by_path = defaultdict[Path, list[int]](list)
                for number, kind in enumerate(block.index):
                    by_path[paths[kind]].append(number)
                numbers = {**by_path}
            for path, mine in numbers.items():
                shares[path].blocks.append(block if len(mine) == len(block) else block.pick(mine))
                shares[path].numbers.append((before, mine))
            before += len(block)
        return shares

    def _make_path(self, hour: float, type: str, source: str) -> Path:
        moment = datetime.fromtimestamp(hour * HOUR_SECONDS, UTC)
        name = self.settings.path.format(
            date=f"{moment:%Y-%m-%d}",
            hour=f"{moment:%H}",
            type=clean_name(type),
            source=clean_name(source),
            worker=self.worker,
        )
        return self.folder / (name + ENDINGS[self.settings.compress])


@dataclass(frozen=True, slots=True)
class Share:
    """A file's share of a batch."""

    blocks: list[Block] = field(default_factory=list)
    numbers: list[tuple[int, Sequence[int]]] = field(default_factory=list)
    """For each block: how many events of the batch come before the block, and the numbers of the events in it."""

    def list_events(self) -> Iterator[int]:
        """Return the numbers of the events in the batch."""
        return (before + number for before, numbers in self.numbers for number in numbers)


def clean_name(text: str) -> str:
    """Return a sender's text as part of a file's name. The name is in the same folder, and not hidden."""
    return re.sub(r"[^A-Za-z0-9._-]|^\.+", "_", text)[:NAME_LENGTH]


def _find_compressor(how: str) -> Callable[[bytes], bytes] | None:
    """Return the function that makes a member or frame; None for plain lines. Raises ValueError if it is not
    installed."""
    if how == "none":
        return None
    if how == "gzip":
        return lambda data: gzip.compress(data, GZIP_LEVEL, mtime=0)
    compress: Callable[[bytes], bytes] = load_zstd().compress
    return compress
