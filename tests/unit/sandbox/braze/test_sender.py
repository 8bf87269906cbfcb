import asyncio
from collections.abc import Iterable
from random import Random

import pytest

from relay.sandbox.braze.reactions import CurrentsSwitches, Reaction, choose_reaction, compute_backoff
from relay.sandbox.braze.sender import CurrentsSender
from relay.testing import Answer, Destination, Reset

ELSEWHERE = Answer(status=302, headers={"Location": "/elsewhere"})
FAST = {"age": 0.01, "retry_first": 0.001, "retry_max": 0.002}


async def stream(events: Iterable[tuple[str, bytes]]):
    for event in events:
        yield event


def some(number: int, kind: str = "a") -> list[tuple[str, bytes]]:
    return [(kind, b'{"event_type":"%s","id":"%s-%d"}' % (kind.encode(), kind.encode(), i)) for i in range(number)]


def sender(url: str, token: str | None = None, **switches) -> CurrentsSender:
    return CurrentsSender(url, token=token, connections=1, switches=CurrentsSwitches(**FAST | switches))


async def send(destination: Destination, events: Iterable[tuple[str, bytes]], **options) -> CurrentsSender:
    async with sender(destination.url, **options) as braze:
        await braze.send(stream(events))
    return braze


@pytest.mark.parametrize(
    ("status", "size", "refused", "expected"),
    [
        (200, 100, False, Reaction.DONE),
        (202, 1, False, Reaction.DONE),
        (299, 1, True, Reaction.DONE),
        (400, 100, False, Reaction.SINGLES),
        (400, 1, False, Reaction.SINGLES),
        (400, 1, True, Reaction.DROP),
        (413, 100, False, Reaction.HALVES),
        (413, 2, False, Reaction.HALVES),
        (413, 1, False, Reaction.DROP),
        (401, 1, False, Reaction.WRONG),
        (403, 1, False, Reaction.WRONG),
        (404, 1, False, Reaction.WRONG),
        (429, 1, False, Reaction.WAIT),
        (500, 1, False, Reaction.WAIT),
        (503, 1, True, Reaction.WAIT),
        (302, 1, False, Reaction.WAIT),
        (418, 1, False, Reaction.WAIT),
        (None, 1, False, Reaction.WAIT),
    ],
)
def test_what_follows_an_answer(status, size, refused, expected):
    assert choose_reaction(status, size, refused=refused) is expected


@pytest.mark.parametrize(
    ("script", "accepted", "dropped", "retried", "requests"),
    [
        ([], 4, 0, 0, 1),
        ([400], 4, 0, 4, 5),
        ([400, 400, 200, 200, 400], 2, 2, 4, 5),
        ([413], 4, 0, 4, 3),
        ([413, 413, 413, 413], 3, 1, 8, 7),
        ([503, 429, 418, ELSEWHERE], 4, 0, 16, 5),
        ([Reset()], 4, 0, 4, 2),
        ([Reset(after_body=True)], 4, 0, 4, 2),
    ],
)
async def test_statuses_lead_to_what_braze_documents(script, accepted, dropped, retried, requests):
    async with Destination(*script) as destination:
        counts = (await send(destination, some(4))).counts
    assert (counts.sent, counts.accepted, counts.dropped, counts.retried) == (4, accepted, dropped, retried)
    assert len(destination.requests) == requests
    assert len(set(destination.bodies())) == accepted


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_wrong_credentials_or_address_stop_the_current(status):
    async with Destination(200, status) as destination:
        braze = await send(destination, some(500))
    assert braze.stopped == f"HTTP {status}"
    assert braze.counts.accepted == 100
    assert len(destination.requests) == 2


async def test_an_answer_that_comes_too_late_sends_the_batch_again():
    async with Destination(Answer(hang=True)) as destination:
        braze = await send(destination, some(3), timeout=0.05)
        await destination.received(6)
    assert braze.counts.accepted == 3
    assert len(set(destination.bodies())) == 3


async def test_each_type_has_its_own_batches_of_at_most_a_hundred():
    mixed = [event for pair in zip(some(250, "a"), some(250, "b"), strict=True) for event in pair]
    async with Destination() as destination:
        await send(destination, mixed, age=60)
    sizes = [
        (len(request.bodies()), len(request.body.split(b'"event_type":"a"')) - 1) for request in destination.requests
    ]
    assert sorted(sizes) == [(50, 0), (50, 50), (100, 0), (100, 0), (100, 100), (100, 100)]
    assert sorted(destination.bodies()) == sorted(body for _, body in mixed)


async def test_a_batch_that_does_not_fill_goes_out_by_age():
    async with Destination() as destination:

        async def slow():
            yield some(1)[0]
            await destination.received(1)

        async with sender(destination.url) as braze:
            await braze.send(slow())
    assert braze.counts.accepted == 1


async def test_requests_look_like_those_of_braze():
    async with Destination() as destination:
        url = destination.url + "currents?your_app_group_key=%22Brand%20A%22"
        async with sender(url, token="t0k") as braze:
            assert await braze.probe() == [200, 200]
            await braze.send(stream(some(1)))
    empty, none, one = destination.requests
    assert (empty.body, none.body, one.body) == (b"", b'{"events":[]}', b'{"events":[%s]}' % some(1)[0][1])
    for request in destination.requests:
        assert (request.method, request.target) == ("POST", "/currents?your_app_group_key=%22Brand%20A%22")
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["Braze-Currents-Version"] == "1"
        assert request.headers["Authorization"] == "Bearer t0k"


async def test_without_a_token_there_is_no_authorization():
    async with Destination() as destination:
        await send(destination, some(1))
    assert "Authorization" not in destination.requests[0].headers


def test_waits_grow_up_to_a_limit_with_jitter():
    rng = Random(1)
    for attempt, longest in [(1, 1), (2, 2), (5, 16), (9, 60), (10_000, 60)]:
        waits = [compute_backoff(attempt, 1, 60, rng) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


async def test_a_sender_that_hangs_up_sends_again_until_it_gets_an_answer():
    async with Destination() as destination, sender(destination.url, hang_up=1) as braze, asyncio.TaskGroup() as group:
        sending = group.create_task(braze.send(stream(some(3))), name="send")
        await destination.requested(3)
        braze.switches = braze.switches.replace(hang_up=0)
        await sending
    assert braze.counts.accepted == 3
    assert len(set(destination.bodies())) == 3
    assert destination.requests[0].bodies() == destination.requests[-1].bodies()
    assert braze.counts.retried >= 9


async def test_probes_with_a_token_that_is_not_the_currents():
    async with Destination() as destination, sender(destination.url, "right") as braze:
        await braze.probe("wrong")
    assert {request.headers["Authorization"] for request in destination.requests} == {"Bearer wrong"}


async def test_several_connections_are_used_at_a_time():
    hanging = [Answer(hang=True)] * 4
    async with (
        Destination(*hanging) as destination,
        CurrentsSender(destination.url) as braze,
        asyncio.TaskGroup() as group,
    ):
        sending = group.create_task(braze.send(stream(some(500))), name="send")
        await destination.requested(4)
        destination.release()
        await sending
    assert braze.counts.accepted == 500


async def test_time_that_is_put_forward_sends_what_was_to_wait_five_minutes():
    async with Destination() as destination, CurrentsSender(destination.url) as braze, asyncio.TaskGroup() as group:
        work = group.create_task(braze.run(), name="run")
        await braze.feed(stream(some(2)))
        assert not destination.requests
        braze.clock.forward(300)
        await destination.received(2)
        work.cancel()


async def test_a_stopped_current_goes_on_when_it_is_enabled():
    async with Destination(200, 401) as destination, sender(destination.url) as braze:
        await braze.send(stream(some(300)))
        assert (braze.stopped, braze.counts.dropped) == ("HTTP 401", 100)
        braze.enable()
        await braze.send()
    assert (braze.stopped, braze.counts.accepted) == (None, 200)
