"""Compressed records: read as they were written, beside plain records, and damage in them is damage."""

import asyncio
import hashlib
import itertools
import re
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from relay.api import Kind, User, load_zstd
from relay.cli.main import relay as command
from relay.journal import compression
from relay.journal.compression import BREAK, SMALLEST, Compressor, Unsupported
from relay.journal.journal import Journal
from relay.journal.live.tail_reader import READ_BYTES
from relay.journal.outside.inspected import inspect_all
from relay.journal.outside.repair import repair
from relay.journal.record import (
    HEADER,
    Header,
    decode,
    encode_header,
    encode_meta,
    encode_record,
    find_records,
    is_compressed,
    read_header,
)
from relay.journal.recovery import recover
from relay.journal.rewrite import PIECE_BYTES, remove_copies
from relay.journal.segment import (
    MARK,
    PREFIX,
    Corrupt,
    SegmentReader,
    create_segment,
    list_segment_files,
    make_path,
    write_all,
)
from relay.store.block import make_block
from relay.store.log import JournalLimits
from relay.store.users import Wanted

KIND, OTHER = Kind("braze", "users.messages.email.Open"), Kind("shop", "order", "number", "at")
PLAIN = JournalLimits(1 << 30, 3600)
ZSTD = JournalLimits(1 << 30, 3600, compress=True)
SALT = 7
Records = list[tuple[int, Header]]


def events(number: int, first: int = 0) -> list[bytes]:
    """Make events, always the same. Ten are enough for a compressed record."""
    return [b'{"id":"%d","text":"%b"}' % (n, b"number %d " % n * 60) for n in range(first, first + number)]


async def append(journal: Journal, bodies: Sequence[bytes]) -> None:
    await journal.append([KIND] * len(bodies), bodies)


async def fill(folder: Path, *groups: Sequence[bytes], limits: JournalLimits = ZSTD) -> Path:
    """Write a record for each group; return the segment."""
    journal = Journal(folder, limits, 0)
    for group in groups:
        await append(journal, group)
    await journal.close()
    return list_segment_files(folder)[-1]


async def read_all(journal: Journal) -> dict[int, bytes]:
    reader, found, offset = journal.open_reader(), dict[int, bytes](), 0
    async with asyncio.timeout(60):
        while offset < journal.head:
            for block in await reader.read(offset):
                found |= {event.offset: event.body for event in block.events()}
            offset = reader.offset
    reader.close()
    return found


def records(path: Path) -> tuple[bytes, Records]:
    data = path.read_bytes()
    _, salt, base, _ = PREFIX.unpack_from(data)
    return data, [*find_records(data, PREFIX.size, salt, base)]


def forms(path: Path) -> list[bool]:
    """Whether each record of a segment is compressed."""
    data, found = records(path)
    return [is_compressed(data, at, header) for at, header in found]


def write_segment(folder: Path, parts: Sequence[tuple[int, bytes, bytes]]) -> Path:
    """Write records with right checksums. Each has a number of events, a meta part and a body part."""
    fd, salt = create_segment(folder, 0, 1 << 20)
    at, offset = PREFIX.size, 0
    for number, meta, body in parts:
        block = make_block(offset, 1, [KIND] * number, [b"{}"] * number)
        at += write_all(fd, [encode_header(block, meta, body, 1, salt), meta, body], at)
        offset += number
    return make_path(folder, 0)


def parts_of(bodies: Sequence[bytes]) -> tuple[int, bytes, bytes]:
    block = make_block(0, 1, [KIND] * len(bodies), bodies)
    return len(bodies), *Compressor().compress(encode_meta(block), block.body, len(block))


def with_form(form: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    return 10, len(form).to_bytes(4, "little") + form, body


def read_one(path: Path) -> None:
    reader = SegmentReader(path)
    try:
        reader.read(0, 10)
    finally:
        reader.close()


def test_without_compression_a_segment_has_the_bytes_of_version_0_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is of the bytes that relay wrote before it knew compression."""
    monkeypatch.setattr(secrets, "randbits", lambda _: 0x12345678)
    monkeypatch.setattr(time, "time_ns", lambda: 1_790_000_000_123_456_000)

    async def write() -> bytes:
        journal = Journal(tmp_path, JournalLimits(1 << 30, 60.0), 0)
        await journal.append([KIND, OTHER] * 3, [b'{"n":%d}' % n for n in range(6)])
        await journal.append([Kind("braze", "a")] * 2000, [b'{"event_type":"a","id":"%d"}' % n for n in range(2000)])
        await journal.close()
        (path,) = list_segment_files(tmp_path)
        return path.read_bytes()

    data = asyncio.run(write())
    assert len(data) == 77189
    assert hashlib.sha256(data).hexdigest() == "0fb21cb0198c39b08d1f3d61a003be79082f756fb9689c7fa5df2883d973e5e4"
    assert not (tmp_path / MARK).exists()


@given(st.lists(st.tuples(st.sampled_from([KIND, OTHER]), st.binary(min_size=2)), min_size=1), st.integers(1, 9000))
def test_a_compressed_record_is_read_as_it_was_written(written: list[tuple[Kind, bytes]], copies: int) -> None:
    kinds, bodies = [kind for kind, _ in written] * copies, [body for _, body in written] * copies
    block = make_block(100, 1_790_000_000_123_456, kinds[:9000], bodies[:9000])
    data = encode_record(block, SALT, Compressor())
    header = read_header(data, 0)
    assert header is not None
    found = decode(data, 0, header, SALT)
    assert found is not None
    assert [*map(astuple, found.kinds)] == [*map(astuple, block.kinds)]
    assert (list(found.index), list(found.ends)) == (list(block.index), list(block.ends))
    assert (found.offsets, found.received, found.body) == (block.offsets, block.received, block.body)
    assert decode(data[:-1], 0, header, SALT) is None
    if is_compressed(data, 0, header):
        assert data.endswith(BREAK), "the zeros behind the records are cut off, so no record ends in a zero"
        assert header.body_bytes >= SMALLEST * len(block), "lost bytes tell how many events they may have held"


def test_a_record_stays_plain_if_compression_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Siblings: too small, too large, bytes that do not shrink."""
    small, random = b"{}" * 100, secrets.token_bytes(100_000)
    assert Compressor().compress(b"[]", small, 100) == (b"[]", small)
    assert Compressor().compress(b"[]", random, 1) == (b"[]", random)
    large = b"{}" * 100_000
    compressed = sum(map(len, Compressor().compress(b"[]", large, 1)))
    assert compressed < 1000
    monkeypatch.setattr(compression, "MOST_BYTES", 100_000)
    assert Compressor().compress(b"[]", large, 1) == (b"[]", large)


async def test_a_journal_is_read_whole_after_the_setting_changed_twice(tmp_path: Path) -> None:
    groups = [events(20, first) for first in range(0, 120, 20)]
    sent = dict(enumerate(itertools.chain(*groups)))
    journal = Journal(tmp_path, PLAIN, 0)
    for limits, group in zip((PLAIN, ZSTD, PLAIN) * 2, groups, strict=True):
        journal.set_limits(limits, 0)
        await append(journal, group)
    assert await read_all(journal) == sent
    await journal.close()
    (first,) = list_segment_files(tmp_path)
    assert forms(first) == [False, True, False] * 2
    reopened = Journal(tmp_path, ZSTD, 0)
    await append(reopened, events(20, 120))
    assert await read_all(reopened) == sent | dict(enumerate(events(20, 120), 120))
    await reopened.close()
    assert [segment.condition for segment in inspect_all(tmp_path, 140)] == ["good", "good"]


async def test_compressed_events_take_less_room_on_disk_and_the_same_in_memory(tmp_path: Path) -> None:
    sizes, held = [], []
    for limits in (PLAIN, ZSTD):
        journal = Journal(tmp_path / str(limits.compress), limits, 1 << 30)
        for first in range(0, 400, 100):
            await append(journal, events(100, first))
        held.append(journal._tail.size)
        await journal.close()
        sizes.append(journal.size)
        assert journal.stored == journal.size - PREFIX.size
    assert held[0] == held[1]
    assert sizes[1] < sizes[0] / 5


async def test_a_read_of_compressed_events_takes_about_a_mib_of_memory(tmp_path: Path) -> None:
    path = await fill(tmp_path, *(events(1000, first) for first in range(0, 30_000, 1000)))
    assert path.stat().st_size < READ_BYTES
    reader, biggest = SegmentReader(path), 0
    while reader.offset < 30_000:
        blocks = reader.read(reader.offset, 30_000)
        biggest = max(biggest, sum(len(block.body) for block in blocks))
    assert READ_BYTES < biggest < 2 * READ_BYTES
    assert len(reader.read(0, 30_000, HEADER.size)) == 1, "however little is wanted"
    reader.close()


@pytest.mark.parametrize("lost", ["frame", "form", "sizes", "rest", "bomb", "large"])
async def test_a_right_checksum_over_a_wrong_compressed_record_is_damage(tmp_path: Path, lost: str) -> None:
    """Siblings: a bad frame, form, sizes, or end; more content than declared; more declared than allowed."""
    number, meta, body = parts_of(events(10))
    form = meta[4:]
    sizes = [int(size) for size in re.findall(rb"[0-9]+", form.partition(b"[")[2])]
    match lost:
        case "frame":
            bad = with_form(form, body[:50] + bytes(50) + body[100:])
        case "form":
            bad = with_form(form[:-1], body)
        case "sizes":
            bad = with_form(form.replace(b"%d]" % sizes[1], b"%d]" % (sizes[1] + 1)), body)
        case "rest":
            bad = with_form(form, body + b"more")
        case "bomb":
            bad = with_form(form, load_zstd().compress(bytes(1 << 28)) + BREAK)
        case "large":
            parts = meta[4:], bytes(compression.MOST_BYTES)
            form = b'{"needs":"0.1.0","zstd":[%d,%d]}' % (len(parts[0]), len(parts[1]))
            bad = with_form(form, load_zstd().compress(b"".join(parts)) + BREAK)
    assert bad != (number, meta, body)
    path = write_segment(tmp_path, [(number, meta, body), bad, (number, meta, body)])
    before = path.read_bytes()
    good = {offset: body for offset, body in enumerate(events(10) * 3) if not 10 <= offset < 20}
    journal = Journal(tmp_path, ZSTD, 0)
    assert (journal.head, await read_all(journal), journal.lost) == (30, good, 10)
    assert [(one.start, one.stop, one.saved) for one in journal.unsaved_damage] == [(10, 20, 20)]
    await journal.close()
    (found,) = inspect_all(tmp_path, 30)
    assert str(found).startswith("damaged at byte ")
    assert str(found).endswith("offset 10")
    (repaired,) = repair(tmp_path, 30)
    assert (repaired.saved, repaired.lost) == (20, [(10, 20)])
    assert [str(one) for one in inspect_all(tmp_path, 30)] == ["good, 10 events lost"]
    assert path.with_name(f"{path.name}.damaged").read_bytes() == before.rstrip(b"\0")
    reopened = Journal(tmp_path, ZSTD, 0)
    assert await read_all(reopened) == good
    await reopened.close()


async def test_records_behind_a_damaged_compressed_record_are_found(tmp_path: Path) -> None:
    path = await fill(tmp_path, *(events(10, first) for first in (0, 10, 20)))
    data, found = records(path)
    at = found[1][0]
    path.write_bytes(data[: at + 8] + b"????" + data[at + 12 :])
    journal = Journal(tmp_path, ZSTD, 0)
    assert (await read_all(journal)).keys() == {*range(10), *range(20, 30)}
    await journal.close()


@pytest.mark.parametrize("left", [40, 200, -1])
async def test_a_torn_compressed_record_is_cut_at_the_start(tmp_path: Path, left: int) -> None:
    path = await fill(tmp_path, events(10), events(10, 10))
    data, found = records(path)
    (_, _), (at, _) = found
    path.write_bytes((data[:at] + data[at:][:left]).ljust(1 << 20, b"\0"))
    (tmp_path / "end").unlink()
    recovered = recover(tmp_path)
    assert (recovered.head, recovered.problem) == (10, "")
    assert path.read_bytes() == data[:at]


async def test_a_truncated_segment_keeps_its_compressed_records(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ZSTD, 0)
    for first in (0, 10, 20):
        await append(journal, events(10, first))
    (path,) = list_segment_files(tmp_path)
    with path.open("r+b") as file:
        file.truncate(records(path)[1][2][0])
    await append(journal, events(10, 30))
    assert await read_all(journal) == {n: body for n, body in enumerate(events(40)) if not 20 <= n < 30}
    assert True in forms(path)
    await journal.close()


async def test_compressed_events_cannot_be_read_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "journal"
    path = await fill(folder, events(10))
    data = path.read_bytes()
    for name in ("backports", "compression"):
        monkeypatch.setitem(sys.modules, name, None)
    said = f"{path}: compressed events cannot be read: zstd is not installed: install currents-relay[zstd]"
    with pytest.raises(Unsupported, match=re.escape(said)):
        read_one(path)
    journal = Journal(folder, PLAIN, 0)
    await append(journal, events(1, 10))
    with pytest.raises(OSError, match=re.escape(said)):
        await journal.open_reader().read(0)
    assert (journal.head, journal.lost) == (11, 0)
    await journal.close()
    for name in ("check", "repair", "dump"):
        found = CliRunner().invoke(command, ["journal", name, "--state", str(tmp_path)])
        assert (found.exit_code, said in found.output.replace("\n", "")) == (1, True), found.output
    assert path.read_bytes() == data


@pytest.mark.parametrize("what", ["record", "segment"])
async def test_a_later_format_names_the_version_that_reads_it_and_is_no_damage(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    path = write_segment(folder, [with_form(b'{"needs":"1.7.2","columns":[3]}', b"?")])
    if what == "segment":
        path.write_bytes((b"relayjn2" + b"1.7.2").ljust(PREFIX.size, b"\0") + path.read_bytes()[PREFIX.size :])
    data = path.read_bytes()
    with pytest.raises(Unsupported, match=re.escape("relay 1.7.2 or later is needed")):
        read_one(path)
    found = CliRunner().invoke(command, ["journal", "check", "--state", str(tmp_path)])
    assert found.exit_code == 1
    assert "relay 1.7.2 or later is needed" in found.output
    if what == "segment":
        with pytest.raises(OSError, match=re.escape("relay 1.7.2 or later is needed")):
            Journal(folder, PLAIN, 0)
    assert path.read_bytes() == data


def test_a_damaged_mark_of_a_segment_is_damage_and_no_later_format(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [parts_of(events(10))])
    path.write_bytes(b"relayjn2" + path.read_bytes()[8:])
    with pytest.raises(Corrupt):
        read_one(path)


async def test_an_older_relay_does_not_start_with_compressed_records(tmp_path: Path) -> None:
    """relay removes what a crash left beside segments, and an earlier relay fails to remove the mark as a file."""
    await fill(tmp_path, events(1), limits=ZSTD)
    assert not (tmp_path / MARK).exists(), "every record is plain"
    await fill(tmp_path, events(10), limits=ZSTD)
    assert (tmp_path / MARK) in tmp_path.glob("*.fresh")
    with pytest.raises(OSError, match=r"compressed events need a released relay, 0\.1\.0 or later"):
        (tmp_path / MARK).unlink()
    journal = Journal(tmp_path, PLAIN, 0)
    assert (tmp_path / MARK).exists()
    await journal.close()


async def test_a_removed_folder_is_marked_again(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder, ZSTD, 1 << 20)
    await append(journal, events(10))
    shutil.rmtree(folder)
    await append(journal, events(10, 10))
    assert (folder / MARK).exists()
    await journal.close()
    assert [segment.condition for segment in inspect_all(folder, 20)] == ["good"]


def test_a_kept_copy_with_compressed_records_may_name_anybody(tmp_path: Path) -> None:
    kept = tmp_path / f"{0:020d}.log.damaged"
    block = make_block(0, 1, [KIND] * 10, events(10))
    found = {}
    for name, compressor in (("plain", None), ("compressed", Compressor())):
        record = encode_record(block, SALT, compressor)
        for part, data in (("whole", record), ("behind", record[60:]), ("form", record[:120])):
            kept.write_bytes(bytes(PIECE_BYTES - 50) + data)
            found[name, part] = bool(remove_copies(tmp_path, Wanted({1: User("anna")})))
    assert found == {
        ("plain", "whole"): False,
        ("plain", "behind"): False,
        ("plain", "form"): False,
        ("compressed", "whole"): True,
        ("compressed", "behind"): True,
        ("compressed", "form"): True,
    }
