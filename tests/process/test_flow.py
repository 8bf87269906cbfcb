"""From Braze to every destination: what arrives is what was sent, and each connector gets its share."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import pytest

from relay.testing import Destination, make_event
from tests.daemon import Daemon

SOURCE = """
[source.braze]
type = "currents"
path = "/currents"
tokens = [{ env = "OLD" }, { file = "%s" }]
"""
EMAIL = "users.messages.email."


def fresh(sample: dict[str, Any], number: int) -> dict[str, Any]:
    return sample | {"id": str(uuid4()), "time": int(time.time()) + number}


def types_of(bodies: list[bytes]) -> set[str]:
    return {orjson.loads(body)["event_type"] for body in bodies}


@pytest.mark.promise(4)
async def test_all_samples_reach_each_connector_that_wants_them_byte_for_byte(
    daemon: Daemon, samples: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("new-token\n")
    monkeypatch.setenv("OLD", "old-token")
    daemon.configure("10-source", SOURCE % (tmp_path / "token"))
    events = [fresh(sample, number) for number, sample in enumerate(samples)]
    bodies = [json.dumps(event, indent=2 if number % 2 else None).encode() for number, event in enumerate(events)]
    by_type = {event["event_type"]: body for event, body in zip(events, bodies, strict=True)}
    async with Destination() as hook, Destination() as masked:
        daemon.configure(
            "20-hook", f'[connector.hook]\ntype="heap"\nendpoint="{hook.url}"\nevents=["message_engagement"]'
        )
        daemon.configure("30-file", '[connector.file]\ntype="file"\npath="out.ndjson"\nevents=["*", "!email"]')
        daemon.configure("40-out", '[connector.out]\ntype="stdout"\nevents=["customer_behavior"]')
        daemon.configure(
            "50-masked",
            f'[connector.masked]\ntype="http"\nurl="{masked.url}"\nevents=["email"]\nfilters=["mask"]\n'
            '[filter.mask]\ntype="redact"\nfields=["properties.email_address"]\naction="mask"',
        )
        await daemon.start()
        body = b'{"events": [' + b" ,\n".join(bodies) + b"]}"
        assert await daemon.post(body, Authorization="Bearer new-token") == (
            202,
            {"accepted": len(events), "parked": 0, "duplicates": 0},
        )
        assert (await daemon.post(body, Authorization="Bearer stolen"))[0] == 401
        assert (await daemon.post(b"", Authorization="Bearer old-token")) == (
            200,
            {"accepted": 0, "parked": 0, "duplicates": 0},
        )
        for connector in ("hook", "file", "out", "masked"):
            await daemon.settled(connector, len(events))
        assert await daemon.stop() == 0

        assert sorted(hook.bodies()) == sorted(by_type[name] for name in types_of(hook.bodies()))
        behaviours = types_of(daemon.stdout.read_bytes().splitlines())
        assert types_of(hook.bodies()) == by_type.keys() - behaviours
        in_file = (daemon.state / "out.ndjson").read_bytes().splitlines()
        one_line = {name: body.replace(b"\n", b" ") for name, body in by_type.items()}
        assert sorted(in_file) == sorted(line for name, line in one_line.items() if not name.startswith(EMAIL))
        assert sorted(daemon.stdout.read_bytes().splitlines()) == sorted(one_line[name] for name in behaviours)
        assert {"users.behaviors.Purchase", "users.behaviors.CustomEvent"} <= behaviours
        assert types_of(masked.bodies()) == {name for name in by_type if name.startswith(EMAIL)}
        _assert_masked(masked.events(), {event["id"]: event for event in events})
        await _assert_books(daemon, len(events))


def _assert_masked(received: list[dict[str, Any]], sent: dict[str, dict[str, Any]]) -> None:
    masks = 0
    for event in received:
        original = sent[event["id"]]
        if "email_address" in original["properties"]:
            assert event["properties"].pop("email_address") == "[REDACTED]"
            original = original | {"properties": dict(original["properties"])}
            del original["properties"]["email_address"]
            masks += 1
        assert event == original
    assert masks > 3


async def _assert_books(daemon: Daemon, accepted: int) -> None:
    for connector, books in daemon.ledger().items():
        counts = books.counts
        assert books.accepted == accepted
        assert books.pending == 0
        assert counts.delivered + counts.unselected == accepted, connector
        assert counts.delivered > 0


async def test_each_connector_goes_on_where_it_was_after_a_restart(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.shop]\ntype="json"\npath="/shop"\ntype_field="name"\nid_field="uuid"')
    async with Destination() as hook:
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\nevents=["order"]\nbody="ndjson"')
        await daemon.start()
        assert (await daemon.post(b'{"name":"order","uuid":1}\n{"name":"visit","uuid":2}', "/shop"))[0] == 202
        await daemon.settled("hook", 2)
        assert await daemon.stop() == 0
        await daemon.start()
        assert (await daemon.post(b'[{"name":"order","uuid":3}]', "/shop"))[0] == 202
        books = await daemon.settled("hook", 3)
        assert await daemon.stop() == 0
        assert hook.bodies() == [b'{"name":"order","uuid":1}', b'{"name":"order","uuid":3}']
        assert (books.counts.delivered, books.counts.unselected) == (2, 1)
        assert daemon.list_complaints() == []


async def test_a_ten_line_plugin_works_and_a_broken_one_beside_it_stops_nothing(daemon: Daemon) -> None:
    page = (Path(__file__).parents[2] / "docs/plugins/connector.md").read_text()
    (daemon.plugins / "chat.py").write_text(page.split("```python\n")[1].split("```")[0])
    (daemon.plugins / "broken.py").write_text("import nonsense_that_is_not_there\n")
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    async with Destination() as chat:
        daemon.configure("20-chat", f'[connector.chat]\ntype="chat"\nurl="{chat.url}"\nevents=["email"]')
        await daemon.start()
        event = make_event("users.messages.email.Click")
        assert (await daemon.post(b'{"events":[%s,%s]}' % (event, make_event("users.canvas.Entry"))))[0] == 202
        await daemon.settled("chat", 2)
        assert await daemon.stop() == 0
        assert [orjson.loads(request.body) for request in chat.requests] == [{"text": "users.messages.email.Click"}]


async def test_warnings_of_the_configuration_are_lines_of_the_log(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    await daemon.start()
    assert await daemon.stop() == 0
    told = [line["message"] for line in daemon.logs if line["level"] == "warning"]
    assert any(one.startswith("configuration: 10-source.toml:1: source.braze: has no `tokens`") for one in told)
    assert all(line.startswith("{") for line in daemon.stderr), daemon.stderr


async def test_no_listener_tells_versions(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    daemon.configure(
        "20-listen", '[metrics]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\ntokens = [{ env = "PATH" }]'
    )
    await daemon.start()
    (runs,) = daemon.logged("relay runs")
    found = []
    async with aiohttp.ClientSession() as session:
        admin, metrics = runs["admin"][1], runs["metrics"][0]
        for url in (f"{daemon.url}/healthz", f"{daemon.url}/no", f"{metrics}/metrics", f"{admin}/status"):
            async with session.get(url) as answer:
                found.append((answer.status, answer.headers.get("Server")))
    assert found == [(200, "relay"), (404, "relay"), (200, "relay"), (401, "relay")]


@pytest.mark.promise(7)
async def test_a_bad_configuration_or_a_taken_port_ends_the_start_with_a_reason(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.braze]\ntype="curents"\npath="/currents"')
    await daemon.launch()
    assert await daemon.ended() == 78
    assert "10-source.toml:2: source.braze.type" in "\n".join(daemon.stderr)
    async with Destination() as other:
        port = other.url.rstrip("/").rsplit(":", 1)[1]
        daemon.configure("00-ingest", f'[ingest]\nlisten = "127.0.0.1:{port}"')
        daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
        await daemon.launch()
        assert await daemon.ended() == 1
    assert daemon.logs[-1]["message"] == (
        f"relay cannot start: 00-ingest.toml:2: ingest.listen: 127.0.0.1:{port}: Address already in use:"
        " another program listens there, `ss -ltnp` names it"
    )
