"""A real relay that sends to the stand-in of Segment: limits, identities, lost answers and a wrong key."""

import orjson

from relay.sandbox import SegmentApi
from relay.testing import make_event
from tests.daemon import Daemon
from tests.process.commands import act, until_answer

CONFIG = """
[source.braze]
type = "currents"
path = "/currents"
[connector.segment]
type = "segment"
endpoint = "%s"
write_key = { file = "%s" }
retry = { first = "10ms", max = "100ms" }
"""


async def test_segment_gets_each_event_once_and_what_it_cannot_have_is_parked(daemon: Daemon) -> None:
    key = daemon.conf.parent / "key"
    key.write_text("wrong")
    async with SegmentApi("right", wrong_key="refuse") as segment:
        daemon.configure("10-all", CONFIG % (segment.url, key))
        await daemon.start()
        events = [make_event(n=number) for number in range(100)]
        large = make_event(text="x" * 40_000)
        nobody = orjson.dumps(orjson.loads(make_event()) | {"user": {"user_id": "5f"}})
        assert (await daemon.post(b'{"events":[%s]}' % b",".join([*events, large, nobody])))[0] == 202
        await until_answer(daemon, "status", good=lambda found: found["lanes"][0]["state"] == "unauthorized")
        assert not segment.calls
        key.write_text("right")
        segment.faults.extend([503, 429])
        await act(daemon, "reload")
        books = await daemon.settled("segment", 102)
        assert (books.counts.delivered, books.counts.parked) == (100, 2)
        reasons = " ".join(one.reason for one in daemon.parked())
        assert "a call has at most 32,768" in reasons
        assert "has neither user.external_user_id nor user.device_id" in reasons
        assert {call["messageId"] for call in segment.calls} == {orjson.loads(event)["id"] for event in events}
        assert {401, 429, 503, 200} == segment.statuses.keys()
        assert await daemon.stop() == 0
