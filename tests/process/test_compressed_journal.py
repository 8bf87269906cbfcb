"""A daemon that compresses its journal: reloads change the form of new events, and every command reads all of them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.testing import Destination, make_event
from tests.daemon import Daemon

TABLES = """
[runtime]
drain = "1s"
[journal]
compress = "%s"
[source.braze]
type = "currents"
path = "/currents"
[connector.hook]
type = "http"
url = "%s"
"""


async def command(*arguments: object) -> str:
    """Run a command that must succeed, in a thread; return what the command says."""
    answer = await asyncio.to_thread(CliRunner().invoke, relay, [*map(str, arguments)])
    assert answer.exit_code == 0, answer.output
    return answer.output


async def dump(state: Path, *options: object) -> list[Any]:
    lines = await command("journal", "dump", "--state", state, *options)
    return [json.loads(line)["event"] for line in lines.splitlines()]


@pytest.mark.promise(1)
@pytest.mark.long  # quicker: test_faults, and test_power_cut and test_compression in tests/unit/journal
async def test_events_survive_kills_and_changes_of_compression(daemon: Daemon, tmp_path: Path) -> None:
    sent = [make_event(n=n) for n in range(400)]
    state, conf = ("--state", daemon.state), ("--conf", daemon.conf)
    async with Destination() as hook:
        daemon.configure("10-all", TABLES % ("zstd", hook.url))
        await daemon.start()
        for compress, first in zip(("none", "zstd", "none", "zstd"), range(0, 400, 100), strict=True):
            status, _ = await daemon.post(b'{"events":[%s]}' % b",".join(sent[first : first + 100]))
            assert status == 202
            daemon.configure("10-all", TABLES % (compress, hook.url))
            assert "journal.compress: changed" in await command("reload", *state)
        await daemon.settled("hook", 400)
        await daemon.kill()
        (segment,) = (daemon.state / "journal").glob("*.log")
        data = segment.read_bytes().rstrip(b"\0")
        assert [event in data for event in sent] == ([False] * 100 + [True] * 100) * 2
        await daemon.start()
        await command("replay", "--connector", "hook", "--yes", *state, *conf)
        assert sorted(hook.bodies()) == sorted(sent * 2)
        assert await dump(daemon.state, *conf) == [json.loads(event) for event in sent]
        assert "offset 250" in await command("trace", json.loads(sent[250])["id"], *state)
        await command("audit", *state)
        assert await daemon.stop() == 0
        await command("backup", tmp_path / "backup", *state, *conf)
        await command("restore", tmp_path / "backup", "--state", tmp_path / "restored", *conf)
        await command("audit", "--state", tmp_path / "restored")
        await command("journal", "check", "--state", tmp_path / "restored", *conf)


async def test_a_relay_without_zstd_says_what_to_install_and_loses_nothing(daemon: Daemon) -> None:
    sent = [make_event(n=n) for n in range(100)]
    hides_zstd = daemon.plugins / "hides_zstd.py"
    async with Destination() as hook:
        hook.behaviour = 503
        daemon.configure("10-all", TABLES % ("zstd", hook.url))
        await daemon.start()
        assert (await daemon.post(b'{"events":[%s]}' % b",".join(sent)))[0] == 202
        await daemon.stop()

        hides_zstd.write_text("import sys\nsys.modules['backports'] = sys.modules['compression'] = None\n")
        hook.behaviour = 200
        daemon.configure("10-all", TABLES % ("none", hook.url))
        await daemon.start()
        await daemon.until(lambda: daemon.logged("lane failed, starts again"), bool)
        told = await asyncio.to_thread(CliRunner().invoke, relay, ["status", "--state", str(daemon.state)])
        assert "compressed events cannot be read: zstd is not installed: install currents-relay[zstd]" in told.output
        assert daemon.ledger()["hook"].pending == 100
        assert daemon.logged("events of the journal cannot be read") == []
        await daemon.stop()

        hides_zstd.unlink()
        await daemon.start()
        await daemon.settled("hook", 100)
        assert await daemon.stop() == 0
