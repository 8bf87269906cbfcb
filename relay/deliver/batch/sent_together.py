"""Remembers which events go out together, so that a restart sends the same ones together, under the same key.

How it fails and recovers:

- Before a batch first goes out, the offsets of its events are added to the lane's saved cuts (`CutLines`), and the lane
  waits until they are there. A cut outlives `kill -9`. A power cut may lose it; then the events go out again all the
  same, perhaps cut otherwise, under other keys.
- A batch that was refused as a whole and goes out in halves is a cut no more: a line says so, and its halves are.
- A cut says which events go together. Which events are sent at all is for the cursor to say. So no cut that is
  saved, or missing, can lose an event or send one more often.
- A line that is damaged costs its keys and nothing else.
- What a cut says of offsets that are settled, that the journal does not have, or that an earlier cut has, is not used.
- Once a saved cursor has settled a cut, the cut may go. All cuts are saved anew without such cuts when they have grown.
- A store that refuses costs the keys of what goes out meanwhile. The log says so once, and all cuts are saved anew
  every AGAIN_S until that succeeds.
"""

import asyncio
import time
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from relay.api import Batch
from relay.store import Cursor, CutLines, Unavailable, find_unsettled, is_logged, make_ranges
from relay.threads import JOURNAL_READS

Ranges = Sequence[tuple[int, int]]
"""Ranges of offsets (start, stop), ascending."""
GROWN: Final = 64 << 10
"""All cuts are saved anew when they have grown by so many bytes."""
AGAIN_S: Final = 1.0
APART: Final = b"!"
"""The mark before a cut that is no longer one."""
ENDLESS: Final = 1 << 63
ADVICE: Final = "nothing is lost, but after a crash events may go out again cut otherwise, under other keys"
_read: Final = msgspec.json.Decoder(list[tuple[int, int]]).decode
_written: Final = msgspec.json.Encoder().encode
log = structlog.stdlib.get_logger()


class Cuts:
    """The cuts of one lane, in memory and saved. Use it from the event loop."""

    def __init__(self, connector: str, saved: CutLines) -> None:
        self._connector, self._saved = connector, saved
        self._lines: list[bytes] = []
        self._opened = False
        self._is_saved = False
        """Whether the saved lines are those in memory."""
        self._grown = 0
        """Bytes that the saved lines have grown by since they were saved anew."""
        self._may_grow = GROWN
        """Bytes that the saved lines may grow by until they are saved anew."""
        self._is_failure_logged = False
        self._due = 0.0
        self._write: asyncio.Future[None] | None = None
        """The last write, until it has ended."""

    async def open(self) -> None:
        """Read the saved cuts, at the first call."""
        if not self._opened:
            self._lines = await JOURNAL_READS.run(self._load)
            self._opened = True

    def _load(self) -> list[bytes]:
        try:
            lines = self._saved.load()
        except Unavailable as error:
            log.warning("cuts cannot be read", connector=self._connector, error=str(error), advice=ADVICE)
            return []
        good = [line for line in lines if _is_whole(line)]
        if damaged := len(lines) - len(good):
            where = {"connector": self._connector, "file": self._saved.where}
            log.warning("cuts are damaged", **where, lines=damaged, advice=ADVICE)
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

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        self._grown += len(line)
        if not self._is_saved:
            if time.monotonic() >= self._due:
                self._save_anew()
            return
        try:
            self._follow(self._saved.append(line))
        except Unavailable as error:
            self._fail(error)

    def _follow(self, write: asyncio.Future[None] | None) -> None:
        if write is not None:
            self._write = write
            write.add_done_callback(self._note_end)

    def _note_end(self, write: asyncio.Future[None]) -> None:
        if self._write is write:
            self._write = None
        if (error := write.exception()) is None:
            self._note_success()
        elif self._is_saved:
            self._fail(error)

    async def await_saved(self) -> None:
        """Wait until the cuts added so far are saved, or refused. Call it before their batches go out."""
        if self._write is not None:
            await asyncio.wait([self._write])

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
        """Forget the cuts that are over, if the saved lines have grown."""
        if self._grown < self._may_grow:
            return
        self._lines = [line for line in self._lines if not is_over(_decode(line)[0])]
        if self._is_saved:
            self._save_anew()
        self._grown, self._may_grow = 0, max(GROWN, sum(map(len, self._lines)))

    def _save_anew(self) -> None:
        try:
            self._follow(write := self._saved.rewrite(self._lines))
        except Unavailable as error:
            self._fail(error)
            return
        self._is_saved = True
        if write is None:
            self._note_success()

    def _note_success(self) -> None:
        if self._is_failure_logged:
            self._is_failure_logged = False
            log.info("cuts are kept again", connector=self._connector)

    def _fail(self, error: BaseException) -> None:
        self._let_go()
        self._due = time.monotonic() + AGAIN_S
        if not self._is_failure_logged and not is_logged(error):
            self._is_failure_logged = True
            log.warning("cuts cannot be kept", connector=self._connector, error=str(error), advice=ADVICE)

    def _let_go(self) -> None:
        self._saved.close()
        self._is_saved = False

    def close(self, is_over: Callable[[Ranges], bool]) -> None:
        """Close the saved cuts; remove them if all cuts that were read are over."""
        self._let_go()
        if self._opened and all(map(is_over, self.all)):
            with suppress(Unavailable):
                self._saved.remove()

    def clear(self) -> None:
        """Forget all cuts. The saved cuts follow with the next cut."""
        self._let_go()
        self._lines = []


def _find_ranges(batch: Batch) -> Ranges:
    return make_ranges(sorted({*batch.offsets()}))


def _decode(line: bytes) -> tuple[Ranges, bool]:
    """Return what a whole line says: offsets, and whether they are no longer a cut."""
    return _read(line.removeprefix(APART)), line.startswith(APART)


def _is_whole(line: bytes) -> bool:
    """Whether a line is as it was saved."""
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
