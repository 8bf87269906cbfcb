"""No room for the journal: what is refused, what has to go, and what is there again once there is room."""

import asyncio
import errno
import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from relay.api import Kind
from relay.journal import reader as reader_module
from relay.journal.journal import Journal
from relay.journal.retention import find_largest_record
from relay.journal.segment import SegmentReader
from relay.state.disk_usage import measure_usage
from relay.store.error import TooLarge, Unavailable
from relay.store.log import JournalLimits

KIND = Kind("braze", "users.messages.email.Open")
MIB = 1 << 20
BIG = b'{"x":"' + b"y" * 600_000 + b'"}'
System = namedtuple("System", "f_bavail f_frsize")


async def append(journal: Journal, body: bytes) -> int:
    return await journal.append([KIND], [body])


async def read_all(journal: Journal, offset: int = 0) -> list[int]:
    reader, found = journal.open_reader(), []
    while offset < journal.head:
        for block in await reader.read(offset):
            found += block.offsets
        offset = found[-1] + 1
    reader.close()
    return found


def limits(**options: Any) -> JournalLimits:
    return JournalLimits(**{"max_size": 16 * MIB, "retention": 3600} | options)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A file system of `size` bytes that holds the journal, and `strange` bytes of others."""
    disk = {"size": 1024 * MIB, "strange": 0}

    def statvfs(_: object) -> System:
        ours = sum(path.stat().st_size for path in tmp_path.glob("*.log"))
        return System((disk["size"] - disk["strange"] - ours) // 4096, 4096)

    monkeypatch.setattr(os, "statvfs", statvfs)
    return disk


def refuse_calls(patch: pytest.MonkeyPatch, call: str, number: int) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    patch.setattr(os, call, fail)


async def test_min_free_is_left_to_others(tmp_path: Path, disk: dict[str, int]) -> None:
    journal = Journal(tmp_path, limits(min_free=100 * MIB), 0)
    disk["size"] = 101 * MIB - 1
    with pytest.raises(
        Unavailable, match=r"100 MiB free, 101 MiB needed: the next segment 1 MiB, journal.min_free 100 MiB\): free"
    ):
        await append(journal, b"{}")
    assert "file system is full" in str(journal.refusing)
    disk["size"] = 1 * MIB - 1
    with pytest.raises(Unavailable, match=r"0 MiB free, 101 MiB needed: .*\): free some space$"):
        await append(journal, b"{}")
    disk["size"] = 101 * MIB - 1
    assert not list(tmp_path.glob("*.log"))
    disk["size"] += 1
    assert await append(journal, b"{}") == 0
    assert journal.refusing is None
    await journal.close()


async def test_without_min_free_the_file_system_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_calls(monkeypatch, "statvfs", errno.ENOSYS)
    journal = Journal(tmp_path, limits(), 0)
    assert await append(journal, b"{}") == 0
    await journal.close()


async def test_settled_events_go_first_but_not_in_vain(tmp_path: Path, disk: dict[str, int]) -> None:
    journal = Journal(tmp_path, limits(min_free=2 * MIB), 0)
    for _ in range(5):
        await append(journal, BIG)
    await journal.keep(3)
    disk["strange"] = disk["size"]
    with pytest.raises(Unavailable):
        await append(journal, BIG)
    assert journal.oldest == 0
    disk["strange"] = disk["size"] - journal.size - 2 * MIB
    await append(journal, BIG)
    assert 0 < journal.oldest <= 3
    assert await read_all(journal, 3) == [3, 4, 5]
    await journal.close()


@pytest.mark.parametrize("cause", ["max_size", "min_free"])
async def test_expire_oldest_lets_go_of_what_is_needed_but_never_in_vain(
    tmp_path: Path, disk: dict[str, int], cause: str
) -> None:
    if cause == "min_free":
        disk["size"] = 12 * MIB
    journal = Journal(tmp_path, limits(min_free=4 * MIB, expire_oldest=True), 0)
    for _ in range(60):
        await append(journal, BIG)
    assert 30 < journal.oldest < 59
    assert journal.size <= min(16 * MIB, disk["size"] - 4 * MIB)
    assert await read_all(journal) == list(range(journal.oldest, 60))
    oldest, disk["strange"] = journal.oldest, disk["size"]
    with pytest.raises(Unavailable):
        await append(journal, BIG)
    assert journal.oldest == oldest
    await journal.close()


async def test_a_segment_that_expires_while_it_is_looked_up_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, limits(), 0)
    for _ in range(4):
        await append(journal, BIG)
    real = SegmentReader

    def too_late(path: Path) -> Any:
        monkeypatch.setattr(reader_module, "SegmentReader", real)
        journal._writer._remove(journal._writer.segments[:1])
        return real(path)

    monkeypatch.setattr(reader_module, "SegmentReader", too_late)
    assert await read_all(journal) == [1, 2, 3]
    await journal.close()


async def test_no_room_for_a_segment_leaves_the_rest_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, limits(), 0)
    await append(journal, BIG)
    with monkeypatch.context() as full:
        refuse_calls(full, "posix_fallocate", errno.ENOSPC)
        with pytest.raises(Unavailable, match="No space left"):
            await append(journal, BIG)
        assert journal.refusing
        assert await append(journal, b'{"small":1}') == 1
        assert journal.refusing is None
    assert len(list(tmp_path.glob("*.log"))) == 1
    assert await append(journal, BIG) == 2
    assert await read_all(journal) == [0, 1, 2]
    await journal.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
async def test_a_segment_that_could_not_be_written_gives_its_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    journal = Journal(tmp_path, limits(), 0)
    await append(journal, b'{"first":1}')
    with monkeypatch.context() as broken:
        refuse_calls(broken, call, number)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await append(journal, b'{"refused":1}')
    on_disk = sum(path.stat().st_size for path in tmp_path.glob("*.log"))
    assert journal.size == on_disk < 1000
    assert await append(journal, b'{"second":1}') == 1
    assert await read_all(journal) == [0, 1]
    await journal.close()


async def test_the_head_survives_a_full_disk_after_every_segment_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, limits(retention=0), 0)
    for _ in range(3):
        await append(journal, BIG)
    with monkeypatch.context() as broken:
        refuse_calls(broken, "fdatasync", errno.EIO)
        with pytest.raises(Unavailable):
            await append(journal, BIG)
        refuse_calls(broken, "posix_fallocate", errno.ENOSPC)
        await journal.keep(3)
        with pytest.raises(Unavailable):
            await append(journal, BIG)
    await journal.close()
    reopened = Journal(tmp_path, limits(), 0)
    assert reopened.head == 3
    await reopened.close()


async def test_after_a_while_senders_may_find_out_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, limits(), 0)
    refuse_calls(monkeypatch, "posix_fallocate", errno.ENOSPC)
    with pytest.raises(Unavailable):
        await append(journal, b"{}")
    assert journal.refusing
    monkeypatch.setattr(journal._commits, "_refusing_s", -1)
    assert journal.refusing is None
    await journal.close()


async def test_how_full_the_disk_is_shows_before_it_is(tmp_path: Path, disk: dict[str, int]) -> None:
    journal = Journal(tmp_path, JournalLimits(1 << 40, 3600, min_free=2 * MIB), 0)
    disk["size"] = 1 << 40
    await append(journal, b"{}")
    await journal.keep(0)
    assert journal.measure_needed(0) / journal.capacity < 0.5
    disk["strange"] = disk["size"] - journal.size - 2 * MIB - journal.size // 10
    await journal.keep(0)
    assert 0.85 < journal.measure_needed(0) / journal.capacity < 1
    assert journal.measure_needed(1) / journal.capacity == 0
    await journal.close()


async def test_half_of_the_journal_always_fits_and_more_is_refused_for_good(tmp_path: Path) -> None:
    """Looked at: many bytes, many events, many types; and that requests which fit do so together."""
    journal = Journal(tmp_path, limits(), MIB)
    most = find_largest_record(limits())
    half = b"y" * (most - 1000)
    for number in range(4):
        assert await append(journal, half) == number
        await journal.keep(journal.head)
    with pytest.raises(TooLarge, match=r"half of journal\.max_size: send fewer at a time"):
        await append(journal, b"y" * most)
    many = most // 11
    with pytest.raises(TooLarge):
        await journal.append([KIND] * many, [b"{}"] * many)
    types = [Kind("braze", f"{number:>02000}") for number in range(most // 3000)]
    with pytest.raises(TooLarge):
        await journal.append(types, [b"{%s}" % kind.type.encode() for kind in types])
    assert await append(journal, b"{}") == 4
    await journal.keep(journal.head)
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(append(journal, b"y" * (most // 3)), name=f"append {number}")
    assert journal.head == 9
    await journal.close()


async def test_a_full_disk_is_refused_with_what_fills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Siblings: a segment that cannot be made; folders of files and of the journal beside the state folder."""
    journal = Journal(tmp_path, limits(), 0)
    journal.set_fillers(lambda: "archive 1.0 GiB")
    with monkeypatch.context() as full:
        refuse_calls(full, "posix_fallocate", errno.ENOSPC)
        with pytest.raises(Unavailable, match=r"the file system holds archive 1\.0 GiB"):
            await append(journal, b"{}")
    await journal.close()
    for name in ("files", "logs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(bytes(1 << 18))
    (state := tmp_path / "state").mkdir()
    found = measure_usage(state, tmp_path / "logs", 1, [tmp_path / "files" / "x"])
    assert (found[str(tmp_path / "files")] >= 1 << 18, found["journal"] >= 1 << 18) == (True, True)
