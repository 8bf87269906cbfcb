"""A source that refuses everything is told of before its sender gives up."""

import pytest
import structlog

from relay.ingest.refusal_clock import RefusalClock
from relay_plugins.currents import Currents

HOUR = 3600.0
MESSAGE = "source has refused everything for too long"


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def guard(clock: Clock) -> RefusalClock:
    made = Currents.Settings.model_validate({"type": "currents", "path": "/currents"})
    return RefusalClock(Currents("braze", made), lambda: None, clock)


def refuse_for(it: RefusalClock, clock: Clock, hours: float) -> None:
    """A refusal every ten minutes."""
    for _ in range(round(hours * 6)):
        clock.now += 600
        it.note_refused(503, "the disk is full")


@pytest.mark.parametrize(("hours", "warnings"), [(0.9, 0), (1.2, 1), (23, 1), (25, 2), (71, 2), (73, 3), (200, 3)])
def test_it_warns_after_1_24_and_72_hours(hours: float, warnings: int) -> None:
    clock = Clock()
    it = guard(clock)
    it.note_refused(401, "wrong bearer token")
    with structlog.testing.capture_logs() as logs:
        refuse_for(it, clock, hours)
    told = [line for line in logs if line["event"] == MESSAGE]
    assert len(told) == warnings
    for line in told:
        assert (line["log_level"], line["status"], line["reason"]) == ("error", 503, "the disk is full")
        assert line["deadline"] == "2023-11-19T22:13:20Z"  # five days after the first refusal


def test_any_2xx_starts_it_anew() -> None:
    clock = Clock()
    it = guard(clock)
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            refuse_for(it, clock, 0.9)
            it.note_accepted()
        assert logs == []
        refuse_for(it, clock, 3)
        it.note_accepted()
    assert [line["event"] for line in logs] == [MESSAGE, "source takes events again"]
    assert it.lasting is None


def test_it_goes_on_after_a_restart_and_does_not_warn_twice() -> None:
    clock = Clock()
    before = guard(clock)
    refuse_for(before, clock, 2)
    after = guard(clock)
    after.restore(before.lasting)
    with structlog.testing.capture_logs() as logs:
        refuse_for(after, clock, 21)
        assert logs == []
        refuse_for(after, clock, 2)
    assert len(logs) == 1


def test_a_blip_is_not_kept() -> None:
    clock = Clock()
    it = guard(clock)
    it.note_refused(503, "busy")
    clock.now += 30
    it.note_refused(503, "busy")
    assert it.lasting is None
