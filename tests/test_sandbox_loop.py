"""The closed loop: Heap segment, Braze cohort, campaign, Heap again; and that its story cannot tell lies."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.sandbox import loop
from relay.sandbox.loop import SCENARIOS, Loop, Step
from relay.sandbox.segments import Segment, SegmentSync
from relay.testing import Destination


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_loop_closes(name: str, tmp_path: Path) -> None:
    steps = await Loop(scenario=SCENARIOS[name], folder=tmp_path).run()
    assert len(steps) == 7
    assert [step for step in steps if not step.good] == []


async def test_it_can_be_told_and_read_by_programs() -> None:
    result = await asyncio.to_thread(CliRunner().invoke, relay, ["sandbox", "--scenario", "funnel", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["scenario"], told["as_told"], len(told["steps"])) == ("funnel", True, 7)
    assert all(step["expected"] == step["found"] > 0 for step in told["steps"])


@pytest.mark.parametrize("option", ["--events", "--rate"])
def test_what_only_the_demo_can_do_is_no_option_of_a_story(option: str) -> None:
    result = CliRunner().invoke(relay, ["sandbox", "--scenario", "funnel", option, "5"])
    assert result.exit_code == 2
    assert f"{option} is for the demo" in result.stderr


async def test_a_story_that_does_not_come_true_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CONF", loop.CONF.replace('events = ["message_engagement"]', 'events = ["push"]'))
    monkeypatch.setattr(loop, "WAIT_S", 2.0)
    result = await asyncio.to_thread(CliRunner().invoke, relay, ["sandbox", "--scenario", "funnel"])
    assert result.exit_code == 1
    assert 'of them in Heap with "Email Send"  WRONG: 25 expected' in result.stdout


def test_a_segment_is_who_did_one_thing_and_not_the_other() -> None:
    events = [{"event": what, "identity": who} for who, what in (("a", "in"), ("b", "in"), ("b", "out"), ("c", "out"))]
    assert Segment(1, "s", "in", "out").members(events) == {"a"}
    assert not Step("x", 1, 2).good


async def test_a_sync_tells_what_has_changed_until_it_is_taken() -> None:
    segment = Segment(5, "s", "in", "out")
    async with Destination(503) as hook, SegmentSync(hook.url, "secret", page=2) as sync:
        assert await sync.sync(segment, {"a", "b", "c"}) == (3, 0)
        assert await sync.sync(segment, {"c", "d"}) == (1, 2)
        data = [json.loads(request.body)["data"] for request in hook.requests if request.taken]
        pages = [(page["sync_info"]["page_number"], page["sync_info"]["total_pages"]) for page in data]
        assert pages == [(1, 2), (2, 2), (1, 2), (2, 2)]
        assert [user["id"] for page in data for user in page["add"]] == ["a", "b", "c", "d"]
        assert [user["id"] for page in data for user in page["remove"]] == ["a", "b"]
