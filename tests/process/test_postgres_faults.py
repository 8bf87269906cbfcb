"""Three relays on one database, of which relays, servers and cables fail in turn: nothing acknowledged is lost."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.deliver.batch.sent_together import AGAIN_S as CUTS_AGAIN_S
from tests.conftest import LONG
from tests.forks import Forks
from tests.postgres import Cable, Replicated
from tests.postgres.replicated import make_dsn
from tests.process.fleet import LEASE_S, PARTITIONS, WINDOW, Fleet, Stream

ROUNDS = 50 if LONG else 3
RATE = 120
HELD = "SELECT count(*) FROM relay.lease WHERE node = ANY(%s) AND until > clock_timestamp()"


class Scene:
    """What a fault can befall."""

    def __init__(self, fleet: Fleet, servers: Replicated, cable: Cable) -> None:
        self.fleet, self.servers, self.cable = fleet, servers, cable
        self._checked = dict.fromkeys(fleet.streams, 0)
        """The requests up to which keys may have changed."""

    async def await_takeover(self) -> None:
        """Wait until relays that run have the leases of all partitions."""
        running = [node.conf.parent.name for node in self.fleet.nodes if node.is_running]
        began = time.monotonic()
        while await asyncio.to_thread(self.servers.primary.execute, HELD, [running]) != [(PARTITIONS,)]:
            assert time.monotonic() < began + 60, running
            await asyncio.sleep(0.1)
        print(f"taken over within {time.monotonic() - began:.1f} s")

    async def check_keys(self, fault: "Fault") -> None:
        """Check that events came again under the same keys. While a relay has no database, and until it tries anew, its
        batches go out although their cuts cannot be saved. They may be cut otherwise when they go out again."""
        keeps_database = fault in (kill_a_relay, stop_a_relay_beyond_its_lease)
        if not keeps_database:
            await asyncio.sleep(2 * CUTS_AGAIN_S)
        for stream, since in self._checked.items():
            assert not (keeps_database and stream.find_changed_keys(since))
            self._checked[stream] = len(stream.destination.requests)


async def kill_a_relay(scene: Scene) -> None:
    await scene.fleet.nodes[1].kill()
    await scene.await_takeover()
    await scene.fleet.deliver_all()
    await scene.fleet.nodes[1].start()


async def stop_a_relay_beyond_its_lease(scene: Scene) -> None:
    scene.fleet.nodes[2].signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE_S + 2)
    scene.fleet.nodes[2].signal(signal.SIGCONT)


async def cut_a_relay_off(scene: Scene) -> None:
    scene.cable.cut()
    await asyncio.sleep(LEASE_S + 2)
    scene.cable.mend()


async def kill_the_primary(scene: Scene) -> None:
    former = scene.servers.primary
    former.kill()
    await asyncio.to_thread(scene.servers.promote)
    await scene.fleet.deliver_all()
    await asyncio.to_thread(scene.servers.bring_back, former)


async def stop_the_standbys(scene: Scene) -> None:
    for standby in scene.servers.standbys:
        standby.freeze()
    await asyncio.sleep(2)
    for standby in scene.servers.standbys:
        standby.thaw()


async def restart_everything(scene: Scene) -> None:
    for node in scene.fleet.nodes:
        assert await node.stop() == 0
    for server in [*scene.servers.standbys, scene.servers.primary]:
        await asyncio.to_thread(server.stop)
    for server in [scene.servers.primary, *scene.servers.standbys]:
        await asyncio.to_thread(server.start)
    for node in scene.fleet.nodes:
        await node.start()


Fault = Callable[[Scene], Awaitable[None]]
FAULTS: list[Fault] = [
    kill_the_primary,
    kill_a_relay,
    stop_a_relay_beyond_its_lease,
    cut_a_relay_off,
    stop_the_standbys,
    restart_everything,
]
"""The first are those of `make test`: a failover, and takeovers from a relay that dies and one that stands still."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.long  # quicker: test_cluster, test_postgres_power, and tests/unit/postgres
async def test_relays_and_servers_that_fail_lose_nothing(tmp_path: Path, relay_forks: Forks) -> None:
    plain = Stream("plain", "users.messages.email.Open")
    ordered = Stream("ordered", "users.behaviors.Purchase", 'order_by = "user.user_id"')
    limited = Stream("limited", "users.messages.pushnotification.Open", f"rate = {RATE}")
    once = Stream("once", "users.messages.sms.Delivery", path="/once", copies=2)
    streams = [plain, ordered, limited, once]
    seed = time.time_ns() if LONG else 7
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(Replicated.run())
        ports = [server.port for server in servers.servers]
        cable = await stack.enter_async_context(Cable.plug(ports))
        dsns = [make_dsn(cable.ports), servers.dsn, servers.dsn]
        fleet = await stack.enter_async_context(Fleet.run(tmp_path, relay_forks, dsns, streams))
        scene = Scene(fleet, servers, cable)
        async with fleet.under_load():
            for number in range(ROUNDS):
                fault = FAULTS[number] if number < len(FAULTS) else chance.choice(FAULTS)
                await asyncio.sleep(chance.uniform(0.3, 1))
                began = time.monotonic()
                await fault(scene)
                late = await fleet.deliver_all()
                print(f"{fault.__name__}: {time.monotonic() - began:.1f} s, of which {late:.1f} s after its end")
                await scene.check_keys(fault)
        await fleet.deliver_all()
        rows = await fleet.audit()
        for node in fleet.nodes:
            assert await node.stop() == 0
    for stream in streams:
        arrived = stream.destination.accepted
        again = arrived.total() - len(arrived)
        print(f"{stream.name}: {len(stream.acknowledged):,} acknowledged, {again:,} came again")
        assert len(stream.acknowledged) > ROUNDS * 20
        assert not stream.find_missing(set(stream.acknowledged))
        # The last requests had no answer when the senders ended, and may be taken after the audit
        assert len(stream.acknowledged) <= rows[stream.name]["delivered"] <= len(arrived), rows[stream.name]
        assert again <= ROUNDS * PARTITIONS * WINDOW
    assert not ordered.find_disorder()
    assert limited.find_most(10) <= RATE * 11
