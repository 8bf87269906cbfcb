"""The thread of a State."""

import asyncio
from contextlib import nullcontext

import pytest

from relay.store import Unavailable
from relay.store.state_thread import StateThread


async def test_that_a_partition_is_taken_is_known_before_the_caller_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the work has ended before anybody awaits it, so that callbacks run later."""
    thread, reasons, done = StateThread(nullcontext), list[str](), asyncio.Future[None]()
    thread.when_taken = reasons.append
    done.set_exception(Unavailable("another relay works with it", "taken"))
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", lambda *_: done)
    with pytest.raises(Unavailable):
        await thread.run(lambda: None)
    assert reasons == ["another relay works with it"]
    thread.close()
