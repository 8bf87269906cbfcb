"""A real relay on a store that is nothing but tables in memory: nothing outside the store knows what it stands on."""

import pytest

from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.commands import act, ask, ask_replay, numbers, until_answer

KINDS = {"started", "paused", "resumed", "parked_replayed", "replay_started", "replay_done", "reloaded", "erased"}
"""What the history has of this run."""
CONFIG = """
[metrics]
listen = "127.0.0.1:0"
[erasure]
after = "0s"
[source.braze]
type = "currents"
path = "/currents"
[connector.hook]
type = "http"
url = "%s"
body = "single"
retry = { first = "10ms", max = "50ms" }
"""


async def post(daemon: Daemon, *numbers: int) -> None:
    body = b'{"events":[%s]}' % b",".join(make_event(n=n) for n in numbers)
    assert (await daemon.post(body))[0] == 202


@pytest.mark.long
async def test_relay_runs_on_a_store_that_is_tables_in_memory(daemon: Daemon) -> None:
    daemon.state.mkdir()
    daemon.module = "tests.process.toy_relay"
    async with Destination() as hook, Destination() as other:
        daemon.configure("10-all", CONFIG % hook.url)
        await daemon.start()

        await post(daemon, 0, 1, 2)
        await daemon.until(lambda: sorted(numbers(hook)), lambda seen: seen == [0, 1, 2])

        await act(daemon, "pause", "hook")
        await post(daemon, 3)
        (lane,) = (await ask(daemon, "status"))["lanes"]
        assert (lane["state"], lane["pending"], len(hook.requests)) == ("paused", 1, 3)
        await act(daemon, "resume", "hook")
        await daemon.until(lambda: numbers(hook), lambda seen: 3 in seen)

        hook.behaviour = 400
        await post(daemon, 4)
        await daemon.until(lambda: numbers(hook), lambda seen: 4 in seen)
        parked = await until_answer(daemon, "parked", "list", good=lambda found: isinstance(found, list))
        assert [(one["connector"], one["cause"], one["offset"]) for one in parked] == [("hook", "refused", 4)]
        hook.behaviour = 200
        await act(daemon, "parked", "replay", "--connector", "hook")
        await daemon.until(lambda: numbers(hook), lambda seen: seen.count(4) == 2)
        await until_answer(daemon, "parked", "list", good=lambda found: found == "Error: no event is parked")

        assert await ask_replay(daemon, 0, 2) == 1
        await daemon.until(lambda: numbers(hook), lambda seen: (seen.count(0), seen.count(1)) == (2, 2))
        await until_answer(daemon, "replay", "list", good=lambda found: found[0]["status"] == "done")

        daemon.configure("20-other", f'[connector.other]\ntype = "http"\nurl = "{other.url}"\nbody = "single"')
        await act(daemon, "reload")
        await post(daemon, 5)
        await daemon.until(lambda: (numbers(other), 5 in numbers(hook)), lambda seen: seen == ([5], True))

        await act(daemon, "erasures", "request", "--external-id", "customer-1")
        erased = await until_answer(daemon, "erasures", "list", good=lambda found: found[0]["status"] == "done")
        assert erased[0]["removed"]["events"] == 6

        metrics = await daemon.metrics()
        assert metrics['relay_ingest_accepted_events_total{source="braze"}'] == 6
        await until_answer(daemon, "history", good=lambda found: {one["kind"] for one in found} >= KINDS)
        assert not [*daemon.state.rglob("*.db"), *daemon.state.rglob("*.log")]
        assert await daemon.stop() == 0
    assert daemon.list_complaints() == ["event parked"]
