"""How the code of plugins is called."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from relay.guests import BLOCKED_S, Escape, quick, run_stepwise


def test_a_call_that_blocks_is_told_with_the_name_of_its_plugin() -> None:
    with capture_logs() as logs, quick("decode", source="slow"):
        time.sleep(BLOCKED_S)
    (line,) = logs
    assert (line["event"], line["source"], line["call"]) == ("a plugin held up relay", "slow", "decode")
    assert line["seconds"] >= BLOCKED_S


def test_a_quick_call_is_not_told_and_what_it_raises_is_an_exception() -> None:
    with capture_logs() as logs, pytest.raises(Escape, match="CancelledError"), quick("decode", source="odd"):
        raise asyncio.CancelledError
    assert not [line for line in logs if line["seconds"] < BLOCKED_S]


@pytest.mark.parametrize("ending", ["returns", "raises", "cancelled"])
async def test_blocking_between_two_awaits_is_logged_and_changes_no_result(ending: str) -> None:
    """What is sent into the work, and what comes out of it, is what `await` alone would do."""
    seen: list[str] = []

    async def work() -> str:
        await asyncio.sleep(BLOCKED_S)  # that holds up nobody
        time.sleep(BLOCKED_S)
        try:
            await asyncio.sleep(0 if ending != "cancelled" else 60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        if ending == "raises":
            raise ValueError("no")
        return "done"

    with capture_logs() as logs:
        task = asyncio.get_running_loop().create_task(run_stepwise(work, "deliver", connector="slow"), name="work")
        while not logs:
            await asyncio.sleep(0.01)
        task.cancel() if ending == "cancelled" else None
        await asyncio.wait([task])
    (line,) = logs
    assert (line["event"], line["connector"], line["call"]) == ("a plugin held up relay", "slow", "deliver")
    assert task.cancelled() == (ending == "cancelled") == bool(seen)
    if ending == "returns":
        assert task.result() == "done"
    if ending == "raises":
        assert str(task.exception()) == "no"
