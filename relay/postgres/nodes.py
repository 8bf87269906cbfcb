"""The processes that share a cluster: which of them run, and which partitions each of them is to run.

Processes know of each other by rows of the database alone. Each process gives a sign of life there every few seconds. A
process without a sign of life for the time of a lease does not count any more. Its leases are over by then, too.

How it fails and recovers:

- The database is away: nobody learns anything. Each process keeps what it has until its leases are over.
- A process cannot open one of its partitions, and tries again after longer and longer pauses. A partition that has been
  free for LEFT_S is taken by any other process. That process then has more than its share, and gives another one back.
  So a partition that was free right before a long outage may move once more. Deliveries end in order then.
- A process has ended without a word. A process of the same name that starts on the same machine knows that, and takes
  over at once. On another machine it waits whether the other process gives a sign of life.
- A process has stood still, and another process has started under its name since. It runs nothing any more, and says
  which process has its name.
"""

import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
import structlog
from msgspec.structs import replace

from relay import __version__
from relay.postgres.cluster import LOCK, check_bar
from relay.postgres.connection import QUICK, Database, PostgresConnection
from relay.postgres.lease import end_leases, read_holders
from relay.postgres.log.timeline import read_timeline, testify
from relay.postgres.process import Process, is_gone, name_machine
from relay.postgres.shares import share_out
from relay.stop import STOP
from relay.store import NodeProcess, Unavailable, read_uptime
from relay.words import format_time

SIGN_S: Final = 3.0
"""Seconds between two signs of life at most."""
SILENCE_S: Final = 3 * SIGN_S
"""Seconds without a sign of life after which the name of a process is free."""
LOOK_S: Final = 0.5
LEFT_S: Final = 15.0
"""Seconds after which a free partition is left to whoever can open it."""
NOBODY: Final = UUID(int=0)
"""The id of no process."""
NAMES_LOCK: Final = -2
"""The second part of the advisory lock under which processes get their names."""
NAMESAKE: Final = """
    SELECT instance, host, machine, process, extract(epoch FROM since)::float8, seen
    FROM $.node WHERE node = %s AND worker = %s AND until > clock_timestamp() AND instance <> %s
"""
REGISTER: Final = """
    INSERT INTO $.node (node, worker, slot, instance, host, machine, process, version, until)
    VALUES (%(node)s, %(worker)s, $.find_free_slot(), %(instance)s, %(host)s, %(machine)s, %(number)s, %(version)s,
        clock_timestamp() + %(seconds)s * interval '1 second')
    ON CONFLICT (node, worker) DO UPDATE SET instance = excluded.instance, host = excluded.host,
        machine = excluded.machine, process = excluded.process, version = excluded.version, since = excluded.since,
        seen = excluded.seen, until = excluded.until
    RETURNING slot
"""
SIGN: Final = """
    UPDATE $.node SET seen = clock_timestamp(), until = clock_timestamp() + %s * interval '1 second'
    WHERE node = %s AND worker = %s AND instance = %s AND (SELECT barred FROM $.cluster) = '' RETURNING node
"""
RUNNING: Final = "SELECT instance FROM $.node WHERE until > clock_timestamp() ORDER BY worker, node"
"""Nodes share before their further workers do: of few partitions each machine has some."""
LEAVE: Final = """
    UPDATE $.node SET seen = clock_timestamp(), until = '-infinity' WHERE node = %s AND worker = %s AND instance = %s
"""
FORGET: Final = "DELETE FROM $.node WHERE seen < clock_timestamp() - interval '1 day'"
"""Nodes that ended long ago are not listed any more: each container may have a name of its own."""
FORGET_REPORTS: Final = "DELETE FROM $.node_report WHERE at < clock_timestamp() - interval '1 day'"
REPORT: Final = """
    INSERT INTO $.node_report (node, worker, instance, at, status, tables)
    VALUES (%s, %s, %s, clock_timestamp(), %s, %s)
    ON CONFLICT (node, worker) DO UPDATE SET instance = excluded.instance, at = excluded.at, status = excluded.status,
        tables = excluded.tables
"""
PROCESSES: Final = """
    SELECT instance, node, worker,
        CASE WHEN until > clock_timestamp() THEN 'running' WHEN until = '-infinity' THEN 'stopped' ELSE 'away' END,
        host, process, version, extract(epoch FROM since)::float8,
        extract(epoch FROM clock_timestamp() - seen)::float8,
        status, extract(epoch FROM clock_timestamp() - at)::float8, tables
    FROM $.node LEFT JOIN $.node_report USING (node, worker, instance) ORDER BY node, worker
"""
log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Namesake:
    """Another process of the same node and number."""

    instance: UUID
    host: str
    machine: str
    number: int
    since: float
    seen: Any
    """Its last sign of life, by the database's clock."""


class ClusterMembership:
    """The place of this process in a cluster. See `relay.store.Membership`."""

    def __init__(self, database: Database, process: Process, seconds: float) -> None:
        """`seconds`: the time of a lease."""
        self._database, self._process, self._seconds = database, process, seconds
        self.partitions = 0
        """The number of partitions that exist, as this process has seen last. Other processes may add some."""
        self.slot = 0
        """The number of this process among all, once it has joined. No other process that runs has the number."""
        self._signed = 0.0
        self._timeline: str | None = None
        """The server's timeline under which this process has told how far it knows the logs."""
        self._namesake: Namesake | None = None
        """The process that has taken the name of this one."""
        self._free_since: dict[int, float] = {}
        """Since when this process has seen each free partition free, by `read_uptime`."""
        self._adopted = frozenset[int]()
        """The partitions beyond its share that were left to this process."""

    def join(self) -> None:
        """Register this process. Blocking, for SILENCE_S at most.

        Raises Unavailable: with the reason "busy" if a process of the same node and number runs elsewhere; if the
        cluster is barred.
        """
        silent_since, seen = read_uptime(), None
        while (other := self._register(read_uptime() - silent_since > SILENCE_S)) is not None:
            if STOP.has_begun or (seen is not None and other.seen != seen):
                raise Unavailable(describe_namesake(other, self._process.node, self._process.worker), "busy")
            seen = other.seen
            time.sleep(LOOK_S)

    def find_wanted(self, failing: Collection[int] = ()) -> frozenset[int]:
        """Give a sign of life if it is time; return the partitions that this process is to run now. Blocking.

        `failing`: partitions that this process could not open lately.
        Raises Unavailable, also if the tables are not those of the cluster that this process has joined.
        """
        self._database.check_cluster()
        with self._database.use() as db:
            if read_uptime() - self._signed > min(SIGN_S, self._seconds / 3):
                self._give_sign(db)
            if self._namesake is not None:
                return frozenset()
            if (timeline := read_timeline(db)) != self._timeline:
                testify(db, self._process.instance, self._database.known_ends.read())
                self._timeline = timeline
            running = [instance for (instance,) in db.run(RUNNING)]
            holders = read_holders(db)
        self.partitions = len(holders)
        mine, left = self._process.instance, self._find_left(holders)
        self._adopted = frozenset(one for one in self._adopted | left if holders[one] in (None, mine))
        return (share_out(holders, running, self._adopted).get(mine, frozenset()) | left) - {*failing}

    def _find_left(self, holders: Sequence[UUID | None]) -> frozenset[int]:
        """Return the partitions that have been free for so long that nobody else can open them."""
        now, free = read_uptime(), [number for number, holder in enumerate(holders) if holder is None]
        self._free_since = {number: self._free_since.get(number, now) for number in free}
        return frozenset(number for number, since in self._free_since.items() if now - since > LEFT_S)

    def report(self, status: bytes, tables: Mapping[str, str]) -> None:
        """Leave a status of this process for the others. Blocking."""
        with self._database.use() as db, db.transaction_of(begin=QUICK):
            db.run(REPORT, [*self._key, zlib.compress(status), orjson.dumps(tables).decode()])

    def leave(self) -> None:
        """Give the name of this process back. Blocking."""
        with self._database.use() as db, db.transaction_of():
            db.run(LEAVE, self._key)

    @property
    def _key(self) -> Sequence[object]:
        return [self._process.node, self._process.worker, self._process.instance]

    def _register(self, is_other_silent: bool) -> Namesake | None:
        """Register this process, unless another has the name; return the other process."""
        process = self._process
        values = {
            "node": process.node, "worker": process.worker, "instance": process.instance, "host": process.host,
            "machine": process.machine, "number": process.number, "version": __version__, "seconds": self._seconds,
        }  # fmt: skip
        with self._database.use() as db, db.transaction_of():
            db.run(LOCK, [NAMES_LOCK])
            check_bar(db, "FOR SHARE")
            row = db.run(NAMESAKE, self._key).fetchone()
            other = Namesake(*row) if row else None
            if other is not None and is_gone(other.number, other.machine):
                end_leases(db, other.instance)
            elif other is not None and not is_other_silent:
                return other
            self._signed = read_uptime()
            db.run(FORGET)
            ((self.slot,),) = db.run(REGISTER, values).fetchall()
            db.run(FORGET_REPORTS)
        return None

    def _give_sign(self, db: PostgresConnection) -> None:
        asked, before = read_uptime(), self._namesake
        with db.transaction_of(begin=QUICK):
            is_known = db.run(SIGN, [self._seconds, *self._key]).fetchone() is not None
        if is_known:
            self._signed = asked
            return
        self._namesake = self._register(is_other_silent=False)
        if self._namesake is None:
            log.info("the name of the node is free again", node=self._process.node)
        elif before is None:
            reason = describe_namesake(self._namesake, self._process.node, self._process.worker)
            log.error("another relay has taken the name of the node", reason=reason)


def describe_namesake(other: Namesake, node: str, worker: int) -> str:
    """Describe where another process of a node and number runs."""
    named = f"node {node} (worker {worker})" if worker else f"node {node}"
    return (
        f"{named} runs already, as process {other.number} on {other.host} since {format_time(other.since)}:"
        " give each relay a journal.node and a state folder of its own"
    )


def check_name(db: PostgresConnection, node: str, runs: int | None) -> None:
    """Check that no other relay has the name of a node. `runs`: the process of the node's own relay, if that runs.

    Raises Unavailable, psycopg.Error.
    """
    row = db.run(NAMESAKE, [node, 0, NOBODY]).fetchone()
    if row is None:
        return
    other = Namesake(*row)
    is_own = runs is not None and other.machine in (name_machine(), name_machine(runs))
    if not is_own and not is_gone(other.number, other.machine):
        raise Unavailable(describe_namesake(other, node, 0), "busy")


def read_processes(db: PostgresConnection) -> list[NodeProcess]:
    """Return the processes that run, and those that ended in the last day, by node and number. Raises psycopg.Error."""
    holders = read_holders(db)
    found = []
    for instance, node, worker, state, host, process, version, since, silent, status, age, tables in db.run(PROCESSES):
        mine = [number for number, holder in enumerate(holders) if holder == instance]
        one = NodeProcess(
            node=node, worker=worker, state=state, host=host, process=process, version=version, since=since,
            silent=silent, partitions=mine,
        )  # fmt: skip
        if status is not None:
            one = replace(one, status=zlib.decompress(status), age=age, tables=orjson.loads(tables))
        found.append(one)
    return found
