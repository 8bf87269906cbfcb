"""Who is woken by a commit, and what the others are told of it."""

import asyncio
from pathlib import Path

import pytest

from relay.api import Kind
from relay.journal.journal import Journal
from relay.journal.live import subscribers as waiting
from relay.journal.reader import Reader
from relay.store.log import JournalLimits

WANTED = Kind("braze", "users.messages.email.Open")
OTHER = Kind("braze", "users.messages.sms.Send")


def open_journal(folder: Path) -> Journal:
    return Journal(folder, JournalLimits(max_size=64 << 20, retention=3600), 1 << 20)


async def asleep(group: asyncio.TaskGroup, reader: Reader, offset: int) -> asyncio.Task[int]:
    task = group.create_task(reader.skip(offset))
    await asyncio.sleep(0)
    return task


async def test_a_reader_sleeps_through_unwanted_events_and_begins_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "QUIET_S", 60)
    journal = open_journal(tmp_path)
    reader = journal.open_reader(WANTED.type.__eq__)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = await asleep(group, reader, 0)
        for _ in range(3):
            await journal.append([OTHER] * 2, [b"{}"] * 2)
            assert not task.done()
        await journal.append([OTHER, WANTED], [b"{}", b"{}"])
    assert task.result() == 6
    assert [len(block) for block in await reader.read(6)] == [2]
    await journal.close()


async def test_a_reader_without_wanted_events_still_learns_the_head(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    reader, greedy = journal.open_reader(lambda _: False), journal.open_reader()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = await asleep(group, reader, 0)
        await journal.append([OTHER] * 3, [b"{}"] * 3)
        assert (task.done(), await greedy.skip(0)) == (False, 0)
    assert (task.result(), reader.offset) == (3, 3)
    await journal.close()


async def test_what_is_there_already_is_not_passed_over_unread(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    await journal.append([OTHER], [b"{}"])
    reader = journal.open_reader(lambda _: False)
    assert await reader.skip(0) == 0
    assert len(await reader.read(0)) == 1
    await journal.close()


async def test_a_block_of_very_many_kinds_wakes_all_without_a_look_at_each(tmp_path: Path) -> None:
    journal, asked = open_journal(tmp_path), list[str]()
    reader = journal.open_reader(lambda one: bool(asked.append(one)))
    many = waiting.TYPES_REMEMBERED + 1
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = await asleep(group, reader, 0)
        await journal.append([Kind("braze", f"t{n}") for n in range(many)], [b"{}"] * many)
    assert (task.result(), asked) == (0, [])
    await journal.close()
