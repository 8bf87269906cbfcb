"""The journal through its own door, on a real disk; damage is done to its files by hand."""

import asyncio
import errno
import os
import shutil
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from relay.api import Block, Kind
from relay.journal.journal import Journal
from relay.journal.live.group_commit import GroupCommit
from relay.journal.record import encode_header, encode_meta
from relay.journal.retention import choose_expendable
from relay.journal.segment import PREFIX, Corrupt, Segment, SegmentReader, create_segment, make_path, write_all
from relay.store.block import make_block
from relay.store.error import Unavailable
from relay.store.log import JournalLimits

KIND = Kind("braze", "users.messages.email.Open")
OTHER = Kind("shop", "order", "uuid", "ts")
LIMITS = JournalLimits(max_size=64 << 20, retention=3600)


def open_journal(folder: Path, limits: JournalLimits = LIMITS, memory: int = 1 << 20) -> Journal:
    return Journal(folder, limits, memory)


async def append(journal: Journal, *bodies: bytes, kind: Kind = KIND) -> int:
    return await journal.append([kind] * len(bodies), list(bodies))


async def read_all(journal: Journal, offset: int = 0) -> list[tuple[int, str, bytes]]:
    reader, found = journal.open_reader(), []
    while offset < journal.head:
        for block in await reader.read(offset):
            found += [(event.offset, event.type, event.body) for event in block.events()]
            offset = block.offsets[-1] + 1
    reader.close()
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


async def test_what_arrives_during_a_commit_forms_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(fd), real(fd)))
    journal = open_journal(tmp_path)
    offsets = await asyncio.gather(*[append(journal, b'{"n":%d}' % n) for n in range(500)])
    assert sorted(offsets) == list(range(500))
    assert 0 < len(syncs) < 10
    assert [int(body[5:-1]) for _, _, body in await read_all(journal)] == offsets
    await journal.close()


async def test_senders_that_a_commit_lets_go_on_share_the_next_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(fd), real(fd)))
    journal = open_journal(tmp_path)

    async def send(passes: int) -> None:
        for _ in range(10):
            await append(journal, b'{"n":1}')
            for _ in range(passes):  # of the loop: some senders are slower than others
                await asyncio.sleep(0)

    await asyncio.gather(*[send(number // 2) for number in range(16)])
    assert len(syncs) <= 12  # the first batch is alone, and its sender is a commit ahead from then on
    await journal.close()


async def test_batches_that_never_cease_to_come_hold_up_no_commit() -> None:
    class AtOnce(Executor):
        def submit(self, work: Any, /, *given: Any, **named: Any) -> Any:
            work(*given, **named)

    sizes = list[int]()
    commits = GroupCommit(
        LIMITS, AtOnce(), lambda group: sizes.append(len(group.bodies)), lambda group, _: group.set_done(0)
    )
    for _ in range(200):
        for _ in range(3):
            commits.add([KIND], [b"{}"])
        await asyncio.sleep(0)
    assert 3 < max(sizes) < 100


@pytest.mark.parametrize("cut", [1, 10, 40, 60])
async def test_a_torn_tail_is_cut_off_on_start_and_told(
    tmp_path: Path, cut: int, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = open_journal(tmp_path)
    await append(journal, b'{"first":1}')
    await append(journal, b'{"second":2}')
    await journal.close()
    (path,) = segments(tmp_path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    (tmp_path / "end").unlink()  # it did not come to its end
    reopened = open_journal(tmp_path)
    assert reopened.head == 1
    assert capsys.readouterr().out.count("journal cut at its last whole record") == 1
    assert await append(reopened, b'{"third":3}') == 1
    assert [body for _, _, body in await read_all(reopened)] == [b'{"first":1}', b'{"third":3}']
    await reopened.close()


async def test_the_space_that_a_crash_left_allocated_is_given_back_on_start(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "running")
    await append(journal, b"{}")
    shutil.copytree(tmp_path / "running", tmp_path / "crashed")
    await journal.close()
    (path,) = segments(tmp_path / "crashed")
    assert path.stat().st_size > 1 << 20
    reopened = open_journal(tmp_path / "crashed")
    assert (path.stat().st_size < 1000, reopened.size < 1000, reopened.head) == (True, True, 1)
    await reopened.close()


async def test_a_whole_record_at_the_wrong_place_is_not_taken_for_an_event(tmp_path: Path) -> None:
    fd, salt = create_segment(tmp_path, 0, 1 << 20)
    at = PREFIX.size
    for offset in (0, 7):
        block = make_block(offset, 1, [KIND], [b"{}"])
        meta = encode_meta(block)
        at += write_all(fd, [encode_header(block, meta, block.body, 1, salt), meta, block.body], at)
    os.close(fd)
    reader = SegmentReader(make_path(tmp_path, 0))
    assert len(reader.read(0, 1)) == 1
    with pytest.raises(Corrupt, match="offset 1"):
        reader.read(1, 2)
    reader.close()


async def test_memory_is_freed_when_all_have_read(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(3):
        await append(journal, b"{}")
    reader = journal.open_reader()
    await reader.read(0)
    assert journal._tail.size > 0
    await journal.keep(0)
    assert journal._tail.size == 0
    await journal.close()


async def test_flipping_any_byte_of_the_last_record_never_yields_a_wrong_event(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "good")
    await append(journal, b'{"first":1}')
    whole = 24 + 32 + 4
    await append(journal, b'{"second":2}')
    await journal.close()
    (path,) = segments(tmp_path / "good")
    data = path.read_bytes()
    second = data.rindex(b"users") - 20
    for at in range(second, len(data), 3):
        folder = tmp_path / str(at)
        folder.mkdir()
        damaged = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        (folder / path.name).write_bytes(damaged)
        reopened = open_journal(folder)
        found = [body for _, _, body in await read_all(reopened)]
        assert found in ([b'{"first":1}'], [b'{"first":1}', b'{"second":2}'])
        await reopened.close()
    assert second > whole


async def test_a_bad_record_with_good_ones_behind_it_is_damage_and_no_torn_tail(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, memory=0)
    for n in range(4):
        await append(journal, b'{"n":%d}' % n)
    await journal.close()
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    at = data.index(b'{"n":2}')
    path.write_bytes(data[:at] + b'{"n":9}' + data[at + 7 :])
    damaged = data[:at] + b'{"n":9}' + data[at + 7 :]
    path.write_bytes(damaged)
    journal = open_journal(tmp_path, memory=0)
    assert (journal.head, path.read_bytes()) == (4, damaged)
    reader = journal.open_reader()
    assert [len(await reader.read(0)), len(await reader.read(2))] == [2, 1]  # what is before it, and what is behind
    assert (reader.offset, journal.lost) == (4, 1)
    await journal.close()


async def test_a_segment_that_a_crash_left_empty_is_removed(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    await append(journal, b"{}")
    await journal.close()
    blank = tmp_path / f"{1:020d}.log"
    blank.write_bytes(bytes(100_000))
    reopened = open_journal(tmp_path)
    assert (reopened.head, blank.exists()) == (1, False)
    assert await append(reopened, b"{}") == 1
    await reopened.close()


@pytest.mark.promise(1)
async def test_a_failed_write_refuses_the_group_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path)
    await append(journal, b'{"first":1}')

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "the disk says no")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwritev", fail)
        for _ in range(2):
            with pytest.raises(Unavailable, match="the disk says no"):
                await append(journal, b'{"refused":1}')
    assert journal.head == 1
    assert await append(journal, b'{"second":2}') == 1
    expected = [b'{"first":1}', b'{"second":2}']
    assert [body for _, _, body in await read_all(journal)] == expected
    await journal.close()
    reopened = open_journal(tmp_path)
    assert [body for _, _, body in await read_all(reopened)] == expected
    await reopened.close()


async def test_a_short_write_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: real(fd, [b"".join(parts)[:7]], at))
    journal = open_journal(tmp_path, memory=0)
    await append(journal, b'{"first":1}', b'{"second":2}')
    assert len(await read_all(journal)) == 2
    await journal.close()


async def test_a_record_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, memory=0)
    body = b'{"x":"' + b"y" * (9 << 20) + b'"}'
    await append(journal, b"{}")
    await append(journal, body)
    await append(journal, b"{}")
    assert [len(found) for _, _, found in await read_all(journal)] == [2, len(body), 2]
    await journal.close()


def test_slicing_and_picking_a_block_keeps_bytes_and_offsets() -> None:
    bodies = [b'{"n":%d}' % n for n in range(10)]
    block = make_block(100, 1, [KIND, OTHER] * 5, bodies)
    assert block.body == b",".join(bodies)
    for start in range(10):
        for stop in range(start + 1, 11):
            piece = block.slice(start, stop)
            assert piece.bodies() == bodies[start:stop]
            assert list(piece.offsets) == list(range(100 + start, 100 + stop))
    odd = block.pick([1, 3, 9])
    assert (odd.bodies(), list(odd.offsets)) == ([bodies[1], bodies[3], bodies[9]], [101, 103, 109])
    assert {event.type for event in odd.events()} == {"order"}
    assert Block.of(odd.events()).bodies() == odd.bodies()


@pytest.mark.parametrize("numbers", [[0], [9], [2, 3, 4], [8, 9]])
def test_a_part_of_a_block_has_no_more_kinds_than_events(numbers: list[int]) -> None:
    kinds = [Kind("s", f"t{n}") for n in range(9)]
    block = make_block(100, 1, [*kinds, kinds[8]], [b'{"n":%d}' % n for n in range(10)])
    for part in (block.pick(numbers), block.slice(numbers[0], numbers[-1] + 1)):
        assert len(part.kinds) <= len(numbers)
        assert [event.kind for event in part] == [[*kinds, kinds[8]][n] for n in numbers]


def test_events_of_a_replay_outlast_retention_while_there_is_room(tmp_path: Path) -> None:
    old = [Segment(tmp_path / str(n), n, n + 1, 100, 0.0) for n in range(5)]
    limits = JournalLimits(1000, 60.0)
    assert [one.base for one in choose_expendable(old, limits, keep=4, replay_floor=2, now=1000.0, lacking=0)] == [0, 1]
    assert [one.base for one in choose_expendable(old, limits, keep=4, replay_floor=2, now=1000.0, lacking=250)] == [
        0,
        1,
        2,
    ]
