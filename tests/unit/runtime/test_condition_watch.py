"""What is wrong, from look to look."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from relay.runtime.condition_watch import ConditionSnapshot, ConditionWatch
from relay.status.model import Status
from tests.unit.status.statuses import NOON, a_lane, a_status

GOOD = a_status()
BEHIND = a_status(lanes=[a_lane(pending=5, oldest_pending=NOON - 90)])
BROKEN = a_status(lanes=[a_lane(state="broken", pending=7)])
LATER = replace(a_status(lanes=[a_lane(state="broken", pending=9)]), now=NOON + 5)


def test_listeners_hear_what_begins_what_lasts_and_what_ends() -> None:
    looks: list[ConditionSnapshot] = []
    watch = ConditionWatch([looks.append])
    for status in (GOOD, BEHIND, BROKEN, LATER, GOOD, GOOD):
        watch.check(status)
    assert [[[one.kind for one in part] for part in (look.conditions, look.begun, look.ended)] for look in looks] == [
        [[], [], []],
        [["behind"], ["behind"], []],
        [["broken"], ["broken"], ["behind"]],
        [["broken"], [], []],
        [[], [], ["broken"]],
        [[], [], []],
    ]
    (lasting,) = looks[3].conditions
    assert (lasting.since, lasting.facts["pending"]) == (NOON, 9)
    assert looks[3].now == NOON + 5
    assert looks[4].ended[0].facts["pending"] == 9


def test_a_connector_that_nobody_runs_is_not_well_again() -> None:
    looks: list[ConditionSnapshot] = []
    watch = ConditionWatch([looks.append])
    for status in (BROKEN, a_status(lanes=[a_lane(state="idle")]), BROKEN, GOOD):
        watch.check(status)
    assert [([one.kind for one in look.begun], [one.kind for one in look.ended]) for look in looks] == [
        (["broken"], []),
        ([], []),
        ([], []),
        ([], ["broken"]),
    ]


def test_what_ends_with_relay_is_not_told() -> None:
    looks: list[ConditionSnapshot] = []
    watch = ConditionWatch([looks.append])
    watch.stop()
    watch.check(BROKEN)
    assert looks == []


async def test_neither_a_listener_nor_a_status_that_fails_ends_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    asked, looks = 0, asyncio.Queue[ConditionSnapshot]()

    async def status() -> Status:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("no room")
        return BEHIND if asked == 2 else GOOD

    def fail(_: Any) -> None:
        raise KeyError("x")

    watch = ConditionWatch([fail, looks.put_nowait], every=0.01)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        watching = group.create_task(watch.run(status), name="watch")
        assert [one.kind for one in (await looks.get()).begun] == ["behind"]
        assert [one.kind for one in (await looks.get()).ended] == ["behind"]
        watching.cancel()
