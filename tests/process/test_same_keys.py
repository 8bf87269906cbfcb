"""kill -9 while batches are on their way: what goes out again goes out in the same bodies, under the same keys."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AsyncExitStack

import aiohttp
import orjson
import pytest

from relay.testing import Answer, Destination, make_event
from relay.testing.destination import Received
from tests.conftest import LONG
from tests.daemon import Daemon

KILLS = 8 if LONG else 2
SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"'
CONNECTOR = '[connector.{name}]\ntype = "http"\nurl = "{url}"\n{settings}'
TYPES = ["users.messages.email.Open", "users.behaviors.Purchase"]
WAYS = {
    "plain": "concurrency = 8",
    "selected": 'events = ["email"]\nbatch = { age = "20ms" }',
    "ordered": 'order_by = "user.user_id"\nbatch = { events = 20 }',
    "grouped": 'batch = { align = "100ms", group_by = ["type", "hour"] }',
    "split": 'filters = ["thrice"]\nbatch = { events = 7 }',
    "singly": 'order_by = "user.user_id"\nafter_parked = "park"',
}
THRICE = """
from relay.api import Filter

class Thrice(Filter, type="thrice"):
    def apply(self, event):
        return [event] * 3
"""


async def send(daemon: Daemon, chance: random.Random) -> None:
    """Post requests of some events at odd times until the daemon is gone."""
    async with aiohttp.ClientSession() as session:
        while True:
            users = [{"user_id": f"u{chance.randint(1, 9)}"} for _ in range(chance.randint(1, 12))]
            events = [make_event(chance.choice(TYPES), user=user) for user in users]
            try:
                async with session.post(daemon.url + "/currents", data=b'{"events":[%s]}' % b",".join(events)):
                    await asyncio.sleep(chance.choice([0, 0.001, 0.01, 0.03]))
            except aiohttp.ClientError:
                return


def check_keys(requests: Iterable[Received]) -> int:
    """Each key has one body, and each event one key. Return how many requests came again."""
    bodies, keys = defaultdict[str, set[bytes]](set), defaultdict[str, set[str]](set)
    again = 0
    for request in requests:
        key = request.headers["Idempotency-Key"]
        again += key in bodies
        bodies[key].add(request.body)
        for body in request.bodies():
            keys[orjson.loads(body)["id"]].add(key)
    assert {key: len(seen) for key, seen in bodies.items() if len(seen) > 1} == {}
    assert {event: seen for event, seen in keys.items() if len(seen) > 1} == {}
    return again


@pytest.mark.promise(6)
async def test_after_kill_9_the_same_events_go_out_under_the_same_keys(daemon: Daemon) -> None:
    """Looked at as well: selections, orders, aligned batches, groups, parts of events and their ids. Several workers
    each have a folder of their own, as one has."""
    chance, hooks = random.Random(7), {way: Destination() for way in WAYS}
    (daemon.plugins / "thrice.py").write_text(THRICE)
    daemon.configure("10-source", f'{SOURCE}\n[filter.thrice]\ntype = "thrice"\n')
    async with AsyncExitStack() as stack:
        for way, hook in hooks.items():
            await stack.enter_async_context(hook)
            hook.behaviour = Answer(delay=0.03)
            daemon.configure(f"20-{way}", CONNECTOR.format(name=way, url=hook.url, settings=WAYS[way]))
        for _ in range(KILLS):
            wanted = {way: len(hook.requests) + chance.randint(3, 20) for way, hook in hooks.items()}
            await daemon.start()
            async with asyncio.TaskGroup() as group:
                for sender in range(2):
                    group.create_task(send(daemon, chance), name=f"sender {sender}")
                for way, hook in hooks.items():
                    await hook.requested(wanted[way])
                await daemon.kill()
        await daemon.start()
        for way in hooks:
            await daemon.settled(way, daemon.ledger()[way].accepted)
        assert await daemon.stop() == 0
    assert sum(check_keys(hook.requests) for hook in hooks.values()) > 0
