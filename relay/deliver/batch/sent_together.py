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
from relay.state import Cursor, find_unsettled, make_cut_file, make_ranges
from relay.threads import JOURNAL_READS

Ranges = Sequence[tuple[int, int]]
"""Offsets (start, stop), ascending."""
GROWN: Final = 64 << 10
"""Bytes that a file may grow by until it is written anew."""
AGAIN_S: Final = 5.0
KIND: Final = b"relay cuts 1 "
HEAD: Final = 9
"""Characters of a line that are its checksum."""
APART: Final = b"!"
"""In front of a cut that is one no more."""
ENDLESS: Final = 1 << 63
ADVICE: Final = "nothing is lost, but after a crash events may go out again cut otherwise, under other keys"
_read: Final = msgspec.json.Decoder(list[tuple[int, int]]).decode
_written: Final = msgspec.json.Encoder().encode
log = structlog.stdlib.get_logger()


class Cuts:
    """The cuts of one lane, in memory and in its file. Use it from the event loop."""

    def __init__(self, folder: Path, connector: str, journal: str, part: str = "") -> None:
        """`folder` is the worker's; `journal` the id of the journal that the offsets are of."""
        self._folder, self._connector, self._journal = folder, connector, journal
        self._path = make_cut_file(folder, connector, part)
        self._header = KIND + f"{journal}\n".encode()
        self._lines: list[bytes] = []
        self._fd: int | None = None
        self._opened = False
        self._grown = 0
        """Bytes that the file has grown by since what is over was let go of."""
        self._room = GROWN
        """How much it may grow until then."""
        self._is_told = False
        self._due = 0.0

    def beside(self, part: str) -> "Cuts":
        """Those of a part of the connector's work that is not its lane's."""
        return Cuts(self._folder, self._connector, self._journal, part)

    async def open(self) -> None:
        """Read what the file holds, the first time that this is called."""
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
        told = {"connector": self._connector, "file": str(self._path)}
        if not data.startswith(self._header):
            is_whole = data.startswith(KIND) and b"\n" in data
            log.warning("cuts of another journal are not used" if is_whole else "cuts are damaged", **told)
            return []
        *lines, _ = data[len(self._header) :].split(b"\n")  # the last one is torn, if there is one: it never went out
        good = [line + b"\n" for line in lines if _is_whole(line)]
        if damaged := len(lines) - len(good):
            log.warning("cuts are damaged", **told, lines=damaged, advice=ADVICE)
        return good

    @property
    def all(self) -> list[Ranges]:
        """All that may still be needed, in the order in which they were added."""
        found: dict[int, Ranges] = {}
        numbers = defaultdict[tuple[int, int], list[int]](list)
        for number, (ranges, is_apart) in enumerate(map(_decoded, self._lines)):
            same = numbers[ranges[0][0], ranges[-1][1]]
            if not is_apart:
                found[number] = ranges
                same.append(number)
            elif same:
                del found[same.pop()]
        return [*found.values()]

    def add(self, ranges: Ranges) -> None:
        """Remember that the events at these offsets go out together; call it before they first do."""
        self._add(_written(ranges))

    def _add(self, text: bytes) -> None:
        line = b"%08x %b\n" % (crc32(text), text)
        self._lines.append(line)
        self._grown += len(line)
        if self._fd is None:
            if time.monotonic() >= self._due:
                self._renew()
            return
        try:
            if os.write(self._fd, line) < len(line):
                self._fail("the disk is full")
        except OSError as error:
            self._fail(str(error))

    def add_stretch(self, batch: Batch) -> None:
        """The same for a batch that has all events that are wanted between its first and its last."""
        self.add(((batch.blocks[0].offsets[0], batch.blocks[-1].offsets[-1] + 1),))

    def add_batch(self, batch: Batch) -> None:
        """The same for a batch that need not."""
        self.add(_ranges_of(batch))

    def part(self, batch: Batch, parts: Sequence[Batch]) -> None:
        """Remember that a batch, which was refused, goes out in these parts from now on."""
        self._add(APART + _written(_ranges_of(batch)))
        for one in parts:
            self.add_batch(one)

    def forget(self, is_over: Callable[[Ranges], bool]) -> None:
        """Let go of the cuts for which this is so, if they have become many."""
        if self._grown < self._room:
            return
        self._lines = [line for line in self._lines if not is_over(_decoded(line)[0])]
        if self._fd is not None:
            self._renew()
        self._grown, self._room = 0, max(GROWN, sum(map(len, self._lines)))

    def _renew(self) -> None:
        """Write the file anew."""
        self._let_go()
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
        if self._is_told:
            self._is_told = False
            log.info("cuts are kept again", connector=self._connector)

    def _fail(self, error: str) -> None:
        self._let_go()
        self._due = time.monotonic() + AGAIN_S
        if not self._is_told:
            self._is_told = True
            log.warning("cuts cannot be kept", connector=self._connector, error=error, advice=ADVICE)

    def _let_go(self) -> None:
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = None

    def close(self, is_over: Callable[[Ranges], bool]) -> None:
        """Let go of the file; remove it if all cuts are over, as far as they were read."""
        self._let_go()
        if self._opened and all(map(is_over, self.all)):
            with suppress(OSError):
                self._path.unlink()

    def clear(self) -> None:
        """Let go of all cuts: what they were of is over. The file follows with the next one."""
        self._let_go()
        self._lines = []


def _ranges_of(batch: Batch) -> Ranges:
    return make_ranges(sorted({*batch.offsets()}))


def _decoded(line: bytes) -> tuple[Ranges, bool]:
    """What a line, which is whole, has: offsets, and whether they are a cut no more."""
    text = line[HEAD:]
    return _read(text.removeprefix(APART)), text.startswith(APART)


def _is_whole(line: bytes) -> bool:
    """Whether a line, without its end, is as it was written."""
    if line[:HEAD] != b"%08x " % crc32(line[HEAD:]):
        return False
    try:
        ranges, _ = _decoded(line)
    except msgspec.DecodeError:
        return False
    ends = [end for one in ranges for end in one]
    return bool(ranges) and ends == sorted(ends) and all(start < stop for start, stop in ranges)


def resume(cuts: Iterable[Ranges], cursor: Cursor, until: int) -> list[Ranges]:
    """What has to go out together again, of a lane that goes on from this cursor up to offset `until`.

    A cut of which nothing is settled goes as it was; an earlier one before those of its parts that were tried again.
    Then what is left of others, each by itself. In the order of the cuts."""
    cuts, taken, found = [*cuts], Taken(cursor, until), dict[int, Ranges]()
    for goes_whole in (True, False):
        for number, cut in enumerate(cuts):
            rest = taken.rest(cut)
            if rest and (rest == cut or not goes_whole):
                taken.add(rest)
                found[number] = rest
    return [found[number] for number in sorted(found)]


def settled_in(cursor: Cursor) -> Callable[[Ranges], bool]:
    """Tells of a cut whether this cursor has settled all of it."""
    settled = Taken(cursor)
    return lambda cut: not settled.rest(cut)


class Taken:
    """Offsets that are settled or spoken for, as ascending ranges."""

    def __init__(self, cursor: Cursor, until: int = ENDLESS) -> None:
        """Those that a cursor has settled, and all from `until` on."""
        ahead = [one for one in cursor.ahead if one[0] < until]
        self._ranges = [(0, cursor.position), *ahead, (until, ENDLESS)]

    def rest(self, cut: Ranges) -> Ranges:
        """What of a cut is not among them."""
        return [left for start, stop in cut for left in find_unsettled(start, stop, self._around(start, stop))]

    def _around(self, start: int, stop: int) -> Ranges:
        first = bisect_right(self._ranges, (start, ENDLESS))
        return self._ranges[max(0, first - 1) : bisect_left(self._ranges, (stop, 0))]

    def add(self, ranges: Ranges) -> None:
        """Take these as well."""
        for one in ranges:
            insort(self._ranges, one)
