"""Leases on a real PostgreSQL: one holder at a time, and none whose time is over."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from relay.postgres import lease as lease_module
from relay.postgres.lease import Lease, Leases
from relay.postgres.process import Process
from relay.store import Unavailable
from tests.postgres import start_shared_server

LONG_S = 60.0
SHORT_S = 3.0


class Relays:
    """The leases of several processes on one database."""

    def __init__(self) -> None:
        self.database = start_shared_server().make_database(partitions=2)
        self._all: list[Leases] = []

    def start(self, node: str, seconds: float = LONG_S) -> Leases:
        """Start a process."""
        self._all.append(Leases(self.database, Process(node, host=f"host of {node}", number=17), seconds))
        return self._all[-1]

    def end_by_clock(self, partition: int = 0) -> None:
        """Have the database's clock end a lease."""
        with self.database.use() as db:
            db.run("UPDATE $.lease SET until = clock_timestamp() WHERE partition = %s", [partition])

    def write(self, lease: Lease) -> None:
        """Run a transaction of the lease's holder."""
        with self.database.use() as db, db.transaction_of(lease.hold):
            db.run("UPDATE $.partition SET changes = changes + 1 WHERE partition = %s", [lease.partition])

    def close(self) -> None:
        """End all processes."""
        for one in self._all:
            one.close()
        self.database.close()


@pytest.fixture
def relays() -> Iterator[Relays]:
    with closing(Relays()) as relays:
        yield relays


class OwnClock:
    """The clock that a process has for itself."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_has_one_holder_whom_others_are_told_of(relays: Relays) -> None:
    relays.start("a").take(0)
    said = r"node a \(process 17 on host of a\) has the lease of partition 0 until \d{4}-"
    with pytest.raises(Unavailable, match=said) as caught:
        relays.start("b").take(0)
    assert caught.value.reason == "busy"
    assert relays.start("b").take(1).epoch == 1


def test_a_lease_that_is_given_back_is_free_at_once(relays: Relays) -> None:
    lease = relays.start("a").take(0)
    lease.give_back()
    assert lease.is_over
    assert relays.start("b").take(0).epoch == 2


def test_a_former_holder_writes_nothing_and_is_told_who_works_now(relays: Relays) -> None:
    lease = relays.start("a").take(0)
    relays.write(lease)
    relays.end_by_clock()
    relays.write(lease)  # nobody has taken the partition
    relays.write(relays.start("b").take(0))
    with pytest.raises(Unavailable, match=r"node b \(process 17 on host of b\) works with partition 0") as caught:
        relays.write(lease)
    assert caught.value.reason == "taken"
    with relays.database.connect() as db:
        with pytest.raises(psycopg.Error), db.transaction_of(lease.hold):
            pass
        assert db.run("SELECT 1").fetchone() == (1,), "the connection is good for the next transaction"


def test_nobody_takes_a_lease_during_a_transaction_of_its_holder(
    relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LOCK_S", 0.1)
    lease, other = relays.start("a").take(0), relays.start("b")
    relays.end_by_clock()
    with relays.database.use() as db, db.transaction_of(lease.hold), pytest.raises(Unavailable, match="lock timeout"):
        other.take(0)
    assert other.take(0).epoch == 2


def test_an_epoch_that_a_database_gives_twice_is_of_one_process(relays: Relays) -> None:
    lease = relays.start("a").take(0)
    with relays.database.use() as db:  # a standby without the last transactions was promoted
        db.run("UPDATE $.lease SET epoch = 0, until = '-infinity' WHERE partition = 0")
    other = relays.start("b").take(0)
    assert other.epoch == lease.epoch
    relays.write(other)
    with pytest.raises(Unavailable, match="node b"):
        relays.write(lease)


def test_a_process_takes_its_own_lease_anew(relays: Relays) -> None:
    leases = relays.start("a")
    before = leases.take(0)
    relays.write(leases.take(0))
    with pytest.raises(Unavailable, match="node a"):
        relays.write(before)


async def test_a_lease_is_renewed_before_it_ends(relays: Relays) -> None:
    lease = relays.start("a", SHORT_S).take(0)
    ends = lease._ends
    async with asyncio.timeout(10):
        while lease._ends == ends:
            await asyncio.sleep(0.05)
    assert not lease.is_over


def test_a_lease_ends_by_the_own_clock_before_others_may_have_it(
    relays: Relays, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = OwnClock()
    monkeypatch.setattr(lease_module, "read_uptime", clock)
    lease = relays.start("a").take(0)
    clock.now += 0.89 * LONG_S
    assert not lease.is_over
    clock.now += 0.02 * LONG_S
    assert lease.is_over
    assert lease.why == "the lease of partition 0 was not renewed in time"
    clock.now -= 0.5 * LONG_S
    lease.renew(clock.now + LONG_S)
    assert lease.is_over


async def test_a_holder_learns_that_another_has_taken_its_lease(relays: Relays) -> None:
    lease = relays.start("a", SHORT_S).take(0)
    with relays.database.use() as db:
        db.run("UPDATE $.lease SET until = '-infinity' WHERE partition = 0")
    relays.start("b").take(0)
    async with asyncio.timeout(10):
        await lease.await_over()
    assert lease.why.startswith("node b (process 17 on host of b) has the lease")


async def test_a_lease_is_not_renewed_for_a_loop_that_stands_still(relays: Relays) -> None:
    lease, other = relays.start("a", SHORT_S).take(0), relays.start("b")
    async with asyncio.TaskGroup() as group:
        group.create_task(lease.await_over(), name="end of the lease")
        await asyncio.sleep(0)
        take_soon(other)  # blocks the loop
    assert lease.is_over


def take_soon(leases: Leases) -> None:
    """Take a lease as soon as it is free, within 10 s."""
    deadline = time.monotonic() + 10
    while True:
        try:
            leases.take(0)
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


async def test_a_lease_ends_while_the_database_cannot_renew_it(relays: Relays) -> None:
    lease = relays.start("a", SHORT_S).take(0)
    with relays.database.use() as db:
        db.run("ALTER TABLE $.lease RENAME TO moved")
    async with asyncio.timeout(10):
        await lease.await_over()
    assert lease.why == "the lease of partition 0 was not renewed in time"
