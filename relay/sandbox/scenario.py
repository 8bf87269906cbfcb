"""The stage of a scenario: a real relay between stand-ins of Heap and Braze, what can happen there, what is checked.

Users act in Heap, a segment of theirs becomes a Braze cohort, a campaign goes to the cohort, and Heap learns of its
sends. `stories` has what happens.
"""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from relay.sandbox.braze.profiles import Profile
from relay.sandbox.braze.rest_api import CohortApi
from relay.sandbox.braze.sender import CurrentsSender
from relay.sandbox.clock import SandboxClock
from relay.sandbox.daemon import DemoFolder, SandboxError, free_port, running
from relay.sandbox.heap.segments import SegmentSync, StandInSegment
from relay.sandbox.heap.track import HeapApi
from relay.sandbox.stream import Stream

DAY_S: Final = 86_400.0
WAIT_S: Final = 30.0
POLL_S: Final = 0.05
CONF: Final = """
[ingest]
listen = "127.0.0.1:{port}"

[source.braze]
type = "currents"
path = "/currents"
tokens = [{{ file = {token} }}]

[source.heap]
type = "heap_segments"
path = "/segments"
secret = {{ file = {token} }}

[connector.heap]
type = "heap"
mode = "api"
app_id = "1"
endpoint = "{heap}"
events = ["message_engagement", "users.behaviors.Purchase"]

[connector.braze]
type = "braze_cohorts"
endpoint = "{braze}"
partner = "heap"
partner_key = {{ file = {token} }}
data_import_key = {{ file = {token} }}
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One sentence of the story, and whether it is true."""

    text: str
    expected: int
    found: int

    @property
    def good(self) -> bool:
        """Whether it is."""
        return self.expected == self.found


@dataclass(frozen=True, slots=True)
class Followed:
    """What happened to one user, as Heap has it, and in which cohorts the user ends."""

    user: str
    expected: Sequence[str]
    found: Sequence[str]

    @property
    def good(self) -> bool:
        """Whether it is what the story says."""
        return [*self.expected] == [*self.found]


@dataclass(slots=True)
class Stage:
    """What a story has to work with, and what it has told so far."""

    heap: HeapApi
    braze: CohortApi
    currents: CurrentsSender
    syncs: SegmentSync
    clock: SandboxClock
    start: float
    told: list[Step | Followed] = field(default_factory=list)

    def tell(self, text: str, expected: int, found: int) -> None:
        """Add a sentence."""
        self.told.append(Step(text, expected, found))

    def follow(self, user: str, *expected: str) -> None:
        """Add what has happened to a user: events by name, on which day, and the cohorts at the end."""
        happened = [
            f"day {round((_moment(event['timestamp']) - self.start) / DAY_S)}: {event['event']}"
            for event in self.heap.events.values()
            if event.get("identity") == user
        ]
        inside = [name for name in self.braze.profiles.names.values() if user in self.audience([name])]
        self.told.append(Followed(user, expected, [*happened, f"in: {', '.join(inside) or 'no cohort'}"]))

    def did(self, event: str) -> set[str]:
        """Who did something, as Heap has it."""
        return {one["identity"] for one in self.heap.events.values() if one["event"] == event}

    def audience(self, includes: Sequence[str], excludes: Sequence[str] = ()) -> set[str]:
        """Who is in a Braze segment with these cohort filters, by external id."""
        return {str(profile.external_id) for profile in self.braze.audience(includes, excludes)}

    async def sync(self, segment: StandInSegment, members: int) -> tuple[int, int]:
        """Have Heap tell who entered and left a segment, and wait until its cohort has so many members; return how many
        users entered and left."""
        changes = await self.syncs.sync(segment, segment.members(self.heap.events.values()))
        await until(lambda: len(self.braze.members[str(segment.id)]) == members)
        return changes

    async def send(self, type: str, audience: Collection[str], name: str, seen_as: str) -> None:
        """Send a message to everybody in the audience; Currents tells of each. Wait until Heap has all of them."""
        before = sum(event["event"] == seen_as for event in self.heap.events.values())
        Stream(self.currents).campaign(type, audience, name)
        await self.flush()
        await until(
            lambda: sum(event["event"] == seen_as for event in self.heap.events.values()) >= before + len(audience)
        )

    async def flush(self) -> None:
        """Have Braze send what it has. Raises SandboxError if relay does not take it."""
        try:
            await asyncio.wait_for(self.currents.send(), WAIT_S)
        except TimeoutError:
            raise SandboxError(f"relay did not take the events within {WAIT_S:g} s") from None
        if self.currents.stopped:
            raise SandboxError(f"Braze would have stopped the Current: {self.currents.stopped}")


@asynccontextmanager
async def stage(
    folder: Path, known: Iterable[str], command: Sequence[str] = (sys.executable, "-m", "relay")
) -> AsyncIterator[Stage]:
    """Set it up in a folder; Braze has the profiles of `known`, by external id. Raises SandboxError."""
    token, clock = secrets.token_urlsafe(16), SandboxClock()
    profiles = map(Profile, known)
    async with (
        HeapApi(clock=clock) as heap,
        CohortApi(profiles, partner_key=token, data_import_key=token, clock=clock) as braze,
    ):
        place = await asyncio.to_thread(_prepare, folder, token, heap.url, braze.url)
        async with (
            running(place, command),
            CurrentsSender(place.url("/currents"), token=token, clock=clock) as currents,
            SegmentSync(place.url("/segments"), token, page=10) as syncs,
        ):
            yield Stage(heap, braze, currents, syncs, clock, clock())


async def until(good: Callable[[], bool]) -> None:
    """Wait for that, but not for ever: the story tells what is missing."""
    deadline = time.monotonic() + WAIT_S
    while True:
        if good() or time.monotonic() > deadline:
            return
        await asyncio.sleep(POLL_S)


def _moment(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _prepare(folder: Path, token: str, heap: str, braze: str) -> DemoFolder:
    place, file = DemoFolder(folder, free_port()), folder / "token"
    place.conf.mkdir()
    place.state.mkdir(mode=0o700)
    file.touch(mode=0o600)
    file.write_text(token)
    (place.conf / "relay.toml").write_text(
        CONF.format(port=place.port, token=json.dumps(str(file)), heap=heap, braze=braze)
    )
    return place
