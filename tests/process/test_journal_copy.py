"""A relay with data moves to PostgreSQL under load, delivers there, and moves back: as an admin does it."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.postgres import start_shared_server

WINDOW = 200
TABLES = """
[source.braze]
type = "currents"
path = "/currents"
[connector.hook]
type = "http"
url = "{hook}"
window = {window}
retry = {{ first = "10ms", max = "100ms" }}
[connector.late]
type = "http"
url = "{late}"
window = {window}
retry = {{ first = "10ms", max = "100ms" }}
"""
POSTGRES = """
[journal]
backend = "postgres"
dsn = {{ file = "{dsn}" }}
schema = "copy_{number}"
node = "mover"
partitions = 2
lease = "3s"
"""


async def command(*arguments: str | Path) -> tuple[int, str, str]:
    """Give a command as an admin does, in a thread."""
    told = await asyncio.to_thread(CliRunner().invoke, relay, [*map(str, arguments)])
    return told.exit_code, told.stdout, told.stderr


class Sender:
    """Posts events, and knows those that relay has acknowledged."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.acknowledged: list[bytes] = []

    async def post(self) -> None:
        events = [make_event() for _ in range(50)]
        if (await self._daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202:
            self.acknowledged += events

    async def has_more(self) -> None:
        """Wait until relay has acknowledged 500 more events."""
        wanted = len(self.acknowledged) + 500
        await self._daemon.until(lambda: len(self.acknowledged), lambda events: events >= wanted)

    @asynccontextmanager
    async def loads(self) -> AsyncIterator[None]:
        """Post again and again meanwhile."""
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                await self.post()
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            yield
            done.set()


@pytest.mark.long  # quicker: tests/unit/copy
async def test_there_under_load_and_back_sends_nothing_twice(daemon: Daemon, tmp_path: Path) -> None:
    sender, other = Sender(daemon), tmp_path / "conf.postgres"
    (tmp_path / "dsn").write_text(start_shared_server().dsn)
    async with Destination() as hook, Destination() as late:
        late.behaviour = 503
        daemon.configure("10-all", TABLES.format(hook=hook.url, late=late.url, window=WINDOW))
        shutil.copytree(daemon.conf, other)
        (other / "05-journal.toml").write_text(POSTGRES.format(dsn=tmp_path / "dsn", number=uuid4().hex))
        copy = ("journal", "copy", "--state", daemon.state, "--conf", other)

        code, out, error = await command("journal", "init", "--conf", other)
        assert code == 0, (out, error)
        await daemon.start()
        async with sender.loads():
            await sender.has_more()
            for _ in range(2):
                code, out, error = await command(*copy, "--to", "postgres")
                assert (code, "left for the last pass" in out) == (0, True), (out, error)
            code, _, error = await command(*copy, "--to", "postgres", "--last")
            assert (code, "a relay works with" in error) == (1, True), error
        assert await daemon.stop() == 0
        code, out, error = await command(*copy, "--to", "postgres", "--last")
        assert (code, "both sides are the same" in out) == (0, True), (out, error)

        await daemon.launch()
        assert await daemon.ended() != 0
        assert "relay goes on there" in "\n".join(daemon.stderr)
        embedded, daemon.conf = daemon.conf, other
        await daemon.start()
        late.behaviour = 200
        async with sender.loads():
            await sender.has_more()
            code, out, error = await command(*copy, "--to", "embedded")
            assert (code, "left for the last pass" in out) == (0, True), (out, error)
        assert await daemon.stop() == 0
        code, out, error = await command(*copy, "--to", "embedded", "--last")
        assert (code, "both sides are the same" in out) == (0, True), (out, error)

        daemon.conf = embedded
        await daemon.start()
        await sender.post()
        for destination in (hook, late):
            await daemon.until(destination.bodies, lambda sent: {*sent} >= {*sender.acknowledged})
            sent = Counter(destination.bodies())
            assert sum(sent.values()) - len(sent) <= 2 * WINDOW  # two stops
        code, out, error = await command("audit", "--state", daemon.state, "--conf", daemon.conf)
        assert code == 0, (out, error)
        assert await daemon.stop() == 0
