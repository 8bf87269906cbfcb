"""Senders and Prometheus reach an IPv6 wildcard over IPv4."""

import json

import aiohttp
import pytest

from relay.testing import make_event
from tests.daemon import Daemon
from tests.unit.listen.test_listeners import has_ipv6

TABLES = """
[source.here]
type = "json"
path = "/here"
allow = ["127.0.0.1"]
[source.elsewhere]
type = "json"
path = "/elsewhere"
allow = ["10.0.0.0/8"]
[connector.archive]
type = "file"
path = "a.ndjson"
[metrics]
listen = "[::]:0"
"""


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
async def test_senders_and_prometheus_come_over_ipv4(daemon: Daemon) -> None:
    daemon.configure("00-ingest", '[ingest]\nlisten = "[::]:0"')
    daemon.configure("10", TABLES)
    await daemon.start()
    (told,) = daemon.logged("relay runs")
    port, metrics = (url.rpartition(":")[2] for url in (told["listen"][0], told["metrics"][0]))
    daemon.url = f"http://127.0.0.1:{port}"
    event = json.dumps([json.loads(make_event())]).encode()
    assert (await daemon.post(event, "/here"))[0] == 202
    assert (await daemon.post(event, "/elsewhere"))[0] == 403
    (refused,) = await daemon.until(lambda: daemon.logged("request refused"), bool)
    assert refused["client"] == "127.0.0.1"
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{metrics}/metrics") as answer:
        assert answer.status == 200
