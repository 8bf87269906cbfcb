"""What workers hand on to the first one: which events, as what it keeps them, and how little they can do to it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest
import uvloop
from structlog.testing import capture_logs

from relay.api import Decoded, SourceSettings
from relay.api.source import KINDS_REMEMBERED
from relay.catalogue import Selection
from relay.config.address import TcpAddress
from relay.config.model import IngestSettings
from relay.ingest.server import Ingest
from relay.ingest.to_first_worker import LENGTH, First, FirstPartition, Others, split
from relay.store.error import Unavailable
from relay.store.log import JournalLimits
from relay.testing import make_event
from relay_plugins.currents import Currents
from tests.toy_store.store import ToyStore

NONSENSE = LENGTH.pack(3) + b"\xc1\xc1\xc1"
SETTINGS = SourceSettings.model_validate({"type": "currents", "path": "/c"})


def decoded(source: Currents, *types: str) -> Decoded:
    bodies = [f'{{"event_type": "{one}", "id": "{number}"}}'.encode() for number, one in enumerate(types)]
    return Decoded([source.kind(one) for one in types], bodies, (), [str(number) for number in range(len(types))])


def test_events_are_split_by_what_the_first_worker_wants() -> None:
    here, there = split(decoded(Currents("s", SETTINGS), "a", "b", "a", "c"), Selection(["a", "c"]).wants)
    assert ([kind.type for kind in here.kinds], here.ids) == (["b"], ["1"])
    assert ([kind.type for kind in there.kinds], there.ids) == (["a", "a", "c"], ["0", "2", "3"])


def test_what_it_wants_nothing_of_stays_as_it_is() -> None:
    all_of_it = decoded(Currents("s", SETTINGS), "a", "b")
    here, there = split(all_of_it, Selection(["c"]).wants)
    assert (here, there.bodies) == (all_of_it, [])


async def test_the_kinds_are_those_of_its_source_and_no_more_than_that_remembers() -> None:
    mine, first = Currents("s", SETTINGS), Currents("s", SETTINGS)
    kept: list[Decoded] = []

    async def keep(source: str, handed: Decoded) -> int:
        kept.append(handed)
        return len(handed.bodies)

    with TemporaryDirectory() as folder:
        socket = Path(folder) / "first.sock"
        there = First(socket, [])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(Others(keep, {"s": first}.__getitem__).run(socket), name="others")]
            await there.connect()
            tasks.append(group.create_task(there.run(), name="first"))
            assert await there.keep("s", decoded(mine, "a", "b", "a")) == 3
            for start in range(0, KINDS_REMEMBERED + 500, 500):
                await there.keep("s", decoded(mine, *(f"made.up.{start + number}" for number in range(500))))
            for task in tasks:
                task.cancel()
    assert kept[0].kinds[0] is kept[0].kinds[2]
    assert [kind.type for kind in kept[0].kinds] == ["a", "b", "a"]
    assert len(first.kinds()) <= KINDS_REMEMBERED


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_death_of_a_forwarding_worker_ends_nothing_in_the_first_worker(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Looked at: a write to the worker that is gone, nonsense from it, a socket that cannot be bound, and the other
    way round a first worker that goes away, says nonsense or says nothing."""
    mine, held, asked = Currents("s", SETTINGS), asyncio.Event(), asyncio.Event()
    socket = tmp_path / "later" / "first.sock"

    async def keep(source: str, handed: Decoded) -> int:
        asked.set()
        await held.wait()
        return len(handed.bodies)

    async def scene() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            others = group.create_task(Others(keep, {"s": mine}.__getitem__).run(socket), name="others")
            await asyncio.sleep(0)
            socket.parent.mkdir(exist_ok=True)
            await _dies_while_it_waits(group, socket, mine, asked)
            _, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(NONSENSE)
            held.set()
            there = First(socket, [])
            await there.connect()
            hearing = group.create_task(there.run(), name="first")
            assert await there.keep("s", decoded(mine, "a", "b")) == 2
            for end in (hearing.cancel, others.cancel, writer.close):
                end()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scene())


async def _dies_while_it_waits(group: asyncio.TaskGroup, socket: Path, source: Currents, asked: asyncio.Event) -> None:
    there = First(socket, [])
    await there.connect()

    async def wait() -> None:
        with pytest.raises(Unavailable, match="the first worker"):
            await there.keep("s", decoded(source, "a"))

    waiting = group.create_task(wait(), name="one that waits")
    hearing = group.create_task(there.run(), name="first that ends")
    await asked.wait()
    hearing.cancel()
    await waiting


async def _silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    writer.write(NONSENSE)
    await reader.read()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)


@pytest.mark.parametrize("first", [_silence, _nonsense, _hang_up])
async def test_a_sender_soon_hears_that_the_first_worker_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Callable[..., Coroutine[Any, Any, None]]
) -> None:
    monkeypatch.setattr("relay.ingest.to_first_worker.KEEP_S", 0.2)
    socket = tmp_path / "first.sock"
    there = First(socket, [])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            await first(reader, writer)
        writer.close()

    async with await asyncio.start_unix_server(serve, str(socket)), asyncio.timeout(30), asyncio.TaskGroup() as group:
        hearing = group.create_task(there.run(), name="first")
        for _ in range(3):
            while there._writer is None:
                await asyncio.sleep(0.01)
            with pytest.raises(Unavailable, match="the first worker"):
                await there.keep("s", decoded(Currents("s", SETTINGS), "a"))
        hearing.cancel()


@pytest.mark.parametrize("stops", [False, True])
async def test_workers_that_stop_together_are_not_told_to_be_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stops: bool
) -> None:
    path = tmp_path / "first.sock"
    if stops:
        monkeypatch.setattr("relay.stop.STOP.cut", 0.0)

    async def keep(source: str, handed: Decoded) -> int:
        return 0

    with capture_logs() as lines:
        async with asyncio.TaskGroup() as group:
            others = group.create_task(Others(keep, {}.__getitem__).run(path), name="others")
            async with asyncio.timeout(60):
                while not path.exists():
                    await asyncio.sleep(0.01)
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write_eof()
                assert await reader.read() == b""
            writer.close()
            others.cancel()
    said = [(line["event"], line["reason"]) for line in lines]
    assert said == ([] if stops else [("another worker is away", "it has closed the connection")])


@pytest.mark.parametrize(("dedupe", "times"), [("0s", 2), ("1h", 1)])
async def test_a_request_that_ends_after_its_events_for_partition_0_loses_none(
    dedupe: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a kill there, the sender has no 2xx and sends all again: the same bytes, and so the same ids."""
    limits = JournalLimits(1 << 20, 3600)
    store = ToyStore(partitions=2)
    log, state = store.open(1, limits, 0)
    inbox = store.open_inbox(1, limits)
    source = Currents("s", SETTINGS.model_validate({"type": "currents", "path": "/c", "dedupe": dedupe}))
    listening = IngestSettings(listen=(TcpAddress("127.0.0.1", 0),))
    ingest = Ingest([source], listening, inbox, FirstPartition([Selection(["ordered"])]))
    (url,) = await ingest.start()
    there, here = make_event("ordered"), make_event("plain")

    async def post() -> int:
        async with aiohttp.request("POST", f"{url}/c", data=b'{"events":[%s,%s]}' % (here, there)) as answer:
            assert "the process ends" not in await answer.text(), "a sender reads nothing of a database"
            return answer.status

    async def fail(*_: object) -> int:
        raise Unavailable("the process ends here")

    with monkeypatch.context() as ends:
        ends.setattr(inbox.events, "append", fail)
        assert await post() == 503
    assert await post() == 202
    found = {
        number: [body for block in books.log.blocks for body in block.bodies()]
        for number, books in store.books.items()
        if books.log is not None
    }
    assert found == {0: [there] * times, 1: [here]}
    await ingest.stop()
    await log.close()
    state.close()
