"""Leases: the right of a process to deliver a partition, for a limited time.

A lease ends by the database's clock, unless its process renews it. The process itself counts from before it asked for
the lease, by a clock of its own, and stops a little earlier. So no clock of any machine needs to be right.

How it fails and recovers:

- The database does not answer: renewing is tried again until the lease is over by the own clock. Deliveries end then,
  before another process can have the lease.
- The process stands still, because it was stopped or its machine was suspended: when it goes on, the own clock says at
  once that the lease is over. What it writes later changes nothing (`Lease.hold`).
- The event loop stands still: the lease is not renewed until the loop turns again.
- The database comes back older than it was: the lease it knows has another epoch or process, and the present one ends.
"""

import asyncio
import math
import threading
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from relay.postgres.cluster import LOCK
from relay.postgres.connection import Database, Lasting, PostgresConnection, limit_wait
from relay.postgres.process import Process
from relay.store import Unavailable, read_uptime
from relay.words import format_time

RENEWALS: Final = 3
"""Renewals within the time of a lease."""
MARGIN: Final = 0.1
"""The share of a lease that its process does not use."""
RETRY_S: Final = 0.5
"""Seconds from a failed renewal to the next."""
LOOK_S: Final = 0.2
LOCK_S: Final = 2.0
"""Seconds that a process waits for the last transaction of the holder before it."""
TAKE: Final = """
    UPDATE $.lease SET epoch = epoch + 1, instance = %(instance)s, node = %(node)s, host = %(host)s,
        process = %(process)s, since = clock_timestamp(), until = clock_timestamp() + %(seconds)s * interval '1 second'
    WHERE partition = %(partition)s AND (until <= clock_timestamp() OR instance = %(instance)s) RETURNING epoch
"""
RENEW: Final = """
    UPDATE $.lease SET until = clock_timestamp() + %(seconds)s * interval '1 second'
    WHERE instance = %(instance)s AND until > clock_timestamp() AND (partition, epoch) IN
        (SELECT * FROM unnest(%(partitions)s::integer[], %(epochs)s::bigint[])) RETURNING partition, epoch
"""
HOLDERS: Final = """
    SELECT CASE WHEN until > clock_timestamp() THEN instance END FROM $.lease ORDER BY partition
"""
GIVE_BACK: Final = """
    UPDATE $.lease SET until = '-infinity' WHERE partition = %s AND epoch = %s AND instance = %s
"""
log = structlog.stdlib.get_logger()


class Lease:
    """The right to deliver a partition, until it is over. Threads may share it."""

    def __init__(self, owner: "Leases", partition: int, epoch: int, ends: float) -> None:
        """`ends`: the end by `read_uptime`, unless the lease is renewed."""
        self.partition, self.epoch, self._owner, self._ends = partition, epoch, owner, ends
        self.hold = f"SELECT $.hold({partition}, {epoch}, '{owner.process.instance}');"
        """The statement that begins each transaction of the holder. It fails once another process has the lease, and
        no other process takes the lease before the transaction has ended."""
        self.why = ""
        """Why the lease is over."""
        self._looked: float | None = None
        """When somebody last looked whether the lease is over; None: nobody looks again and again."""

    @property
    def is_over(self) -> bool:
        """Whether this process may deliver no more."""
        if not self.why and read_uptime() >= self._ends:
            self.why = f"the lease of partition {self.partition} was not renewed in time"
        return bool(self.why)

    @property
    def is_stuck(self) -> bool:
        """Whether the event loop that waits for the end of the lease does not turn."""
        return self._looked is not None and read_uptime() - self._looked > self._owner.seconds / RENEWALS

    async def await_over(self) -> None:
        """Wait until this process may deliver no more. While anybody waits, the lease lives only with the event
        loop."""
        try:
            while not self.is_over:
                self._looked = read_uptime()
                await asyncio.sleep(min(LOOK_S, self._ends - self._looked))
        finally:
            self._looked = None

    def renew(self, ends: float) -> None:
        """Note that the lease was renewed. A lease that is over stays so."""
        if not self.is_over:
            self._ends = ends

    def end(self, why: str) -> None:
        """Note that the lease is over."""
        self.why = self.why or why

    def give_back(self) -> None:
        """End the lease, so that another process can have it at once. Blocking."""
        self._owner.give_back(self)


class Leases:
    """The leases of this process. One thread renews them all."""

    def __init__(self, database: Database, process: Process, seconds: float) -> None:
        """`seconds`: how long a lease lasts without a renewal."""
        self.process, self.seconds = process, seconds
        self._database = database
        self._held: list[Lease] = []
        self._changing, self._closed = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, partition: int) -> Lease:
        """Take the lease of a partition. Blocking. Raises Unavailable, with the reason "busy" if another has it."""
        asked = read_uptime()
        process = self.process
        values = {
            "partition": partition, "seconds": self.seconds,
            "instance": process.instance, "node": process.node, "host": process.host, "process": process.number,
        }  # fmt: skip
        with self._database.use() as db, db.transaction_of(limit_wait(LOCK_S)):
            db.run(LOCK, [2 * partition + 1])
            row = db.run(TAKE, values).fetchone()
            if row is None:
                raise Unavailable(describe_holder(db, partition), "busy")
        lease = Lease(self, partition, row[0], self._find_end(asked))
        with self._changing:
            self._held.append(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_renewing, name="leases", daemon=True)
                self._thread.start()
        return lease

    def give_back(self, lease: Lease) -> None:
        """End a lease, so that another process can have it at once. Blocking."""
        lease.end("this process has given it back")
        with self._changing:
            self._held = [one for one in self._held if one is not lease]
        try:
            with self._database.use() as db, db.transaction_of():
                db.run(GIVE_BACK, [lease.partition, lease.epoch, self.process.instance])
        except Unavailable as error:
            if not error.is_logged:
                told = {"partition": lease.partition, "error": str(error), "ends_in_s": self.seconds}
                log.warning("lease not given back", **told)

    def close(self) -> None:
        """Renew nothing any more. Blocking."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _find_end(self, asked: float) -> float:
        return asked + self.seconds * (1 - MARGIN)

    def _keep_renewing(self) -> None:
        connection = Lasting(self._database, deadline_s=self.seconds / RENEWALS)
        is_renewed = True
        while not self._closed.wait(self.seconds / RENEWALS if is_renewed else RETRY_S):
            try:
                is_renewed = self._renew(connection)
            except Unavailable as error:
                is_renewed = False
                log.debug("leases not renewed", error=str(error))
        connection.close()

    def _renew(self, connection: Lasting) -> bool:
        """Renew all leases; return False if one has to wait for its event loop."""
        with self._changing:
            self._held = [lease for lease in self._held if not lease.is_over]
            held = [lease for lease in self._held if not lease.is_stuck]
        if held:
            self._renew_in_database(connection, held)
        return len(held) == len(self._held)

    def _renew_in_database(self, connection: Lasting, held: Sequence[Lease]) -> None:
        asked = read_uptime()
        values = {
            "seconds": self.seconds, "instance": self.process.instance,
            "partitions": [lease.partition for lease in held], "epochs": [lease.epoch for lease in held],
        }  # fmt: skip
        with connection.use() as db:
            with db.transaction_of():
                renewed = set(db.run(RENEW, values).fetchall())
            if renewed:
                db.note_commit()
            for lease in held:
                if (lease.partition, lease.epoch) in renewed:
                    lease.renew(self._find_end(asked))
                elif not lease.is_over:
                    lease.end(describe_holder(db, lease.partition))


def describe_holder(db: PostgresConnection, partition: int) -> str:
    """Describe which process has the lease of a partition, or had it last, and until when. Raises psycopg.Error."""
    query = """
        SELECT node, process, host, extract(epoch FROM until)::float8, until > clock_timestamp()
        FROM $.lease WHERE partition = %s
    """
    row = db.run(query, [partition]).fetchone()
    if row is None:
        return f"there is no partition {partition}"
    node, process, host, until, is_held = row
    if until == -math.inf:
        return f"nobody has the lease of partition {partition}"
    has = "has" if is_held else "had"
    return (
        f"node {node} (process {process} on {host}) {has} the lease of partition {partition} until {format_time(until)}"
    )


def read_holders(db: PostgresConnection) -> list[UUID | None]:
    """Return the process that has the lease of each partition, None for a free partition. Raises psycopg.Error."""
    return [instance for (instance,) in db.run(HOLDERS)]


def end_leases(db: PostgresConnection, instance: UUID) -> None:
    """End all leases of a process that has ended. Raises psycopg.Error."""
    db.run("UPDATE $.lease SET until = '-infinity' WHERE instance = %s", [instance])
