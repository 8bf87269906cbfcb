"""Only an event whose twin is on disk is left out, whatever comes at the same time and however it ends."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from relay.journal.duplicates import Duplicates
from relay.journal.seen_ids import Seen


class Bench:
    """Requests with events of given ids; each one's commit ends when the test says so."""

    def __init__(self, state: Path) -> None:
        self.duplicates = Duplicates(Seen(state / "seen", "braze", 3600))
        self.on_disk: list[str] = []
        self.commits: dict[str, asyncio.Future[None]] = {}
        self.begun = asyncio.Event()

    async def request(self, name: str, ids: Sequence[str]) -> list[str]:
        """What of a request is fresh, once it is on disk."""
        async with self.duplicates.leave_out(ids) as places:
            fresh = [ids[place] for place in places]
            if fresh:
                self.commits[name] = asyncio.get_running_loop().create_future()
                self.begun.set()
                await self.commits[name]
                self.on_disk += fresh
        return fresh

    async def commit(self, name: str, error: Exception | None = None) -> None:
        """Wait until a request's events are about to be committed, and have that end well or badly."""
        async with asyncio.timeout(30):
            while name not in self.commits:
                self.begun.clear()
                await self.begun.wait()
        if error is None:
            self.commits[name].set_result(None)
        else:
            self.commits[name].set_exception(error)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    async with asyncio.timeout(30):
        yield bench
    await bench.duplicates.seen.close()


async def take(bench: Bench, ids: Sequence[str]) -> list[str]:
    """One request from its begin to its end, with nothing beside it."""
    bench.commits.clear()
    async with asyncio.TaskGroup() as group:
        taken = group.create_task(bench.request("only", ids), name="request")
        committing = group.create_task(bench.commit("only"), name="commit")
        taken.add_done_callback(lambda _: committing.cancel())
    return taken.result()


async def test_of_twins_in_one_body_the_first_is_kept(bench: Bench) -> None:
    assert await take(bench, ["a", "b", "a", "c", "b"]) == ["a", "b", "c"]


async def test_what_came_by_an_earlier_request_is_left_out(bench: Bench) -> None:
    await take(bench, ["a", "b"])
    assert await take(bench, ["c", "b", "d"]) == ["c", "d"]
    assert await take(bench, ["a", "b", "c", "d"]) == []


async def test_a_request_without_events_is_let_through(bench: Bench) -> None:
    assert await take(bench, []) == []


async def test_the_second_waits_for_the_first_and_is_left_out_if_that_is_on_disk(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.request("first", ["a", "b"]), name="first")
        second = group.create_task(bench.request("second", ["b", "c"]), name="second")
        await bench.commit("first")
        await bench.commit("second")
    assert (first.result(), second.result()) == (["a", "b"], ["c"])


async def test_the_second_is_taken_if_the_first_is_not_to_be_on_disk(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(refused(bench, "first", ["a", "b"]), name="first")
        second = group.create_task(bench.request("second", ["b", "a"]), name="second")
        await bench.commit("first", OSError("the disk is full"))
        await bench.commit("second")
    assert (first.result(), second.result()) == ("the disk is full", ["b", "a"])


async def refused(bench: Bench, name: str, ids: Sequence[str]) -> str:
    with pytest.raises(OSError, match="full") as info:
        await bench.request(name, ids)
    return str(info.value)


async def test_the_second_is_taken_if_the_first_is_cancelled(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(bench.request("first", ["a"]), name="first")
        second = group.create_task(bench.request("second", ["a"]), name="second")
        while "first" not in bench.commits:
            await asyncio.sleep(0)
        first.cancel()
        await bench.commit("second")
    assert second.result() == ["a"]


async def test_who_gives_up_waiting_holds_up_nobody(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.request("first", ["a"]), name="first")
        waiting = group.create_task(bench.request("waiting", ["a", "b"]), name="waiting")
        while "first" not in bench.commits:
            await asyncio.sleep(0)
        waiting.cancel()
        other = group.create_task(bench.request("other", ["b"]), name="other")
        await bench.commit("other")
        await bench.commit("first")
    assert other.result() == ["b"]


async def test_requests_that_want_each_others_ids_do_not_wait_for_ever(bench: Bench) -> None:
    """Many requests over few ids, some of which fail: all end, and every id is on disk once."""
    chance, ids, done = random.Random(3), [str(number) for number in range(12)], 0

    async def send(name: str, wanted: list[str]) -> None:
        nonlocal done
        while True:
            bench.commits.pop(name, None)
            try:
                await bench.request(name, wanted)
            except OSError:
                continue
            done += 1
            return

    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(send(str(number), chance.sample(ids, 5)), name=str(number))
        while done < 60:
            for commit in [one for one in bench.commits.values() if not one.done()]:
                if chance.random() < 0.3:
                    commit.set_exception(OSError("not now"))
                else:
                    commit.set_result(None)
            await asyncio.sleep(0)
    assert sorted(bench.on_disk) == sorted(ids)


async def test_a_subject_is_superseded_before_its_next_events_are_on_disk(bench: Bench) -> None:
    """A crash may come between the two: then what the subject comes back to must not be taken for a duplicate."""
    async with bench.duplicates.leave_out(["on"], "switch"):
        pass
    with pytest.raises(OSError, match="crash"):
        async with bench.duplicates.leave_out(["off"], "switch"):
            raise OSError("a crash before the ids are noted")
    async with bench.duplicates.leave_out(["on"], "switch") as fresh:
        assert [*fresh] == [0]


async def test_nothing_is_kept_in_memory_of_requests_that_have_ended(bench: Bench) -> None:
    for number in range(20):
        await take(bench, [f"{number}-{place}" for place in range(50)])
    assert not bench.duplicates._claims
