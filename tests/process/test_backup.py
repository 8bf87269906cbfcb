"""A backup of a relay under load, killed on its way, made again, and restored elsewhere."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.journal.identity import read_identity
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.forks import Forks

TABLES = """
[journal]
max_size = "32MiB"
[source.braze]
type = "currents"
path = "/currents"
[connector.hook]
type = "http"
url = "%s"
retry = { first = "10ms", max = "50ms" }
[connector.slow]
type = "http"
url = "%s"
concurrency = 1
window = 500
"""
KILLED = """
import os, signal, relay.inspect.backup as it
put, left = it.put_in_place, 3
def put_in_place(fresh, path):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    put(fresh, path)
it.put_in_place = put_in_place
"""
"""Python that has a command kill itself on its way."""


async def command(*arguments: str) -> tuple[int, str, str]:
    """A command as an admin gives it, in a thread."""
    told = await asyncio.to_thread(CliRunner().invoke, relay, [*arguments])
    return told.exit_code, told.stdout, told.stderr


async def test_a_backup_under_load_restores_every_event_acknowledged_before(
    daemon: Daemon, relay_forks: Forks, tmp_path: Path
) -> None:
    """Siblings: a backup that was killed, one that goes on, one that adds; restored where something is, and elsewhere;
    what was settled before is not sent again, what was pending is."""
    backup, state, restored = tmp_path / "backup", daemon.state, tmp_path / "restored"
    sender = Sender(daemon)
    async with Destination() as hook, Destination() as slow, Destination() as other:
        slow.behaviour = 503
        daemon.configure("10-all", TABLES % (hook.url, slow.url))
        await daemon.start()
        for _ in range(30):
            await sender.post()
        await daemon.settled("hook", 3000)
        settled = [*sender.acknowledged]
        async with sender.loads():
            killed = ["backup", str(backup), *folders_of(daemon)]
            done = await asyncio.to_thread(relay_forks.run, *killed, before=KILLED)
            assert done.returncode == -signal.SIGKILL
            await assert_killed_backup_is_not_restored(backup, restored)
            saved = await back_up_twice(daemon, backup, sender)
        await daemon.kill()

        await assert_restore_leaves_what_is_there(daemon, backup)
        daemon.state = restored
        await restore_as_new_journal(daemon, backup, state)
        had = hook.bodies()
        daemon.logs.clear()
        daemon.configure("10-all", TABLES % (other.url, slow.url))
        slow.behaviour = 200
        new = await start_and_deliver(daemon, sender)
        again, late = Counter(other.bodies()), Counter(slow.bodies())
        assert not {*saved} - {*had, *again}
        assert not {*settled} & {*again}
        assert not {*saved, *new} - {*late}
        assert max(again.values()) == max(late.values()) == 1
        await assert_restored_relay_is_well(daemon)
        assert await daemon.stop() == 0


class Sender:
    """Post events, and know those that relay has acknowledged."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.acknowledged: list[bytes] = []

    async def post(self) -> None:
        events = [make_event(filling="x" * 2000) for _ in range(100)]
        if (await self._daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202:
            self.acknowledged.extend(events)

    @asynccontextmanager
    async def loads(self) -> AsyncIterator[None]:
        """Post again and again meanwhile."""
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                await (self.post() if len(self.acknowledged) < 9000 else asyncio.sleep(0))  # the journal holds all
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            yield
            done.set()


def folders_of(daemon: Daemon) -> list[str]:
    """Return the options that name the folders of a relay to a command."""
    return ["--state", str(daemon.state), "--conf", str(daemon.conf)]


async def assert_killed_backup_is_not_restored(backup: Path, restored: Path) -> None:
    refused = await command("restore", str(backup), "--state", str(restored))
    assert (refused[0], "is not complete: run relay backup" in refused[2]) == (1, True), refused
    assert not restored.exists()


async def back_up_twice(daemon: Daemon, backup: Path, sender: Sender) -> list[bytes]:
    """End the backup that was killed, and add to it; return the events acknowledged before the last one began."""
    for _ in range(2):
        saved = [*sender.acknowledged]
        code, out, error = await command("backup", str(backup), *folders_of(daemon))
        assert (code, "verified" in out, "were there" in out) == (0, True, True), (out, error)
    return saved


async def assert_restore_leaves_what_is_there(daemon: Daemon, backup: Path) -> None:
    code, _, error = await command("restore", str(backup), *folders_of(daemon))
    assert (code, "relay.db is there" in error) == (1, True), error


async def restore_as_new_journal(daemon: Daemon, backup: Path, origin: Path) -> None:
    code, out, error = await command("restore", str(backup), *folders_of(daemon))
    assert (code, "by this machine's clock, which counts as right" in out) == (0, True), (out, error)
    assert read_identity(daemon.state / "journal") != read_identity(origin / "journal")
    assert (await command("journal", "check", *folders_of(daemon)))[0] == 0


async def start_and_deliver(daemon: Daemon, sender: Sender) -> list[bytes]:
    """Start the restored relay, and wait until nothing is pending; return the events that it was sent."""
    await daemon.start()
    await sender.post()
    for name in ("hook", "slow"):
        await daemon.settled(name, daemon.ledger()[name].accepted)
    return sender.acknowledged[-100:]


async def assert_restored_relay_is_well(daemon: Daemon) -> None:
    """See that nothing complains, and that the history alone tells of the restore."""
    assert not [line for line in daemon.logs if line["level"] == "error"]
    assert not daemon.logged("the last run has not ended by a stop")
    where = folders_of(daemon)
    assert "restored from the backup in" in (await command("history", *where[:2]))[1]
    for check in ("status", "audit"):
        code, out, error = await command(check, *where[: 2 if check == "status" else 4])
        assert code == 0, (out, error)
    assert daemon.ledger()["slow"].counts.damaged == 0


@pytest.mark.long  # quicker: the other test, and tests/unit/inspect
async def test_a_backup_of_all_workers_is_restored_and_made_anew_elsewhere(daemon: Daemon, tmp_path: Path) -> None:
    daemon.configure("20-workers", '[runtime]\nworkers = 2\n[source.braze]\ntype = "currents"\npath = "/currents"')
    await daemon.start()
    for _ in range(40):
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
    where = folders_of(daemon)
    code, out, error = await command("backup", str(tmp_path / "backup"), "--json", *where)
    assert code == 0, error
    found = json.loads(out)
    assert sum(part["head"] for part in found["workers"]) == 40
    assert await daemon.stop() == 0
    daemon.state = tmp_path / "restored"
    where = folders_of(daemon)
    assert (await command("restore", str(tmp_path / "backup"), *where))[0] == 0
    await daemon.start()
    code, out, error = await command("status", *where[:2])
    assert code == 0, (out, error)
    code, _, error = await command("backup", str(tmp_path / "backup"), *where)
    assert (code, "another journal" in error) == (1, True), error
    code, out, error = await command("backup", str(tmp_path / "second"), *where)
    assert (code, "40 events" in out) == (0, True), (out, error)
    assert await daemon.stop() == 0
