"""Saves what is left of a segment that somebody has truncated under a running relay. Pure."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from relay.api import Block
from relay.journal.record import encode_lost_record, encode_record, find_records
from relay.journal.segment import PREFIX


class Salvage(Struct, frozen=True):
    """The records of a rewritten segment."""

    records: Sequence[bytes]
    lost: Sequence[tuple[int, int]]
    """Ranges of lost offsets. A record stands for each range."""

    @property
    def lost_events(self) -> int:
        """Lost events."""
        return sum(stop - start for start, stop in self.lost)


def salvage(data: bytes, blocks: Iterable[Block], salt: int, base: int, stop: int) -> Salvage:
    """Save the events from offset `base` up to `stop` from the rest of the file, and from blocks in memory."""
    found = {block.offsets[0]: (block.offsets[-1] + 1, encode_record(block, salt)) for block in blocks}
    for at, header in find_records(data, PREFIX.size, salt, base):
        found[header.offset] = header.end, data[at : at + header.size]
    records, lost, offset = list[bytes](), list[tuple[int, int]](), base
    for start, (end, record) in sorted(found.items()):
        if offset <= start and end <= stop:
            if offset < start:
                lost.append((offset, start))
                records.append(encode_lost_record(offset, start, salt))
            records.append(record)
            offset = end
    if offset < stop:
        lost.append((offset, stop))
        records.append(encode_lost_record(offset, stop, salt))
    return Salvage(records, lost)
