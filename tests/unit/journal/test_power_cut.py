"""The power fails between any two operations of the journal: what was acknowledged is still there.

All that the writer does to its files is recorded. For every point of that trace the disk is made up as a power cut may
leave it: what was synced is there; of what was not, nothing, all, or a part that was torn off within its last write.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from relay.api import Kind
from relay.journal.identity import ANY, KnownJournal
from relay.journal.journal import Journal
from relay.store.log import JournalLimits
from tests.conftest import LONG

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(max_size=16 << 20, retention=0)
COMPRESSED = replace(LIMITS, compress=True)
STRIDE, OFTEN = 1 if LONG else 8, ("pwritev", "fdatasync")
"""`make test` has the power fail after one of eight of these, and after every other step."""
Step = tuple[str, str, Any]
"""What was done, to which file, and with what."""


@dataclass
class Recorder:
    """Stands in for the calls by which the journal changes its folder; does them, and writes them down."""

    folder: Path
    steps: list[Step] = field(default_factory=list)
    acknowledged: list[tuple[int, bytes]] = field(default_factory=list)
    """Length of the trace at which an event was acknowledged, and the event."""
    names: dict[int, str] = field(default_factory=dict)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("open", "posix_fallocate", "pwritev", "pwrite", "fsync", "fdatasync", "ftruncate", "unlink"):
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *args: Any, **options: Any) -> Any:
            result = real(target, *args, **options)
            file = self._file(name, target, result)
            if file is not None:
                self.steps.append((name, file, args))
            return result

        return call

    def _file(self, name: str, target: Any, result: Any) -> str | None:
        if isinstance(target, int):
            return self.names.get(target)
        path = Path(os.fspath(target))
        if path != self.folder and (path.parent != self.folder or path.suffix != ".log"):
            return None
        file = "." if path == self.folder else path.name
        if name == "open":
            self.names[result] = file
        return file


@dataclass
class Disk:
    """What a disk holds: files and their names as synced, and what was done since the last sync of each."""

    files: dict[str, bytearray] = field(default_factory=dict)
    durable: dict[str, bytes] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    pending: dict[str, list[Callable[[bytearray], None]]] = field(default_factory=dict)

    def do(self, step: Step) -> None:
        name, file, args = step
        match name:
            case "open" if file != "." and args[0] & os.O_CREAT:
                self.files[file] = bytearray() if args[0] & os.O_TRUNC else self.files.get(file, bytearray())
                self.durable.setdefault(file, b"")
                self._change(file, lambda data: data.clear())
            case "unlink":
                self.files.pop(file)
                self.durable.pop(file)
                self.pending.pop(file, None)
            case "fsync" | "fdatasync" if file == ".":
                self.named = set(self.files)
            case "fsync" | "fdatasync":
                self.durable[file] = bytes(self.files[file])
                self.pending[file] = []
            case "posix_fallocate":
                self._change(file, lambda data: data.extend(bytes(max(0, args[1] - len(data)))))
            case "ftruncate":
                self._change(file, lambda data: data.__delitem__(slice(args[0], None)))
            case "pwritev" | "pwrite":
                written = b"".join(args[0]) if name == "pwritev" else bytes(args[0])
                self._change(file, lambda data: _write(data, args[1], written))

    def _change(self, file: str, change: Callable[[bytearray], None]) -> None:
        change(self.files[file])
        self.pending.setdefault(file, []).append(change)

    def after_power_cut(self) -> Iterator[dict[str, bytes]]:
        """The states in which the disk may come back."""
        yield {file: data for file, data in self.durable.items() if file in self.named}
        yield {file: bytes(data) for file, data in self.files.items()}
        torn = {}
        for file, data in self.durable.items():
            image = bytearray(data)
            for change in self.pending.get(file, [])[:-1]:
                change(image)
            whole = self.files[file]
            half = len(image) // 2 if len(image) > len(whole) else _first_difference(image, whole) + 37
            torn[file] = bytes(whole[:half]) + bytes(image[half:])
        yield torn


def _write(data: bytearray, at: int, written: bytes) -> None:
    data.extend(bytes(max(0, at + len(written) - len(data))))
    data[at : at + len(written)] = written


def _first_difference(one: bytes | bytearray, other: bytes | bytearray) -> int:
    if one == other[: len(one)]:
        return len(one)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


async def make_trace(folder: Path, patch: pytest.MonkeyPatch) -> Recorder:
    """Appends of all sizes, segments that roll and are removed, two restarts. The second run compresses."""
    recorder = Recorder(folder)
    with patch.context() as recording:
        recorder.install(recording)
        number = 0
        for limits in (LIMITS, COMPRESSED, LIMITS):
            journal = Journal(folder, limits, 1 << 20)
            for _ in range(28):
                bodies = [
                    b'{"n":%d,"x":"%s"}' % (number + n, b"y" * (number * 7919 % 90_000)) for n in range(1 + number % 3)
                ]
                await journal.append([KIND] * len(bodies), bodies)
                recorder.acknowledged += [(len(recorder.steps), body) for body in bodies]
                number += len(bodies)
            await journal.close()
    return recorder


async def lost(recorder: Recorder, scratch: Path) -> str | None:
    """The first power cut after which events that were acknowledged are gone, or something else is wrong."""
    disk = Disk()
    for at, step in enumerate(recorder.steps):
        disk.do(step)
        if at % STRIDE and step[0] in OFTEN:
            continue
        for state, files in enumerate(disk.after_power_cut()):
            folder = scratch / f"{at}-{state}"
            folder.mkdir()
            for name, data in files.items():
                (folder / name).write_bytes(data)
            due = [body for when, body in recorder.acknowledged if when <= at]
            if problem := await _missing(folder, due):
                return f"step {at} {step[:2]}, state {state}: {problem}"
            for path in folder.iterdir():
                path.unlink()
    return None


async def _missing(folder: Path, due: list[bytes]) -> str | None:
    try:
        journal = Journal(folder, LIMITS, 1 << 20, KnownJournal(ANY, len(due)))
    except Exception as error:
        return f"the journal does not open: {error!r}"
    try:
        if journal.problem:
            return f"a power cut is taken for damage: {journal.problem}"
        reader, bodies, offset = journal.open_reader(), [], 0
        while offset < journal.head:
            for block in await reader.read(offset):
                bodies += block.bodies()
                offset = block.offsets[-1] + 1
        reader.close()
        if bodies[: len(due)] != due:
            return f"{len(due)} were acknowledged, {len(bodies)} came back"
        if await journal.append([KIND], [b'{"after":1}']) != len(bodies):
            return "what comes after the power cut does not follow what was there"
    except Exception as error:
        return f"the journal cannot be used: {error!r}"
    finally:
        await journal.close()
    return None


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Memory, where there is some to be had: thousands of files are made."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.promise(1)
@pytest.mark.slow
async def test_a_power_cut_at_any_point_loses_nothing_that_was_acknowledged(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = await make_trace(tmp_path / "journal", monkeypatch)
    assert len(recorder.steps) >= 200
    assert await lost(recorder, scratch) is None


@pytest.mark.slow
@pytest.mark.parametrize("skipped", ["fdatasync", "fsync"])
async def test_without_its_syncs_the_journal_would_lose_events(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, skipped: str
) -> None:
    """The proof that the test above can fail."""
    recorder = await make_trace(tmp_path / "journal", monkeypatch)
    recorder.steps = [("nothing", *step[1:]) if step[0] == skipped else step for step in recorder.steps]
    assert await lost(recorder, scratch) is not None


def test_the_trace_is_what_really_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the disk ends with the very bytes that are in the folder."""
    recorder = asyncio.run(make_trace(tmp_path / "journal", monkeypatch))
    disk = Disk()
    for step in recorder.steps:
        disk.do(step)
    real = {path.name: path.read_bytes() for path in (tmp_path / "journal").glob("*.log")}
    assert {file: bytes(data) for file, data in disk.files.items()} == real
