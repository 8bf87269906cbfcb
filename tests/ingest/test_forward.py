"""What workers hand on to the first one: which events, and as what it keeps them."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from relay.api import Decoded, SourceSettings
from relay.api.source import KINDS_REMEMBERED
from relay.catalogue import Selection
from relay.ingest import First, Others
from relay.ingest.forward import split
from relay_plugins.currents import Currents

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
    assert len(first._kinds) <= KINDS_REMEMBERED
