"""Events and batches as a lane would hand them over, and messages of alerts."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import orjson

from relay.api import Alarm, Batch, Block, Event, Kind, Message


def make_event(
    type: str = "users.messages.email.Open", *, user: dict[str, Any] | None = None, **properties: Any
) -> bytes:
    """Return the bytes of an event in the form of Braze, with a random id, the time of now and the given properties.

    `user`: the object `user` of the event; None: a user with a `user_id` and the `external_user_id` `customer-1`.
    """
    if user is None:
        user = {"user_id": "639a35d192b0df004d06514c", "external_user_id": "customer-1"}
    event = {"event_type": type, "id": str(uuid4()), "time": int(time.time()), "user": user, "properties": properties}
    return orjson.dumps(event)


def make_batch(bodies: Sequence[bytes], *, source: str = "braze") -> Batch:
    """Return a batch of one or more events, as if `source` had just accepted them.

    A body is the bytes of a JSON object: those of `make_event`, or your own. Its field `event_type` is the type, `id`
    the id and `time` the time. Raises ValueError if a body is not a JSON object with `event_type`.
    """
    now = time.time()
    kinds = {name: Kind(source, name) for name in map(_read_type, bodies)}
    return Batch([Block.of([Event(body, kinds[_read_type(body)], offset, now) for offset, body in enumerate(bodies)])])


def _read_type(body: bytes) -> str:
    event = orjson.loads(body)
    if not isinstance(event, dict) or "event_type" not in event:
        raise ValueError(f'expected an object with "event_type", got {body[:80]!r}')
    return str(event["event_type"])


def make_message(*alarms: Alarm, test: bool = False) -> Message:
    """Return a message with these alarms. Without alarms, it says that the connector `heap` is failing.

    `test`: whether the message is a test, as `relay alerts test` sends it.
    """
    now = time.time()
    said = "heap: failing since 12:00 UTC: HTTP 503; 12 pending; tried again in 4s; the destination has to recover"
    usual = Alarm(kind="failing", subject="connector heap", state="began", sentence=said, since=now - 300)
    return Message(id=uuid4().hex, at=now, relay="relay", host="host-1", alarms=alarms or (usual,), test=test)
