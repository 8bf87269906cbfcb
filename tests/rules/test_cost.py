"""What the hot path costs, counted instead of timed: the same on every machine, however busy.

Requests go through the real intake, journal, lane and connector, in process and without a network. Counted is what our
own code does, and what writes its log lines, per event: bytecode instructions, calls (of Python functions, and of C
functions), and the objects that those C functions leave behind. Other libraries are not counted, nor is what a C
function does inside: for that there is `make bench`.
"""

import asyncio
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final, NamedTuple

import orjson
import pytest
import structlog
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

import relay
import relay_plugins
from relay.api import Block, Event, Filter, Kind
from relay.catalogue import Selection
from relay.config.model import Config, Configured, IngestSettings
from relay.deliver.fleet import Fleet
from relay.deliver.live_lane import LiveLane
from relay.ingest.server import Ingest
from relay.journal.journal import Journal
from relay.route import Route
from relay.sandbox.shapes import list_types, make_event
from relay.state.database import StateDatabase
from relay.state.state_folder import FolderInbox
from relay.store.log import JournalLimits
from relay_plugins.currents import Currents
from relay_plugins.filters import Hash, Redact, Rename
from relay_plugins.http import Http
from tests.unit.plugins.filters.make import make

REQUESTS: Final = {1: 40, 10: 20, 100: 10}
"""By events per request."""
OURS: Final = tuple(f"{Path(path)}/" for package in (relay, relay_plugins, structlog) for path in package.__path__)


class Cost(NamedTuple):
    """Per event."""

    instructions: float
    calls: float
    objects: float


BUDGETS: Final = {1: Cost(1820, 160, 7), 10: Cost(255, 22.8, 3.6), 100: Cost(57, 5.3, 3.3)}
"""By events per request, as counted by CPython 3.11."""
FILTERS: Final[dict[str, tuple[type[Filter], dict[str, Any], Cost]]] = {
    "rename": (Rename, {"fields": {"user.user_id": "user.braze_id"}}, Cost(465, 31.2, 6.5)),
    "redact": (Redact, {"fields": ["user.user_id"]}, Cost(470, 32.2, 6.5)),
    "hash": (Hash, {"fields": ["user.user_id"], "secret": {"env": "RELAY_TEST_SECRET"}}, Cost(530, 42.2, 6.5)),
    "pii": (Redact, {"fields": ["pii"]}, Cost(635, 43.4, 23)),
}
"""By name: the filter, its settings, and its budget for an event, as counted by CPython 3.11."""
MARGIN: Final = 1.1
"""A budget may be exceeded by a tenth, and is to be lowered when a sixth of it is no longer used: so that a third more
is too much, wherever within it one is."""
LOOSE: Final = 5 / 6
ADVICE: Final = """
{what}: an event costs {found}, its budget is {budget}.
Something new happens per event or per request. Take it out, do it once per batch, or, if it must be, see what it costs
in `make bench` and raise the budget in {file}.
"""


class Counting:
    """Counts what our code does while it is on, in this thread and in those that begin meanwhile."""

    def __init__(self) -> None:
        self._instructions, self._calls, self._objects = (defaultdict[int, int](int) for _ in range(3))
        self._blocks = self._depth = 0

    def per(self, events: int) -> Cost:
        """What it came to."""
        counts = (self._instructions, self._calls, self._objects)
        return Cost(*(round(sum(each.values()) / events, 1) for each in counts))

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        """For sys.settrace."""
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._trace_inside

    def _trace_inside(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            self._instructions[threading.get_ident()] += 1
        return self._trace_inside

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """For sys.setprofile. Other threads make objects of their own meanwhile, so only this one's are counted."""
        if not frame.f_code.co_filename.startswith(OURS):
            return
        thread = threading.get_ident()
        if event in ("call", "c_call"):
            self._calls[thread] += 1
        if thread == threading.main_thread().ident:
            self._count_objects(thread, event)

    def _count_objects(self, thread: int, event: str) -> None:
        """Count blocks around C functions only: Python counts them one pool after the other, and tests have many."""
        if event == "c_return" and (blocks := sys.getallocatedblocks()) > self._blocks:
            self._objects[thread] += blocks - self._blocks
        self._depth += (event == "c_call") - (event in ("c_return", "c_exception"))
        if self._depth > 0 and event != "call":
            self._blocks = sys.getallocatedblocks() + 1  # one object is what the function returns

    @contextmanager
    def on(self) -> Iterator[None]:
        """Count from here on."""
        before = sys.gettrace(), sys.getprofile()
        threading.settrace(self.trace)
        threading.setprofile(self.profile)
        sys.settrace(self.trace)
        sys.setprofile(self.profile)
        try:
            yield
        finally:
            sys.setprofile(before[1])
            sys.settrace(before[0])
            threading.setprofile(None)  # type: ignore[arg-type]
            threading.settrace(None)  # type: ignore[arg-type]


class Sink(Http):
    """The connector as it is, but for the network."""

    taken = 0

    async def post(self, url: str, body: bytes, headers: Any, *, method: str = "POST") -> dict[str, str]:
        self.taken += len(orjson.loads(body)["events"])
        return {}


class Pipeline:
    """Everything between a request and a delivery."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal", JournalLimits(max_size=64 << 20, retention=3600), 64 << 20)
        self.state = StateDatabase(folder)
        tokens = [{"file": str(folder / "token")}]
        (folder / "token").write_text("secret")
        source = Currents.Settings.model_validate({"type": "currents", "path": "/currents", "tokens": tokens})
        self.ingest = Ingest([Currents("braze", source)], IngestSettings(), FolderInbox(self.journal, self.state))
        self.folder = folder

    async def lane(self, name: str) -> LiveLane:
        """A lane that begins at the journal's head."""
        settings = Sink.Settings.model_validate({"type": "http", "url": "http://127.0.0.1:9/"})
        fleet = Fleet(self.journal, self.state, self.folder)
        await fleet.open(Config(connectors={name: Configured(name, Sink, settings)}))
        return fleet.lanes[0]

    async def take(self, requests: list[web.Request]) -> None:
        for one in requests:
            answer = await self.ingest.intakes["braze"].handle(one)
            assert answer.status == 202

    async def deliver(self, lane: LiveLane) -> None:
        """Let the lane run until all is delivered."""
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(lane.run())
            while lane.cursor.position < self.journal.head:
                await asyncio.sleep(0.01)
            lane.stop()

    async def close(self) -> None:
        await self.journal.close()
        self.state.close()


def request(body: bytes) -> web.Request:
    """A request as aiohttp hands it over, its body already there."""
    reader = StreamReader(BaseProtocol(asyncio.get_running_loop()), 1 << 20)
    reader.feed_data(body)
    reader.feed_eof()
    headers = {"Authorization": "Bearer secret", "Content-Length": str(len(body))}
    return make_mocked_request("POST", "/currents", headers=headers, payload=reader)


def bodies(batch: int) -> list[bytes]:
    """The fixed input."""
    rng = Random(1)
    events = [make_event(rng.choice(list_types()), rng, 0.0) for _ in range(REQUESTS[batch] * batch)]
    return [orjson.dumps({"events": events[at : at + batch]}) for at in range(0, len(events), batch)]


@pytest.fixture(autouse=True)
def _nothing_seems_to_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting takes so long that plugins seem to hold up relay. No line of the log may say so: it would be counted."""
    callers = [one for name, one in sys.modules.items() if name.startswith("relay.") and hasattr(one, "warn_blocked")]
    assert callers
    for module in callers:
        monkeypatch.setattr(module, "warn_blocked", lambda *_, **__: None)


async def cost(folder: Path, batch: int) -> Cost:
    """What an event costs on its way through; the first round fills caches and is not counted."""
    pipeline, counting, sent = Pipeline(folder), Counting(), bodies(batch)
    try:
        for name, way in (("warm_up", nullcontext), ("counted", counting.on)):
            lane = await pipeline.lane(name)
            requests = [request(body) for body in sent]  # while nothing is counted: the stand-ins take many calls
            with way():
                await pipeline.take(requests)
                await pipeline.deliver(lane)
            connector: Any = lane.connector
            assert connector.taken == REQUESTS[batch] * batch
        return counting.per(REQUESTS[batch] * batch)
    finally:
        await pipeline.close()


def check(what: str, found: Cost, budget: Cost) -> None:
    within = all(mine <= most * MARGIN for mine, most in zip(found, budget, strict=True))
    assert within, ADVICE.format(what=what, found=found, budget=budget, file=__file__)
    if sys.version_info[:2] == (3, 11):  # others need fewer instructions
        tight = found.instructions >= budget.instructions * LOOSE and found.calls >= budget.calls * LOOSE
        assert tight, f"{what}: an event costs only {found}, lower its budget of {budget}"


@pytest.mark.parametrize("batch", BUDGETS)
def test_an_event_costs_no_more_than_its_budget(tmp_path: Path, batch: int) -> None:
    check(f"{batch} events per request", asyncio.run(cost(tmp_path, batch)), BUDGETS[batch])


@pytest.mark.parametrize("name", FILTERS)
def test_a_changed_event_costs_no_more_than_its_budget(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RELAY_TEST_SECRET", "a secret of sixteen characters")
    cls, settings, budget = FILTERS[name]
    step = make(cls, **settings)
    events = [one for body in bodies(100) for one in orjson.loads(body)["events"] if one["user"].get("user_id")]
    kinds = {name: Kind("braze", name) for name in list_types()}
    block = Block.of([Event(orjson.dumps(one), kinds[one["event_type"]], at, 0.0) for at, one in enumerate(events)])
    route, counting = Route(Selection(["*"]), [step]), Counting()
    route(block)
    with counting.on():
        routed = route(block)
    assert routed.wanted is not None
    assert all(b'"user_id"' not in body or name == "hash" for body in routed.wanted.bodies())
    check(name, counting.per(len(block)), budget)
