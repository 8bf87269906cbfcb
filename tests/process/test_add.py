"""`relay add` makes a configuration that a real daemon runs with."""

import asyncio
from pathlib import Path

from click.testing import CliRunner

from relay.cli.main import relay
from relay.testing import Destination
from tests.daemon import Daemon
from tests.unit.cli.test_add import add


async def test_an_export_to_heap_is_set_up_without_an_editor(daemon: Daemon, tmp_path: Path) -> None:
    """From an empty folder to a delivered sample, with commands alone."""
    async with Destination() as heap:
        token = f"file:{tmp_path / 'token'}"
        steps = [
            ["source", "currents", "--name", "braze", "--path", "/currents", "--make-token", "--token-from", token],
            ["filter", "redact", "--name", "no_emails", "--fields", "properties.email_address"],
            ["connector", "heap", "--endpoint", heap.url, "--filters", "no_emails", "--events", "message_engagement"],
        ]
        for step in steps:
            assert add(*step, "--conf", daemon.conf).exit_code == 0
        await daemon.start()
        words = ["send", "--sample", "users.messages.email.Open", "--url", f"{daemon.url}/currents"]
        env = {"RELAY_TOKEN": (tmp_path / "token").read_text().strip()}
        answer = await asyncio.to_thread(CliRunner().invoke, relay, words, env=env)
        assert answer.output.endswith("1 accepted, 0 parked as unreadable\n")
        await heap.received(1, timeout=30)
        (event,) = heap.events()
        assert event["event_type"] == "users.messages.email.Open"
        assert f"sent {event['id']}, see relay trace {event['id']}" in answer.output
