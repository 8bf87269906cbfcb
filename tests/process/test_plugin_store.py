"""The stores of connectors in a real relay: kept over kill -9, for each worker, backed up, and gone when forgotten."""

import asyncio
from pathlib import Path

from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.state import EmbeddedStores
from relay.testing import Destination, make_event
from tests.daemon import Daemon

PLUGIN = """
from relay.api import Connector

class Keeper(Connector, type="keeper"):
    async def open(self):
        assert await self.store.get([b"opened"]) in ({}, {b"opened": b"1"})
        await self.store.write({b"opened": b"1"})

    async def deliver(self, batch):
        await self.store.write({f"{event.user['external_user_id']}/{event.id}".encode(): b"" for event in batch})

    async def erase(self, users):
        for user in users:
            for id in user.external_ids:
                keys = [key for key, _ in await self.store.scan(f"{id}/".encode())]
                await self.store.write(deletes=keys)
        await self.store.purge()
"""
SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"\n[erasure]\nafter = "1ms"\n'
KEEPER = '[connector.keeper]\ntype = "keeper"\nretry = { first = "1ms", max = "10ms" }\n'


def configure(daemon: Daemon, more: str = "") -> None:
    (daemon.plugins / "keeper.py").write_text(PLUGIN)
    daemon.configure("10-source", SOURCE)
    daemon.configure("20-keeper", KEEPER)
    daemon.configure("30-more", more)


def kept(state: Path) -> dict[int, set[bytes]]:
    """Return the kept keys of each worker that has a store."""
    found, stores = {}, EmbeddedStores(state)
    for worker in range(2):
        if "keeper" in stores.list_connectors("keeper", worker=worker):
            with stores.read("keeper", "keeper", worker=worker) as store:
                found[worker] = {key for key, _ in store.scan(b"")} - {b"opened"}
    return found


async def relay(daemon: Daemon, *arguments: object) -> str:
    given = [*map(str, arguments), "--state", str(daemon.state)]
    found = await asyncio.to_thread(CliRunner().invoke, cli, given)
    assert found.exit_code == 0, found.output
    return found.output


async def test_each_worker_has_a_store_that_outlives_a_kill(daemon: Daemon, tmp_path: Path) -> None:
    configure(daemon, '[runtime]\nworkers = 2\ndrain = "5s"')
    await daemon.start()
    for number in range(60):
        user = {"user_id": f"id-{number}", "external_user_id": f"user-{number}"}
        assert (await daemon.post(make_event(user=user)))[0] == 202
    await daemon.settled("keeper", 60)
    await daemon.kill()
    before = kept(daemon.state)
    assert sorted(before) == [0, 1], "the kernel gives both of them connections"
    assert {key.partition(b"/")[0] for keys in before.values() for key in keys} == {
        b"user-%d" % number for number in range(60)
    }
    await daemon.start()
    await relay(daemon, "backup", tmp_path / "backup", "--conf", daemon.conf)
    assert await daemon.stop() == 0
    assert kept(daemon.state) == before

    state, daemon.state = daemon.state, tmp_path / "restored"
    await relay(daemon, "restore", tmp_path / "backup", "--conf", daemon.conf)
    assert kept(daemon.state) == before
    daemon.state = state
    (daemon.conf / "20-keeper.toml").unlink()
    await relay(daemon, "forget", "keeper", "--yes", "--conf", daemon.conf)
    assert kept(daemon.state) == {}
    assert [*daemon.state.rglob("keeper.*")] == []


async def test_an_erased_user_is_in_no_store(daemon: Daemon) -> None:
    configure(daemon)
    await daemon.start()
    for name in ("anna", "bert"):
        user = {"user_id": f"id-{name}", "external_user_id": f"{name}-4711"}
        assert (await daemon.post(make_event(user=user)))[0] == 202
    await daemon.settled("keeper", 2)
    assert len(kept(daemon.state)[0]) == 2
    await relay(daemon, "erasures", "request", "--user-id", "id-anna", "--external-id", "anna-4711")

    def files_with_anna() -> list[str]:
        return [path.name for path in daemon.state.rglob("stores/*") if b"anna-4711" in path.read_bytes()]

    await daemon.until(files_with_anna, lambda found: not found)
    assert [key.partition(b"/")[0] for key in kept(daemon.state)[0]] == [b"bert-4711"]
    assert await daemon.stop() == 0


async def test_a_damaged_store_stops_its_connector_alone_and_says_why(daemon: Daemon) -> None:
    path = daemon.state / "stores" / "keeper.keeper.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database at all" * 1000)
    async with Destination() as web:
        configure(daemon, f'[connector.web]\ntype = "http"\nurl = "{web.url}"')
        await daemon.start()
        for _ in range(3):
            assert (await daemon.post(make_event()))[0] == 202
        await web.received(3)
        await daemon.settled("web", 3)
        shown = (await daemon.run("status")).stdout.decode()
        assert f"{path}: file is not a database; it is damaged: stop relay, and put the file of a backup" in " ".join(
            shown.split()
        )
        assert await daemon.stop() == 0
        path.unlink()
        await daemon.start()
        await daemon.settled("keeper", 3)
        assert len(kept(daemon.state)[0]) == 3
        assert await daemon.stop() == 0
