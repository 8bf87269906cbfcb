"""Remembers which events go out together, so that a restart sends the same ones together, under the same key.

How it fails and recovers:

- Before a batch first goes out, the offsets of its events are added to a file of its lane, in the folder `cuts` beside
  relay.db: one write, without a sync. That outlives `kill -9`. A power cut may lose it; then the events go out again
  all the same, perhaps cut otherwise, under other keys.
- A batch that was refused as a whole and goes out in halves is a cut no more: a line says so, and its halves are.
- A cut says which events go together. Which events are sent at all is for the cursor to say. So nothing that a file
  holds, or lacks, can lose an event or send one more often.
- Each line has a checksum. A line that is torn or damaged costs its keys and nothing else.
- A file begins with the id of its journal. The cuts of another journal are not used; nor is what a cut says of offsets
  that are settled, that the journal does not have, or that an earlier cut has.
- Once a saved cursor has settled a cut, the cut may go. The file is written anew without such cuts when it has grown:
  beside the old one, whose place it takes in one step.
- A disk that is full, or refuses, costs the keys of what goes out meanwhile. The log says so once, and the file is
  written anew every AGAIN_S until that succeeds.
"""

import os
import time
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec
import structlog

from relay.api import Batch
from relay.state import make_cut_file
from relay.store import Cursor, find_unsettled, make_ranges
from relay.threads import JOURNAL_READS

Ranges = Sequence[tuple[int, int]]
"""Ranges of offsets (start, stop), ascending."""
GROWN: Final = 64 << 10
"""The file is written anew when it has grown by so many bytes."""
AGAIN_S: Final = 5.0
KIND: Final = b"relay cuts 1 "
HEAD: Final = 9
"""Characters of a line that are its checksum."""
APART: Final = b"!"
"""The mark before a cut that is no longer one."""
ENDLESS: Final = 1 << 63
ADVICE: Final = "nothing is lost, but after a crash events may go out again cut otherwise, under other keys"
_read: Final = msgspec.json.Decoder(list[tuple[int, int]]).decode
_written: Final = msgspec.json.Encoder().encode
log = structlog.stdlib.get_logger()


class Cuts:
    """The cuts of one lane, in memory and in a file. Use it from the event loop."""

    def __init__(self, folder: Path, connector: str, journal: str, part: str = "") -> None:
        """`folder` is the folder of the worker; `journal` is the id of the journal with the offsets."""
        self._folder, self._connector, self._journal = folder, connector, journal
        self._path = make_cut_file(folder, connector, part)
        self._header = KIND + f"{journal}\n".encode()
        self._lines: list[bytes] = []
        self._fd: int | None = None
        self._opened = False
        self._grown = 0
        """Bytes that the file has grown by since it was written anew."""
        self._may_grow = GROWN
        """Bytes that the file may grow by until it is written anew."""
        self._is_failure_logged = False
        self._due = 0.0

    def make_for_part(self, part: str) -> "Cuts":
        """Return the cuts of another part of the connector's work, such as a replay."""
        return Cuts(self._folder, self._connector, self._journal, part)

    async def open(self) -> None:
        """Read the file, at the first call."""
        if not self._opened:
            self._lines = await JOURNAL_READS.run(self._load)
            self._opened = True

    def _load(self) -> list[bytes]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("cuts cannot be read", connector=self._connector, error=str(error), advice=ADVICE)
            return []
        fields = {"connector": self._connector, "file": str(self._path)}
        if not data.startswith(self._header):
            is_whole = data.startswith(KIND) and b"\n" in data
            log.warning("cuts of another journal are not used" if is_whole else "cuts are damaged", **fields)
            return []
        *lines, _ = data[len(self._header) :].split(b"\n")  # the last one is torn, if there is one: it never went out
        good = [line + b"\n" for line in lines if _is_whole(line)]
        if damaged := len(lines) - len(good):
            log.warning("cuts are damaged", **fields, lines=damaged, advice=ADVICE)
        return good

    @property
    def all(self) -> list[Ranges]:
        """All cuts that may still be needed, in the order in which they were added."""
        found: dict[int, Ranges] = {}
        numbers = defaultdict[tuple[int, int], list[int]](list)
        for number, (ranges, is_apart) in enumerate(map(_decode, self._lines)):
            same = numbers[ranges[0][0], ranges[-1][1]]
            if not is_apart:
                found[number] = ranges
                same.append(number)
            elif same:
                del found[same.pop()]
        return [*found.values()]

    def add(self, ranges: Ranges) -> None:
        """Remember that the events at these offsets go out together. Call it before they first do."""
        self._add(_written(ranges))

    def _add(self, text: bytes) -> None:
        line = b"%08x %b\n" % (crc32(text), text)
        self._lines.append(line)
        self._grown += len(line)
        if self._fd is None:
            if time.monotonic() >= self._due:
                self._rewrite_file()
            return
        try:
            if os.write(self._fd, line) < len(line):
                self._fail("the disk is full")
        except OSError as error:
            self._fail(str(error))

    def add_stretch(self, batch: Batch) -> None:
        """Add a batch with all events that are wanted between its first and its last."""
        self.add(((batch.blocks[0].offsets[0], batch.blocks[-1].offsets[-1] + 1),))

    def add_batch(self, batch: Batch) -> None:
        """Add a batch, which may leave out events between its first and its last."""
        self.add(_find_ranges(batch))

    def replace_with_parts(self, batch: Batch, parts: Sequence[Batch]) -> None:
        """Remember that a refused batch goes out in these parts from now on."""
        self._add(APART + _written(_find_ranges(batch)))
        for one in parts:
            self.add_batch(one)

    def forget(self, is_over: Callable[[Ranges], bool]) -> None:
        """Forget the cuts that are over, if the file has grown."""
        if self._grown < self._may_grow:
            return
        self._lines = [line for line in self._lines if not is_over(_decode(line)[0])]
        if self._fd is not None:
            self._rewrite_file()
        self._grown, self._may_grow = 0, max(GROWN, sum(map(len, self._lines)))

    def _rewrite_file(self) -> None:
        """Write the file anew."""
        self._close_file()
        data, fresh = self._header + b"".join(self._lines), self._path.with_name(f"{self._path.name}.new")
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if os.write(self._fd, data) < len(data):
                raise OSError("the disk is full")
            fresh.replace(self._path)
        except OSError as error:
            self._fail(str(error))
            return
        if self._is_failure_logged:
            self._is_failure_logged = False
            log.info("cuts are kept again", connector=self._connector)

    def _fail(self, error: str) -> None:
        self._close_file()
        self._due = time.monotonic() + AGAIN_S
        if not self._is_failure_logged:
            self._is_failure_logged = True
            log.warning("cuts cannot be kept", connector=self._connector, error=error, advice=ADVICE)

    def _close_file(self) -> None:
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None

    def close(self, is_over: Callable[[Ranges], bool]) -> None:
        """Close the file; remove it if all cuts that were read are over."""
        self._close_file()
        if self._opened and all(map(is_over, self.all)):
            with suppress(OSError):
                self._path.unlink()

    def clear(self) -> None:
        """Forget all cuts. The file follows with the next cut."""
        self._close_file()
        self._lines = []


def _find_ranges(batch: Batch) -> Ranges:
    return make_ranges(sorted({*batch.offsets()}))


def _decode(line: bytes) -> tuple[Ranges, bool]:
    """Return what a whole line says: offsets, and whether they are no longer a cut."""
    text = line[HEAD:]
    return _read(text.removeprefix(APART)), text.startswith(APART)


def _is_whole(line: bytes) -> bool:
    """Whether a line, without its end, is as it was written."""
    if line[:HEAD] != b"%08x " % crc32(line[HEAD:]):
        return False
    try:
        ranges, _ = _decode(line)
    except msgspec.DecodeError:
        return False
    ends = [end for one in ranges for end in one]
    return bool(ranges) and ends == sorted(ends) and all(start < stop for start, stop in ranges)


def resume(cuts: Iterable[Ranges], cursor: Cursor, until: int) -> list[Ranges]:
    """Return the ranges that have to go out together again, for a lane that goes on from this cursor up to offset
    `until`.

    A cut of which nothing is settled goes as it was. An earlier cut goes before those of its parts that were tried
    again. Then the rest of others goes, each by itself. All are in the order of the cuts."""
    cuts, taken, found = [*cuts], Taken(cursor, until), dict[int, Ranges]()
    for goes_whole in (True, False):
        for number, cut in enumerate(cuts):
            rest = taken.find_rest(cut)
            if rest and (rest == cut or not goes_whole):
                taken.add(rest)
                found[number] = rest
    return [found[number] for number in sorted(found)]


def make_settled_test(cursor: Cursor) -> Callable[[Ranges], bool]:
    """Return a function that returns whether this cursor has settled all of a cut."""
    settled = Taken(cursor)
    return lambda cut: not settled.find_rest(cut)


class Taken:
    """Offsets that are settled or taken, as ascending ranges."""

    def __init__(self, cursor: Cursor, until: int = ENDLESS) -> None:
        """Take the offsets that a cursor has settled, and all from `until` on."""
        ahead = [one for one in cursor.ahead if one[0] < until]
        self._ranges = [(0, cursor.position), *ahead, (until, ENDLESS)]

    def find_rest(self, cut: Ranges) -> Ranges:
        """Return what of a cut is not taken."""
        rest: list[tuple[int, int]] = []
        for start, stop in cut:
            first = max(0, bisect_right(self._ranges, (start, ENDLESS)) - 1)
            rest += find_unsettled(start, stop, self._ranges[first : bisect_left(self._ranges, (stop, 0))])
        return rest

    def add(self, ranges: Ranges) -> None:
        """Take these ranges as well."""
        for one in ranges:
            insort(self._ranges, one)
