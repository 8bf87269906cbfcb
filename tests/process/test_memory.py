"""What a real relay has in memory stays within what the configuration allows, whatever is dead, huge or hostile."""

import json
from functools import cache

import msgspec
import pytest

from relay.testing import Destination
from tests.daemon import Daemon

SOURCES = """
[source.braze]
type = "currents"
path = "/currents"

[journal]
memory = "8MiB"
"""
BIG = 100_000
MORE_MB = 90
"""Beside its settings: buffers, the block read last, what the allocator keeps."""


def event(number: int, size: int, type: str = "users.messages.email.Open") -> bytes:
    made = {"event_type": type, "id": f"e{number}", "time": 1.8e9, "user": {"user_id": "u1", "external_user_id": "x1"}}
    made["properties"] = properties(size)
    return msgspec.json.encode(made)


@cache
def properties(size: int) -> msgspec.Raw:
    """Encode properties of this size, once for all events."""
    return msgspec.Raw(json.dumps({f"p{n}": "v" * 40 for n in range(size // 50)}).encode())


@pytest.mark.promise(8)
@pytest.mark.promise(3)
@pytest.mark.parametrize(
    "settings",
    [
        'type = "http"\nurl = "%s"\norder_by = "user.user_id"',
        pytest.param(
            'type = "http"\nurl = "%s"\norder_by = "properties.p1"\nafter_parked = "park"', marks=pytest.mark.long
        ),
        pytest.param('type = "heap"\nmode = "api"\napp_id = "1"\nendpoint = "%s"', marks=pytest.mark.long),
        pytest.param('type = "http"\nurl = "%s"', marks=pytest.mark.long),
    ],
    ids=["order_by", "after_parked", "heap", "plain"],
)
async def test_a_dead_destination_holds_no_more_bytes_than_its_memory(daemon: Daemon, settings: str) -> None:
    """Looked at as well: events that wait alone, replays beside the lane, what was decoded of events that wait."""
    async with Destination() as hook:
        hook.behaviour = 503
        daemon.configure("10-source", SOURCES)
        daemon.configure("20-hook", f'[connector.hook]\n{settings % hook.url}\nmemory = "8MiB"')
        await daemon.start()
        assert (await daemon.post(b'{"events":[%s]}' % event(0, BIG)))[0] == 202
        before = daemon.memory_kib()
        for first in range(1, 1500, 50):  # 150 MB in all
            events = b",".join(event(number, BIG) for number in range(first, first + 50))
            assert (await daemon.post(b'{"events":[%s]}' % events))[0] == 202
        await hook.requested(2)
        assert daemon.memory_kib() - before < (8 + 8 + MORE_MB) * 1024
        await daemon.kill()


@pytest.mark.promise(8)
async def test_small_recent_events_take_no_more_than_journal_memory(daemon: Daemon) -> None:
    """Of each a type of its own. Looked at as well: live taps, types that sources, selections and readers remember."""
    daemon.configure("10-source", SOURCES.replace("8MiB", "16MiB") + '[source.j]\ntype="json"\npath="/j"\n')
    async with Destination() as hook:
        hook.behaviour = 503
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"')
        await daemon.start()
        assert (await daemon.post(b'{"id":"0","event_type":"a"}', path="/j"))[0] == 202
        before = daemon.memory_kib()
        for first in range(0, 100_000, 20_000):
            lines = (b'{"id":"%d","event_type":"t%d"}' % (n, n) for n in range(first, first + 20_000))
            assert (await daemon.post(b"\n".join(lines), path="/j"))[0] == 202
        assert daemon.memory_kib() - before < (16 + MORE_MB) * 1024
        await daemon.kill()
