"""`relay send` posts files of every shape to a running relay."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.testing import Answer, Destination, make_event

EVENTS = [make_event(n=n) for n in range(250)]
LOADED = [orjson.loads(event) for event in EVENTS]


async def send(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "send", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    "text",
    [
        b"\n".join(EVENTS),
        b"[" + b",".join(EVENTS) + b"]",
        b'{"events":[' + b",".join(EVENTS) + b"]}",
        orjson.dumps(LOADED, option=orjson.OPT_INDENT_2),
    ],
    ids=["ndjson", "array", "events", "pretty"],
)
async def test_a_file_of_any_shape_is_sent_in_batches(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "events").write_bytes(text)
    async with Destination() as relay:
        relay.behaviour = Answer(body=b'{"accepted":100,"parked":0}')
        code, out, err = await send(str(tmp_path / "events"), "--url", relay.url + "x?y=1")
        assert (code, out) == (0, "300 accepted, 0 parked as unreadable\n"), err
        assert relay.events() == LOADED
        assert [len(request.bodies()) for request in relay.requests] == [100, 100, 50]


async def test_it_waits_for_a_busy_relay_and_stops_at_a_refusal() -> None:
    async with Destination(503, Answer(status=429, headers={"Retry-After": "0"}), 500) as relay:
        relay.behaviour = Answer(body=b'{"accepted":1,"parked":0}')
        code, out, _ = await send("-", "--url", relay.url, stdin=EVENTS[0])
        assert (code, out) == (0, "1 accepted, 0 parked as unreadable\n")
        relay.behaviour = Answer(status=401, body=b"wrong bearer token")
        code, _, err = await send("-", "--url", relay.url, stdin=EVENTS[0])
        assert code == 1
        assert "401: wrong bearer token" in err


async def test_it_sends_the_token_to_a_real_relay(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("right")
    daemon.configure(
        "10-all", f'[source.braze]\ntype="currents"\npath="/currents"\ntokens=[{{ file="{tmp_path / "token"}" }}]'
    )
    await daemon.start()
    code, out, err = await send(
        "-", "--url", daemon.url + "/currents", stdin=b"\n".join(EVENTS), env={"RELAY_TOKEN": "right"}
    )
    assert (code, out) == (0, "250 accepted, 0 parked as unreadable\n"), err
