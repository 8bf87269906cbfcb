"""Segments without some users' events: the others stay byte for byte, at their offsets, through restarts and damage."""

import asyncio
import os
from pathlib import Path

import pytest

from relay.api import Kind, User
from relay.journal import compression
from relay.journal.journal import Journal
from relay.journal.outside.inspected import inspect_all
from relay.journal.outside.repair import repair
from relay.journal.outside.view import JournalView
from relay.journal.record import read_header
from relay.journal.rewrite import plan_rewrite, rewrite
from relay.journal.segment import PREFIX, Corrupt
from relay.store.log import JournalLimits
from relay.store.users import Wanted
from relay.testing import make_event

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(1 << 30, 3600)
COMPRESSED = JournalLimits(1 << 30, 3600, compress=True)
WANTED = Wanted({1: User("anna")})


def body(user: str, **more: str) -> bytes:
    return make_event(user={"user_id": user} | more)


async def erase(journal: Journal, wanted: Wanted = WANTED) -> set[int]:
    """What the daemon does to the journal."""
    gone: set[int] = set()
    async for stretch in journal.erase(wanted, journal.head):
        gone |= stretch.erased.keys()
    return gone


def read(folder: Path) -> dict[int, bytes]:
    return {event.offset: event.body for _, block in JournalView(folder).read() for event in block.events()}


async def read_on(journal: Journal, offset: int = 0) -> dict[int, bytes]:
    reader, found = journal.open_reader(), dict[int, bytes]()
    async with asyncio.timeout(30):
        while offset < journal.head:
            for block in await reader.read(offset):
                found |= {event.offset: event.body for event in block.events()}
                offset = block.offsets[-1] + 1
    reader.close()
    return found


def is_any_compressed(folder: Path) -> bool:
    return any(b'"zstd"' in path.read_bytes() for path in folder.glob("*.log"))


@pytest.mark.parametrize("limits", [LIMITS, COMPRESSED])
async def test_a_rewritten_segment_keeps_its_age_and_its_form(
    tmp_path: Path, limits: JournalLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "LEAST_BYTES", 0)
    journal = Journal(tmp_path, limits, 0)
    sent = [body(user) for user in ("anna", "bert", "anna", "carl", "carl", "anna")]
    for start in (0, 3):
        await journal.append([KIND] * 3, sent[start : start + 3])
        journal._writer.seal(journal.head)
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.log")}
    assert is_any_compressed(tmp_path) == limits.compress
    journal.set_limits(LIMITS, 0)
    assert await erase(journal) == {0, 2, 5}
    assert is_any_compressed(tmp_path) == limits.compress, "whatever the setting is now"
    assert read(tmp_path) == {offset: b"{}" if offset in (0, 2, 5) else sent[offset] for offset in range(6)}
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.log")} == written
    assert journal.size == sum(path.stat().st_size for path in tmp_path.glob("*.log"))
    await journal.close()
    assert all(segment.is_whole for segment in inspect_all(tmp_path, 6))


async def test_a_segment_that_is_written_to_is_not_touched(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LIMITS, 1 << 20)
    await journal.append([KIND], [body("anna")])
    assert await journal.find_more_ids(WANTED, 1) == {1: User(None)}
    await journal.append([KIND], [body("anna")])
    assert [stretch.end async for stretch in journal.erase(WANTED, 1)] == [1]
    assert (await read_on(journal))[0] == b"{}"
    assert b"anna" in (await read_on(journal))[1]
    await journal.close()


async def test_what_retention_has_removed_meanwhile_stays_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, JournalLimits(1 << 30, 0.0), 0)
    for user in ("anna", "bert"):
        await journal.append([KIND], [body(user)])
        journal._writer.seal(journal.head)
    async for stretch in journal.erase(WANTED, 2):
        if stretch.end == 1:
            await journal.keep(1)
    assert [path.name for path in tmp_path.glob("*.*")] == ["00000000000000000001.log"]
    await journal.close()


async def test_what_retention_removes_during_the_rewrite_stays_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, JournalLimits(1 << 30, 0.0), 0)
    for user in ("anna", "bert"):
        await journal.append([KIND], [body(user)])
        first = journal._writer.seal(journal.head)[0]
    fresh = rewrite(first, WANTED)
    await journal.keep(1)
    await journal._replace(first, fresh)
    assert [path.name for path in tmp_path.glob("*.*")] == ["00000000000000000001.log"]
    await journal.close()


async def test_what_a_crash_has_left_beside_is_removed_at_the_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LIMITS, 0)
    await journal.append([KIND], [body("anna")])
    rewrite(journal._writer.seal(journal.head)[0], WANTED)
    await journal.close()
    assert [*tmp_path.glob("*.fresh")]
    reopened = Journal(tmp_path, LIMITS, 0)
    assert not [*tmp_path.glob("*.fresh")]
    assert b"anna" in read(tmp_path)[0]
    await reopened.close()


async def test_lost_events_stay_lost_and_a_copy_that_names_the_user_is_found(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LIMITS, 0)
    for users in (("bert", "bert"), ("anna", "bert"), ("anna", "carl"), ("carl",)):
        await journal.append([KIND] * len(users), [body(user) for user in users])
    await journal.close()
    (path,) = tmp_path.glob("*.log")
    data = bytearray(path.read_bytes())
    for damaged in (0, 3):
        at = PREFIX.size
        for _ in range(damaged):
            header = read_header(data, at)
            assert header is not None
            at += header.size
        data[at + 100] ^= 1
    path.write_bytes(data)
    repair(tmp_path, 7)
    before = read(tmp_path)
    reopened = Journal(tmp_path, LIMITS, 0)
    copy = path.with_name(path.name + ".damaged")
    assert await erase(reopened, Wanted({1: User("ann")})) == set()
    assert copy.exists()
    assert await erase(reopened) == {2, 4}
    assert not copy.exists()
    assert reopened.head == 7
    assert read(tmp_path) == before | {2: b"{}", 4: b"{}"}
    assert [segment.is_whole for segment in inspect_all(tmp_path, 7)] == [True]
    await reopened.close()


async def test_a_damaged_segment_is_left_as_it_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LIMITS, 0)
    await journal.append([KIND], [body("anna")])
    (segment,) = journal._writer.seal(journal.head)
    data = bytearray(segment.path.read_bytes())
    data[-5] ^= 1
    segment.path.write_bytes(data)
    with pytest.raises(Corrupt):
        plan_rewrite(segment, WANTED)
    with pytest.raises(Corrupt):
        rewrite(segment, WANTED)
    assert segment.path.read_bytes() == data
    await journal.close()


async def test_what_a_failed_commit_has_left_behind_the_last_record_goes_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path, LIMITS, 0)
    await journal.append([KIND], [body("bert")])
    (segment,) = journal._writer.seal(journal.head)
    with segment.path.open("ab") as file:
        file.write(body("anna"))
    assert await erase(journal) == set()
    assert b"anna" not in segment.path.read_bytes()
    await journal.close()


def test_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fill() -> None:
        journal = Journal(tmp_path, LIMITS, 0)
        await journal.append([KIND], [body("anna")])
        (segment,) = journal._writer.seal(journal.head)

        def full(fd: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                rewrite(segment, WANTED)
        assert b"anna" in (await read_on(journal))[0]
        assert await erase(journal) == {0}
        await journal.close()

    asyncio.run(fill())
