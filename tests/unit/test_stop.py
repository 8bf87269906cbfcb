"""The moments of a stop: in their order, within the drain budget, and kept whatever hangs."""

import logging
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.stop import LEAST_S, Stop, plan_moments


@given(st.floats(0.0, 1e9), st.booleans())
def test_each_step_of_a_stop_ends_before_the_next_and_the_last_in_time(drain: float, supervised: bool) -> None:
    found = plan_moments(drain, supervised=supervised)
    assert sorted(found) == [*found]
    assert found[0] >= max(drain - 2.0, drain / 2), "deliveries have the time that is promised"
    assert found[-1] < max(drain, LEAST_S)


@given(st.floats(0.0, 1e6))
def test_a_supervisor_waits_until_its_workers_have_to_be_over(drain: float) -> None:
    _, _, ended, _, _ = plan_moments(drain, supervised=False)
    assert plan_moments(drain, supervised=True)[-1] < ended


def test_the_process_ends_in_time_whatever_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    stop, ended, codes = Stop(), Event(), list[int]()
    stop.watch(0.0, leave=lambda code: (codes.append(code), ended.set()))
    assert not codes
    stop.begin()
    before = stop.over
    stop.begin()
    assert stop.over == before, "a second signal sets no later moment"
    assert ended.wait(60)
    assert codes == [0]
