"""Journal, lanes, parked events and their replay against a simple model, through restarts and crashes in any order.

The model: what was appended is delivered, at least once, or parked; the books say which; nothing else happens.
"""

import asyncio
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from relay.api import Batch, Connector, Kind, Reject, Retry
from relay.config.model import Config, Configured, JournalSettings
from relay.deliver.fleet import Fleet
from relay.engine import open_store
from relay.postgres.connection import find_database
from relay.postgres.store import PostgresStore
from relay.store import Cursor, JournalLimits, Parked, ParkedQuery, Replay, Store
from relay.testing import make_event
from tests.conftest import LONG
from tests.postgres import start_shared_server
from tests.toy_store.log import ToyLog
from tests.toy_store.state import ToyBooks
from tests.toy_store.store import ToyStore

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(1 << 30, 3600)
WINDOW = 40


class World:
    """The destination as it is, whoever is connected to it."""

    def __init__(self) -> None:
        self.busy = False
        self.strict = True
        self.delivered: Counter[bytes] = Counter()


class Target(Connector, type="target"):
    """Delivers to the world: poison is refused while it is strict."""

    world: ClassVar[World]

    async def deliver(self, batch: Batch) -> None:
        await asyncio.sleep(0)
        if self.world.busy:
            raise Retry("busy")
        if self.world.strict and any(b"poison" in body for body in batch.bodies()):
            raise Reject("HTTP 400: poison")
        self.world.delivered.update(batch.bodies())


def configuration() -> Config:
    table = {"retry": {"first": "1ms", "max": "2ms"}, "batch": {"events": 7, "age": "0ms"}, "window": WINDOW}
    made = Target.Settings.model_validate({"type": "target", "concurrency": 3} | table)
    return Config(
        connectors={"it": Configured("it", Target, made)},  # type: ignore[dict-item,arg-type]
    )


class Ground(ABC):
    """What a relay stands on."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.log, self.state = store.open(0, LIMITS, 2000)

    @abstractmethod
    def copy(self) -> "Ground":
        """Return what is durable at this moment, as after kill -9."""

    @abstractmethod
    def remove(self) -> None:
        """Remove everything."""


class FolderGround(Ground):
    """A state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(open_store(folder, JournalSettings()))

    def copy(self) -> Ground:
        self.log._thread.submit(lambda: None).result()  # type: ignore[attr-defined]
        self.state.thread.call(lambda: None)  # type: ignore[attr-defined]
        following = self.folder.with_name(f"{int(self.folder.name) + 1}")
        shutil.copytree(self.folder, following)
        return FolderGround(following)

    def remove(self) -> None:
        shutil.rmtree(self.folder.parent)


class ToyGround(Ground):
    """The memory."""

    store: ToyStore
    log: ToyLog

    def copy(self) -> Ground:
        following = ToyStore()
        (books,) = self.store.books.values()
        log = self.log.reopen(LIMITS)
        following.books[0] = ToyBooks(0, deepcopy(books.tables), deepcopy(books.cuts), books.epoch, log=log)
        return ToyGround(following)

    def remove(self) -> None:
        pass


class DatabaseGround(Ground):
    """PostgreSQL. A process that is killed loses its lease, and the next process has what is committed."""

    store: PostgresStore

    def __init__(self, settings: JournalSettings) -> None:
        self.settings = settings
        super().__init__(PostgresStore(settings, Path()))

    def copy(self) -> Ground:
        with find_database(self.settings).connect() as db:
            db.run("UPDATE $.lease SET until = '-infinity'")
        return DatabaseGround(self.settings)

    def remove(self) -> None:
        self.store.close()


def make_database_ground() -> Ground:
    server = start_shared_server()
    os.environ["RELAY_DSN"] = server.dsn
    schema = server.make_database().schema.strip('"')
    dsn = {"env": "RELAY_DSN"}
    return DatabaseGround(JournalSettings(backend="postgres", dsn=dsn, schema=schema, node="a", partitions=1))


GROUNDS: dict[str, Callable[[], Ground]] = {
    "embedded": lambda: FolderGround(Path(tempfile.mkdtemp()) / "0"),
    "postgres": make_database_ground,
    "toy": lambda: ToyGround(ToyStore()),
}


class Machine(RuleBasedStateMachine):
    """Appends, moods of the destination, restarts, crashes, replays."""

    engine: ClassVar[str]

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.ground = GROUNDS[self.engine]()
        self.world = Target.world = World()
        self.appended: list[bytes] = []
        self.crashes = 0
        self.asked: dict[int, range] = {}
        self.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def start(self) -> None:
        async def start() -> None:
            self.fleet = Fleet(self.ground.log, self.ground.state, Path())
            await self.fleet.open(configuration())
            self.running = asyncio.get_running_loop().create_task(self.fleet.run(), name="fleet")

        self.run(start())

    def end(self, *, crash: bool) -> None:
        async def end() -> None:
            if crash:
                self.running.cancel()
            self.fleet.stop()
            await asyncio.wait([self.running], timeout=30)
            assert self.running.done()
            await self.ground.log.close()
            self.ground.state.close()

        self.run(end())

    @rule(good=st.integers(0, 30), poison=st.integers(0, 2))
    def append(self, good: int, poison: int) -> None:
        bodies = [make_event(n=n) for n in range(good)] + [make_event(poison=True) for _ in range(poison)]
        if bodies:
            self.run(self.ground.log.append([KIND] * len(bodies), bodies))
            self.appended += bodies

    @rule(milliseconds=st.sampled_from([0, 1, 5, 300]))
    def time_passes(self, milliseconds: int) -> None:
        self.run(asyncio.sleep(milliseconds / 1000))

    @rule(busy=st.booleans(), strict=st.booleans())
    def mood(self, busy: bool, strict: bool) -> None:
        self.world.busy, self.world.strict = busy, strict

    @rule()
    def restart(self) -> None:
        self.end(crash=False)
        self.ground.log, self.ground.state = self.ground.store.open(0, LIMITS, 2000)
        self.start()

    @rule()
    def crash(self) -> None:
        """Go on from what is durable at this moment, as after kill -9."""
        self.crashes += 1
        following = self.ground.copy()
        delivered = Counter(self.world.delivered)
        self.end(crash=True)
        self.world.delivered = delivered
        self.ground = following
        self.start()

    @rule()
    def deliver_parked_again(self) -> None:
        self.mark_parked()

    @rule(start=st.floats(0, 1), share=st.floats(0, 1), rate=st.sampled_from([0.0, 500.0]))
    def replay(self, start: float, share: float, rate: float) -> None:
        """Of what the lane has behind it, a part."""
        end = next((lane.cursor.position for lane in self.ground.store.view().read_lanes()), 0)
        first = int(end * start)
        wanted = range(first, first + int((end - first) * share))
        if wanted:
            asked = Replay("it", Cursor(wanted.start, wanted.start), wanted.stop, rate=rate)
            self.asked[self.ground.store.replays.ask(asked)] = wanted

    @rule()
    def cancel(self) -> None:
        if self.asked:
            number = max(self.asked)
            self.ground.store.replays.cancel(number)

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            self.finish()
        finally:
            self.end(crash=False)
            self.runner.close()
            self.ground.remove()

    def finish(self) -> None:
        self.world.busy = False
        self.run(self.until(lambda: not self.pending() and not self.under_way()))
        self.check_books()
        self.check_replays()
        waiting = {one.body for one in self.list_parked()}
        assert waiting | self.world.delivered.keys() == set(self.appended)
        self.world.strict = False
        self.mark_parked()
        self.run(self.until(lambda: not self.list_parked()))
        self.check_books()
        assert self.world.delivered.keys() == set(self.appended)
        again = self.world.delivered.total() - len(self.appended)
        lanes = 1 + len(self.asked)
        assert again <= self.crashes * WINDOW * lanes + sum(map(len, self.asked.values()))

    def under_way(self) -> list[Replay]:
        return [one for one in self.ground.store.replays.read() if one.status in ("waiting", "running")]

    def check_replays(self) -> None:
        """Each has an outcome for all of its range, and an event that is in order came once more for each."""
        times = Counter[int]()
        for one in self.ground.store.replays.read():
            wanted = self.asked[one.number]
            assert (one.cursor.start, one.stop) == (wanted.start, wanted.stop)
            if one.status == "done":
                assert one.cursor.counts.total == len(wanted)
                times.update(wanted)
        aside = {one.offset for one in self.list_parked()}
        for offset, body in enumerate(self.appended):
            if b"poison" not in body and offset not in aside:
                assert self.world.delivered[body] >= 1 + times[offset]

    def list_parked(self) -> list[Parked]:
        return [*self.ground.store.parked.read(ParkedQuery())]

    def mark_parked(self) -> None:
        assert sum(self.ground.store.parked.mark(ParkedQuery())) >= 0

    def pending(self) -> int:
        return self.ground.log.head - self.fleet.lanes[0].cursor.position

    async def until(self, good: Any) -> None:
        async with asyncio.timeout(60):
            while not good():
                await asyncio.sleep(0.005)

    def check_books(self) -> None:
        self.run(self.fleet.save())
        ledger = self.fleet.lanes[0].cursor.make_ledger(self.ground.log.head)
        assert (ledger.accepted, ledger.pending) == (len(self.appended), 0)
        assert ledger.counts.parked == len([one for one in self.list_parked() if one.replay is None])


@pytest.mark.promise(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "stories"),
    [
        ("embedded", 12),
        pytest.param("postgres", 8, marks=pytest.mark.long),  # quicker: the above, and the stores in tests/unit/store
        pytest.param("embedded", 30, marks=pytest.mark.long),
        pytest.param("toy", 20, marks=pytest.mark.long),
    ],
)
def test_nothing_vanishes_whatever_happens(engine: str, stories: int) -> None:
    """The same stories every time; `make faults` makes up new ones."""
    examples = os.environ.get("RELAY_EXAMPLES") if LONG else None
    how = settings(
        max_examples=int(examples or stories),
        stateful_step_count=15,
        derandomize=examples is None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(type("Machine", (Machine,), {"engine": engine}), settings=how)  # type: ignore[no-untyped-call]
