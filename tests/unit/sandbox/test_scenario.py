"""The closed loop: Heap segment, Braze cohort, campaign, Heap again; and that its stories cannot tell lies."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.sandbox import scenario
from relay.sandbox.heap.segments import SegmentSync, StandInSegment
from relay.sandbox.scenario import Followed, Step
from relay.sandbox.stories import STORIES, play_story
from relay.testing import Destination
from tests.forks import Forks


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_comes_true_and_follows_two_users(name: str, tmp_path: Path, relay_forks: Forks) -> None:
    """Looked at as well: the demo (test_sandbox_demo.py), and the fields that events have (test_sandbox_shapes.py)."""
    told = await play_story(name, tmp_path, command=relay_forks.command)
    assert [one for one in told if not one.good] == []
    assert len([one for one in told if isinstance(one, Step)]) >= 9
    assert len([one for one in told if isinstance(one, Followed)]) == 2


@pytest.mark.long
async def test_it_can_be_told_and_read_by_programs() -> None:
    result = await asyncio.to_thread(CliRunner().invoke, relay, ["sandbox", "--scenario", "trial", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["scenario"], told["as_told"], len(told["users"])) == ("trial", True, 2)
    assert all(step["expected"] == step["found"] for step in told["steps"])
    reminded = {user["user"]: sum("Push Notification Send" in what for what in user["found"]) for user in told["users"]}
    assert reminded == {"visitor-00": 1, "visitor-19": 3}, "who has subscribed is not reminded again"


@pytest.mark.parametrize("option", ["--events", "--rate"])
def test_what_only_the_demo_can_do_is_no_option_of_a_story(option: str) -> None:
    result = CliRunner().invoke(relay, ["sandbox", "--scenario", "funnel", option, "5"])
    assert result.exit_code == 2
    assert f"{option} is for the demo" in result.stderr


async def test_a_story_that_does_not_come_true_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "CONF", scenario.CONF.replace('"message_engagement"', '"users.canvas.Entry"'))
    monkeypatch.setattr(scenario, "WAIT_S", 2.0)
    result = await asyncio.to_thread(CliRunner().invoke, relay, ["sandbox", "--scenario", "funnel"])
    assert result.exit_code == 1
    assert "sent an e-mail, and in Heap with it  WRONG: 7 expected" in result.stdout
    assert "WRONG: expected day 0: Product Viewed" in result.stdout


def test_a_segment_is_who_did_one_thing_and_not_the_other() -> None:
    events = [{"event": what, "identity": who} for who, what in (("a", "in"), ("b", "in"), ("b", "out"), ("c", "out"))]
    assert StandInSegment(1, "s", "in", "out").find_members(events) == {"a"}
    assert not Step("x", 1, 2).good


async def test_a_sync_tells_what_has_changed_until_it_is_taken() -> None:
    segment = StandInSegment(5, "s", "in", "out")
    async with Destination(503) as hook, SegmentSync(hook.url, "secret", page=2) as sync:
        assert await sync.sync(segment, {"a", "b", "c"}) == (3, 0)
        assert await sync.sync(segment, {"c", "d"}) == (1, 2)
        data = [json.loads(request.body)["data"] for request in hook.requests if request.taken]
        pages = [(page["sync_info"]["page_number"], page["sync_info"]["total_pages"]) for page in data]
        assert pages == [(1, 2), (2, 2), (1, 2), (2, 2)]
        assert [user["id"] for page in data for user in page["add"]] == ["a", "b", "c", "d"]
        assert [user["id"] for page in data for user in page["remove"]] == ["a", "b"]
