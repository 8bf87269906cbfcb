import time

import pytest

from relay.testing import make_batch, make_event


def test_events_are_whole_and_unique():
    batch = make_batch([make_event(url="https://a"), make_event("users.behaviors.Purchase", user={}, price=1.5)])
    opened, bought = batch
    assert (opened.type, bought.type) == ("users.messages.email.Open", "users.behaviors.Purchase")
    assert opened.source == "braze"
    assert opened.id != bought.id
    assert abs(opened.time - time.time()) < 60
    assert (opened.user["external_user_id"], bought.user) == ("customer-1", {})
    assert (opened.properties, bought.properties) == ({"url": "https://a"}, {"price": 1.5})


def test_a_batch_keeps_the_bytes():
    bodies = [b'{ "event_type" : "a", "id": "1" }', b'{"event_type":"b"}', b'{"event_type":"a"}']
    batch = make_batch(bodies, source="mine")
    assert batch.bodies() == bodies
    assert [event.kind.type for event in batch] == ["a", "b", "a"]
    assert len(batch.blocks[0].kinds) == 2


@pytest.mark.parametrize("body", [b"[]", b"{}", b"{"])
def test_what_is_no_event_is_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        make_batch([body])
