"""Heap's Segments Sync webhook at a real daemon."""

import base64
import hmac
import time
from pathlib import Path
from typing import Any

import orjson

from relay.testing import Destination

SECRET = "whispered"


def body_of(task: str, users: int) -> bytes:
    data = {
        "segment": {"id": 42, "name": "Lost carts"},
        "sync_info": {"page_number": 1, "total_pages": 1, "sync_task_id": task},
        "add": [{"id": f"user-{n}"} for n in range(users)],
        "remove": [],
    }
    return orjson.dumps({"action_type": "segment.users.sync", "data": data})


def signed(body: bytes, secret: str = SECRET, *, age: float = 0.0) -> dict[str, str]:
    stamp = round((time.time() - age) * 1000)
    digest = hmac.digest(secret.encode(), str(stamp).encode() + body, "sha256")
    return {"Heap_Hash": f"ts:{stamp},hmac:{base64.b64encode(digest).decode()}"}


async def test_a_signed_page_is_delivered_once_and_forged_stale_and_malformed_ones_are_refused(
    daemon: Any, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    async with Destination() as hook:
        daemon.configure(
            "10-source",
            f'[source.heap]\ntype="heap_segments"\npath="/segments"\nsecret={{file="{tmp_path}/secret"}}',
        )
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\nbody="single"')
        await daemon.start()
        page = body_of("t1", 1500)
        assert (await daemon.post(page, "/segments", **signed(page)))[0] == 200
        assert (await daemon.post(page, "/segments", **signed(page)))[1]["duplicates"] == 2
        assert (await daemon.post(page, "/segments", **signed(page, "guessed")))[0] == 401
        assert (await daemon.post(page + b" ", "/segments", **signed(page)))[0] == 401
        assert (await daemon.post(page, "/segments", **signed(page, age=70)))[0] == 401
        assert (await daemon.post(page, "/segments", **signed(page, age=-10)))[0] == 401
        assert (await daemon.post(page, "/segments"))[0] == 401
        for malformed in ("ts:soon", "ts:1,hmac:!", f"ts:{'9' * 500},hmac:aGk=", ""):
            assert (await daemon.post(page, "/segments", Heap_Hash=malformed))[0] == 400
        await daemon.settled("hook", 2)
        changes = [orjson.loads(request.body) for request in hook.requests]
        assert sum(len(change["add"]) for change in changes) == 1500
        assert {change["cohort"]["name"] for change in changes} == {"Lost carts"}
        assert await daemon.stop() == 0
