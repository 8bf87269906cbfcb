"""Events in numbers: `Block`, a stretch of the journal as it lies on disk, and `Batch`, what a connector is handed.

Both keep the events' bytes joined by single commas, so that what passes through untouched is never split, copied
event by event or encoded again: `[` + `batch.joined()` + `]` is a JSON array of the exact bytes that came in.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, repeat
from typing import Final, overload

from relay.api.event import Event, Kind

try:
    from isal.isal_zlib import crc32
except ImportError:  # 13 times slower, the same polynomial
    from zlib import crc32


BLOCK_BYTES: Final = 512
EVENT_BYTES: Final = 8
KIND_BYTES: Final = 200
"""What a block takes beside its events' bytes: itself, for each event, for each kind."""
LINE_BREAK: Final = ord("\n")
LINES_AT_ONCE: Final = 128
"""A part of so many is small enough that its memory is used again for the next one."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A run of consecutive events, as the journal has them. `body` is the bytes of the events, joined by commas."""

    offsets: Sequence[int]
    received: float
    kinds: tuple[Kind, ...]
    index: Sequence[int]
    """For each event the place of its kind in `kinds`."""
    ends: Sequence[int]
    """For each event the index in `body` of the first byte after the event. The next event starts one byte (the comma)
    later."""
    body: bytes
    parts: Sequence[int] | None = None
    """For each event its `part`. None: no filter has split an event."""

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def of(cls, events: Sequence[Event]) -> "Block":
        """Make a block of events that a filter has changed or picked."""
        table: dict[Kind, int] = {}
        index = [table.setdefault(event.kind, len(table)) for event in events]
        bodies = [event.body for event in events]
        parts = [event.part for event in events]
        return cls(
            [event.offset for event in events],
            events[0].received if events else 0.0,
            tuple(table),
            index,
            find_ends(bodies),
            b",".join(bodies),
            parts if any(parts) else None,
        )

    @property
    def memory(self) -> int:
        """Return about how many bytes the block takes in memory, objects included."""
        return len(self.body) + EVENT_BYTES * len(self.index) + KIND_BYTES * len(self.kinds) + BLOCK_BYTES

    def start(self, i: int) -> int:
        """Return the byte of `body` at which event number `i` starts."""
        return self.ends[i - 1] + 1 if i else 0

    def bodies(self) -> list[bytes]:
        """Return the bytes of each event."""
        if len(self.index) == 1:
            return [self.body]
        body, start, found = self.body, 0, []
        for end in self.ends:
            found.append(body[start:end])
            start = end + 1
        return found

    def __iter__(self) -> Iterator[Event]:
        """Iterate over the events as objects. Their content is decoded at the first look."""
        kinds = [self.kinds[kind] for kind in self.index]
        parts = repeat(0) if self.parts is None else self.parts
        return map(Event, self.bodies(), kinds, self.offsets, repeat(self.received), parts)

    def events(self) -> list[Event]:
        """Return all events as objects."""
        return list(self)

    def slice(self, start: int, stop: int) -> "Block":
        """Return a block of the events from number `start` up to, but without, `stop`. `stop` is more than `start`."""
        if start == 0 and stop >= len(self):
            return self
        first = self.start(start)
        ends = [end - first for end in self.ends[start:stop]]
        body = self.body[first : first + ends[-1]]
        kinds, index = _drop_unused_kinds(self.kinds, self.index[start:stop])
        parts = None if self.parts is None else self.parts[start:stop]
        return Block(self.offsets[start:stop], self.received, kinds, index, ends, body, parts)

    def pick(self, numbers: Sequence[int]) -> "Block":
        """Return a block of the events with these numbers, which ascend."""
        body, ends, offsets, index = self.body, self.ends, self.offsets, self.index
        bodies = [body[ends[i - 1] + 1 if i else 0 : ends[i]] for i in numbers]
        kinds, own = _drop_unused_kinds(self.kinds, [index[i] for i in numbers])
        return Block(
            [offsets[i] for i in numbers],
            self.received,
            kinds,
            own,
            find_ends(bodies),
            b",".join(bodies),
            None if self.parts is None else [self.parts[i] for i in numbers],
        )


def _drop_unused_kinds(kinds: tuple[Kind, ...], index: Sequence[int]) -> tuple[tuple[Kind, ...], Sequence[int]]:
    """Return the kinds of a part of a block, and for each event the place of its kind.

    Drop unused kinds where the kinds outnumber the events. A loop over all parts then does not visit them again."""
    if len(kinds) <= len(index):
        return kinds, index
    table: dict[int, int] = {}
    own = [table.setdefault(kind, len(table)) for kind in index]
    return tuple(kinds[kind] for kind in table), own


def find_ends(bodies: Iterable[bytes | memoryview]) -> list[int]:
    """Return the end of each body after a join by commas."""
    ends, end = [], -1
    for body in bodies:
        end += len(body) + 1
        ends.append(end)
    return ends


class Batch(Sequence[Event]):
    """The events of one delivery, in the order of the journal. Iterate over the batch for `Event`s, or pass the bytes
    through.

    A retry hands over an equal batch with `attempt` counted up. `attempt` begins with 1.
    """

    def __init__(self, blocks: Sequence[Block], attempt: int = 1) -> None:
        self.blocks = tuple(blocks)
        self.attempt = attempt
        self._len = sum(map(len, self.blocks))

    def __len__(self) -> int:
        return self._len

    @overload
    def __getitem__(self, at: int) -> Event: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Event]: ...
    def __getitem__(self, at: int | slice) -> Event | Sequence[Event]:
        return self._events[at]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    @cached_property
    def _events(self) -> list[Event]:
        return [event for block in self.blocks for event in block.events()]

    def let_go(self) -> None:
        """Forget the decoded content of the events, to free memory. The next look decodes it again."""
        vars(self).pop("_events", None)

    @property
    def size(self) -> int:
        """Return the bytes of all events, with a comma between each two."""
        return sum(len(block.body) for block in self.blocks) + len(self.blocks) - 1

    @cached_property
    def id(self) -> str:
        """Return an id of the batch: the same for every attempt with the same events, and otherwise unique.

        Use the id as an idempotency key, or in the name of an object: what is written again then has the same name.
        Events that were sent together are sent together again, also after `kill -9`; a power cut may lose that. Offsets
        are of one journal. If several workers or relays write to one place, put `Connector.worker` or the relay's name
        into the name.
        """
        checksum = 0
        for block in self.blocks:
            checksum = crc32(block.body, crc32(b",", checksum))  # however the events are spread over blocks
        return f"{self.blocks[0].offsets[0]:x}-{self.blocks[-1].offsets[-1]:x}-{len(self):x}-{checksum:08x}"

    @property
    def is_split(self) -> bool:
        """Return whether the batch has parts of events that a filter has split. Parts of one event have the same
        offset."""
        return any(block.parts is not None for block in self.blocks)

    def offsets(self) -> list[int]:
        """Return the offset of each event in the journal."""
        return [offset for block in self.blocks for offset in block.offsets]

    def places(self) -> list[tuple[int, int]]:
        """Return for each event its offset in the journal and its part, from 0."""
        return [place for block in self.blocks for place in zip(block.offsets, block.parts or repeat(0), strict=False)]

    def bodies(self) -> list[bytes]:
        """Return the bytes of each event."""
        return [body for block in self.blocks for body in block.bodies()]

    def joined(self, before: bytes = b"", after: bytes = b"") -> bytes:
        """Return all events joined by commas, between `before` and `after`. The bytes are copied once.

        `batch.joined(b"[", b"]")` is a JSON array.
        """
        parts = [before]
        for block in self.blocks:
            parts += (block.body, b",")
        parts[-1] = after
        return b"".join(parts)

    def lines(self) -> bytes:
        """Return all events as NDJSON.

        Line breaks between the tokens of an event become spaces; JSON strings have none. All other bytes are as they
        came.
        """
        return b"".join(self.line_parts())

    def line_parts(self) -> Iterator[bytearray]:
        """Yield the lines of `lines` in parts of about a hundred lines."""
        for block in self.blocks:
            for first in range(0, len(block), LINES_AT_ONCE):
                start, ends = block.start(first), block.ends[first : first + LINES_AT_ONCE]
                lines = bytearray(one_line(block.body[start : ends[-1]]))
                lines.append(LINE_BREAK)
                for end in ends:
                    lines[end - start] = LINE_BREAK
                yield lines

    def pick(self, numbers: Sequence[int]) -> "Batch":
        """Return a batch of the events with these numbers, which ascend. It is a first attempt."""
        blocks, base, first = [], 0, 0
        for block in self.blocks:
            last = bisect_left(numbers, base + len(block), first)
            if last - first == len(block):
                blocks.append(block)
            elif last > first:
                blocks.append(block.pick([number - base for number in numbers[first:last]]))
            base, first = base + len(block), last
        return Batch(blocks)

    def halves(self, *, by_size: bool = False) -> tuple["Batch", "Batch"]:
        """Return two batches, each with half of the events or, `by_size`, about half of the bytes.

        Use it to find the event that a destination refuses. Parts of one event stay together, unless the batch has no
        others.
        """
        middle = self._len // 2
        if by_size:
            sizes = list(accumulate(map(len, self.bodies())))
            middle = min(max(bisect_left(sizes, sizes[-1] / 2), 1), self._len - 1)
        if self.is_split:
            offsets = self.offsets()
            between = (n for n in range(1, self._len) if offsets[n - 1] != offsets[n])
            middle = min(between, key=lambda n: abs(n - middle), default=middle)
        return self.pick(range(middle)), self.pick(range(middle, self._len))


def one_line(body: bytes) -> bytes:
    """Replace line breaks between tokens by spaces, in the bytes of events; see `Batch.lines`."""
    if b"\n" in body or b"\r" in body:
        return body.replace(b"\n", b" ").replace(b"\r", b" ")
    return body
