"""Heap's limits per identity, at a real daemon."""

from collections import Counter
from typing import Any

import orjson

from relay.testing import Destination

HOT, OTHERS = 1100, 150


def body_of(users: list[str], start: int) -> bytes:
    events = [
        {
            "event_type": "users.behaviors.CustomEvent",
            "id": f"heap-api-{start + number}",
            "time": 1_790_000_000 + start + number,
            "user": {"external_user_id": user},
            "properties": {"name": "tapped"},
        }
        for number, user in enumerate(users)
    ]
    return orjson.dumps({"events": events})


async def test_one_hot_identity_does_not_hold_up_the_rest(daemon: Any) -> None:
    async with Destination() as heap:
        daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
        daemon.configure(
            "20-heap", f'[connector.heap]\ntype="heap"\nmode="api"\napp_id="1"\nendpoint="{heap.url}"\nrate=0'
        )
        await daemon.start()
        assert (await daemon.post(body_of(["hot"] * HOT, 0)))[0] == 202
        assert (await daemon.post(body_of([f"user-{n}" for n in range(OTHERS)], HOT)))[0] == 202
        await heap.received(1000 + OTHERS, timeout=20)
        books = await daemon.until(
            lambda: daemon.ledger()["heap"], lambda books: books.counts.delivered == 1000 + OTHERS
        )
        assert books.pending == HOT - 1000
        by_user = Counter(event["identity"] for event in heap.events())
        assert by_user["hot"] == 1000
        assert len(by_user) == 1 + OTHERS
        assert await daemon.stop() == 0
