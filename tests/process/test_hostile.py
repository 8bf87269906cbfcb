"""What senders must not be able to do to relay."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.client import Client
from relay.testing import make_event
from tests.daemon import Daemon
from tests.deep import TOO_MANY_LEVELS

MIB = 1 << 20


@pytest.fixture
async def relay(daemon: Daemon, tmp_path: Path) -> Any:
    (tmp_path / "token").write_text("right")
    daemon.configure(
        "10-all",
        f'[source.braze]\ntype="currents"\npath="/currents"\ntokens=[{{ file="{tmp_path / "token"}" }}]\n'
        '[connector.file]\ntype="file"\npath="out.ndjson"\n',
    )
    await daemon.start()
    return daemon


async def post(relay: Daemon, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    return await relay.post(body, **{"Authorization": "Bearer right", **headers})


def lines(relay: Daemon) -> list[bytes]:
    return (relay.state / "out.ndjson").read_bytes().splitlines()


async def still_healthy(relay: Daemon) -> None:
    """The next good event is accepted and delivered, and it is the only one that is."""
    event = make_event()
    assert await post(relay, b'{"events":[%s]}' % event) == (202, {"accepted": 1, "parked": 0, "duplicates": 0})
    await relay.settled("file", 1)
    assert lines(relay) == [event]
    assert await relay.stop() == 0


async def big(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // MIB):
        yield b" " * MIB


@pytest.mark.promise(5)
async def test_a_wrong_token_is_401_whatever_the_body(relay: Daemon) -> None:
    for shown in ("Bearer wrong", "", "Basic x"):
        for body in (b"", b'{"events":[]}', b"nonsense"):
            status, problem = await post(relay, body, Authorization=shown)
            assert (status, problem["status"]) == (401, 401), (shown, body)
            assert "right" not in str(problem)


@pytest.mark.promise(5)
async def test_what_is_no_currents_body_is_400_with_a_reason(relay: Daemon) -> None:
    deep = b'{"a":' * TOO_MANY_LEVELS + b"1" + b"}" * TOO_MANY_LEVELS
    for body, said in (
        (b"{", "not JSON"),
        (b"events", "not JSON"),
        (b'{"events":[{"event_type":"x","id":"\xff"}', "not JSON"),
        (b'{"events":' + b"[" * TOO_MANY_LEVELS + b"]" * TOO_MANY_LEVELS + b"}", "nested too deep"),
        (b'{"events":[{"event_type":"x","id":"1","p":%s}]}' % deep, "nested"),
        (b'{"events":{}}', "events"),
        (b'{"event":[]}', "event_type"),
        (b"[]", "neither"),
    ):
        status, problem = await post(relay, body)
        assert (status, said in problem["detail"]) == (400, True), (body[:100], problem)
    await still_healthy(relay)


@pytest.mark.long  # quicker: the gzip bomb, and tests/unit/ingest
async def test_a_body_of_200_mb_is_413_whether_announced_or_not(relay: Daemon) -> None:
    before = relay.memory_kib()
    assert (await post(relay, big(200 * MIB)))[0] == 413
    assert (await post(relay, b" " * 200 * MIB))[0] == 413
    assert relay.memory_kib() - before < 60 * 1024
    await still_healthy(relay)


@pytest.mark.promise(8)
async def test_a_gzip_bomb_is_413_and_costs_no_memory(relay: Daemon) -> None:
    bomb = gzip.compress(b" " * 200 * MIB, 9, mtime=0)
    before = relay.memory_kib()
    assert len(bomb) < MIB
    for _ in range(3):
        assert (await post(relay, bomb, Content_Encoding="gzip"))[0] == 413
    assert relay.memory_kib() - before < 60 * 1024
    await still_healthy(relay)


async def test_compressed_bodies(relay: Daemon) -> None:
    for body, encoding, expected in (
        (gzip.compress(b'{"events":[]}', mtime=0), "gzip", 200),
        (gzip.compress(b'{"even', mtime=0) + gzip.compress(b'ts":[]}', mtime=0), "gzip", 200),
        (gzip.compress(b'{"events":[]}', mtime=0)[:-9], "gzip", 400),
        (gzip.compress(b"", mtime=0) * 9_000 + gzip.compress(b'{"events":[]}', mtime=0), "gzip", 200),
        (gzip.compress(b"", mtime=0) * 300_000, "gzip", 400),
        (b"not gzip at all", "gzip", 400),
        (b'{"events":[]}', "br", 415),
    ):
        status, said = await post(relay, body, Content_Encoding=encoding)
        assert status == expected, (body[:100], encoding, said)


@pytest.mark.promise(5)
async def test_one_bad_event_among_99_good_ones_is_parked_with_its_reason(relay: Daemon) -> None:
    events = [make_event() for _ in range(99)]
    bad = b'{"event_type":"users.messages.email.Open","id":17,"time":1}'
    body = b'{"events":[' + b",".join([*events[:50], bad, *events[50:]]) + b"]}"
    assert await post(relay, body) == (202, {"accepted": 99, "parked": 1, "duplicates": 0})
    await relay.settled("file", 99)
    assert lines(relay) == events
    (parked,) = relay.parked()
    assert (parked.source, parked.connector, parked.cause, parked.body) == ("braze", None, "unreadable", bad)
    assert "entry 51" in parked.reason
    assert "`$.id`" in parked.reason


async def slowest_answer(relay: Daemon, until: asyncio.Task[Any]) -> float:
    """The most seconds that /healthz took while a task was under way."""
    slowest = 0.0
    async with aiohttp.ClientSession() as session:
        while not until.done():
            began = time.monotonic()
            async with session.get(relay.url + "/healthz") as answer:
                assert answer.status == 200
            slowest = max(slowest, time.monotonic() - began)
    return slowest


FLOODS = {
    "entries that are no events": (b'{"events":[' + b"{}," * (2_790_000) + b"{}]}", 400),
    "numbers": (b'{"events":[' + b"0," * 4_000_000 + b"0]}", 400),
    "brackets": (b'{"events":[' + b"[" * 4_000_000, 400),
    "strings": (b'{"events":[' + b'"",' * 2_700_000 + b'{"id":"1","event_type":"a","x":NaN}]}', 400),
    "events": (b'{"events":[' + b",".join([b'{"id":"1","event_type":"a"}'] * 290_000) + b"]}", 202),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] * (name == "events")) for name in FLOODS])
async def test_a_flood_of_entries_holds_up_nobody_and_takes_little_memory(relay: Daemon, name: str) -> None:
    """Looked at as well: `json` and its blank lines, pages of `heap_segments`, empty gzip members, in their tests."""
    body, expected = FLOODS[name]
    before = relay.peak_kib()
    packed = gzip.compress(body, 1)
    async with asyncio.TaskGroup() as group:
        flood = group.create_task(post(relay, packed, Content_Encoding="gzip"), name="flood")
        slowest = await slowest_answer(relay, flood)
    status, said = flood.result()
    assert status == expected, said
    assert slowest < 5
    assert relay.peak_kib() - before < (200 if expected == 202 else 100) * 1024


@pytest.mark.promise(8)
async def test_what_events_take_besides_their_bytes_counts_as_in_flight(daemon: Daemon) -> None:
    daemon.configure("00-ingest", '[ingest]\nlisten="127.0.0.1:0"\nmax_body="1MiB"\nmax_in_flight="2MiB"')
    daemon.configure("10-all", '[source.braze]\ntype="currents"\npath="/currents"\n')
    await daemon.start()
    small = b'{"id":"1","event_type":"a"}'
    status, problem = await daemon.post(b'{"events":[' + b",".join([small] * 30_000) + b"]}")
    assert (status, "max_in_flight" in problem["detail"]) == (413, True), "it would never fit"
    assert (await daemon.post(b'{"events":[' + b",".join([small] * 3_000) + b"]}"))[0] == 202


async def test_refusals_are_told_in_the_log_once_a_minute_and_kind(relay: Daemon) -> None:
    for _ in range(5):
        await post(relay, b"", Authorization="Bearer wrong")
        await post(relay, b"nonsense")
    await still_healthy(relay)
    told = [(line["source"], line["status"], line["level"]) for line in relay.logged("request refused")]
    assert told == [("braze", 401, "warning"), ("braze", 400, "warning")]


async def test_slow_clients_hold_up_nobody(relay: Daemon) -> None:
    host, port = relay.url.removeprefix("http://").split(":")
    slow = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
    for _, writer in slow:
        writer.write(
            b"POST /currents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\nContent-Length: 1000\r\n\r\n{"
        )
        await writer.drain()
    await still_healthy(relay)
    for _, writer in slow:
        writer.close()


async def test_paths_and_methods_that_do_not_exist(relay: Daemon) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(relay.url + "/currents") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        async with session.post(relay.url + "/curents", data=b"") as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")
        async with session.post(
            relay.url + '/currents?your_app_group_key="Brand A"', data=b"", headers={"Authorization": "bearer right"}
        ) as answer:
            assert answer.status == 200


@pytest.mark.promise(8)
async def test_more_bodies_at_a_time_than_memory_allows_are_told_to_come_again(daemon: Daemon) -> None:
    daemon.configure("00-ingest", '[ingest]\nlisten="127.0.0.1:0"\nmax_body="1MiB"\nmax_in_flight="2MiB"')
    daemon.configure("10-all", '[source.braze]\ntype="currents"\npath="/currents"\n')
    await daemon.start()
    host, port = daemon.url.removeprefix("http://").split(":")
    held = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
    for _, writer in held:
        writer.write(b"POST /currents HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b" " * 900_000)
        await writer.drain()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        answers = [group.create_task(reader.readline()) for reader, _ in held]
        done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        assert [answer.result() for answer in done] == [b"HTTP/1.1 503 Service Unavailable\r\n"]
        for _, writer in held:
            writer.close()
    for _ in range(5):
        assert (await daemon.post(b" " * 900_000 + orjson.dumps({"events": []})))[0] == 200
    assert list((daemon.state / "journal").glob("*.log")) == []


async def test_types_that_senders_invent_are_named_in_status(daemon: Daemon) -> None:
    daemon.configure(
        "10-all",
        '[source.braze]\ntype="currents"\npath="/currents"\n'
        '[connector.messages]\ntype="file"\npath="messages.ndjson"\nevents=["message_engagement"]\n'
        '[connector.known]\ntype="file"\npath="known.ndjson"\nevents=["message_engagement", "!unknown"]\n',
    )
    await daemon.start()
    new = [make_event("users.messages.fax.Send"), *(make_event(f"made.up.{number}") for number in range(200))]
    assert (await daemon.post(b'{"events":[' + b",".join(new) + b"]}"))[0] == 202
    await daemon.settled("messages", 201)
    await daemon.settled("known", 201)
    assert (daemon.state / "messages.ndjson").read_bytes().splitlines() == new[:1]
    assert not (daemon.state / "known.ndjson").exists()
    seen = await asyncio.to_thread(CliRunner().invoke, cli, ["status", "--state", str(daemon.state)])
    assert "braze: 100 event types not in relay's catalogue: users.messages.fax.Send, made.up.0" in seen.output
    assert len(daemon.logged("event type is not in the catalogue")) == 100
    metrics = await asyncio.to_thread(Client(daemon.state / "admin.sock").read, "GET", "/metrics")
    assert b'relay_ingest_unknown_types{source="braze"} 100.0' in metrics
    assert b"made.up" not in metrics
