"""The stage of a scenario: a real relay between stand-ins of Heap and Braze, with actions and checks for stories.

Users act in Heap, a segment of users becomes a Braze cohort, a campaign goes to the cohort, and Heap gets its sends.
`stories` has the scenarios.
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
from relay.sandbox.daemon import DemoFolder, SandboxError, find_free_port, run_relay
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
    """One sentence of a story, with the expected and the found number."""

    text: str
    expected: int
    found: int

    @property
    def good(self) -> bool:
        """Return whether the sentence is true."""
        return self.expected == self.found


@dataclass(frozen=True, slots=True)
class Followed:
    """The events of one user in Heap, and the cohorts of the user at the end."""

    user: str
    expected: Sequence[str]
    found: Sequence[str]

    @property
    def good(self) -> bool:
        """Return whether the user has the events and cohorts of the story."""
        return [*self.expected] == [*self.found]


@dataclass(slots=True)
class Stage:
    """The stand-ins of a story, and the checks that the story has made."""

    heap: HeapApi
    braze: CohortApi
    currents: CurrentsSender
    syncs: SegmentSync
    clock: SandboxClock
    start: float
    told: list[Step | Followed] = field(default_factory=list)

    def tell(self, text: str, expected: int, found: int) -> None:
        """Add a sentence with its numbers."""
        self.told.append(Step(text, expected, found))

    def follow(self, user: str, *expected: str) -> None:
        """Add the events of a user, by day and name, and the cohorts at the end."""
        happened = []
        for event in self.heap.events.values():
            if event.get("identity") == user:
                passed = datetime.fromisoformat(event["timestamp"]).timestamp() - self.start
                happened.append(f"day {round(passed / DAY_S)}: {event['event']}")
        inside = [name for name in self.braze.profiles.names.values() if user in self.find_audience([name])]
        self.told.append(Followed(user, expected, [*happened, f"in: {', '.join(inside) or 'no cohort'}"]))

    def find_users_with(self, event: str) -> set[str]:
        """Return the identities with an event in Heap."""
        return {found["identity"] for found in self.heap.events.values() if found["event"] == event}

    def find_audience(self, includes: Sequence[str], excludes: Sequence[str] = ()) -> set[str]:
        """Return the external ids of the users of a Braze segment by cohorts."""
        return {str(profile.external_id) for profile in self.braze.find_audience(includes, excludes)}

    async def sync(self, segment: StandInSegment, members: int) -> tuple[int, int]:
        """Sync a segment, and wait until its cohort has `members` members. Return how many users entered and left."""
        changes = await self.syncs.sync(segment, segment.find_members(self.heap.events.values()))
        await wait_until(lambda: len(self.braze.members[str(segment.id)]) == members)
        return changes

    async def send(self, type: str, audience: Collection[str], name: str, seen_as: str) -> None:
        """Send a message to the users of an audience. Wait until Heap has an event `seen_as` for each of them."""
        before = sum(event["event"] == seen_as for event in self.heap.events.values())
        Stream(self.currents).queue_campaign(type, audience, name)
        await self.flush()
        await wait_until(
            lambda: sum(event["event"] == seen_as for event in self.heap.events.values()) >= before + len(audience)
        )

    async def flush(self) -> None:
        """Have Braze send its queued events. Raises SandboxError if relay does not accept them."""
        try:
            await asyncio.wait_for(self.currents.send(), WAIT_S)
        except TimeoutError:
            raise SandboxError(f"relay did not take the events within {WAIT_S:g} s") from None
        if self.currents.stopped:
            raise SandboxError(f"Braze would have stopped the Current: {self.currents.stopped}")


@asynccontextmanager
async def set_stage(
    folder: Path, known: Iterable[str], command: Sequence[str] = (sys.executable, "-m", "relay")
) -> AsyncIterator[Stage]:
    """Run relay and the stand-ins in a folder. `known`: external ids of the users of Braze. Raises SandboxError."""
    token, clock = secrets.token_urlsafe(16), SandboxClock()
    profiles = map(Profile, known)
    async with (
        HeapApi(clock=clock) as heap,
        CohortApi(profiles, partner_key=token, data_import_key=token, clock=clock) as braze,
    ):
        place = await asyncio.to_thread(_prepare, folder, token, heap.url, braze.url)
        async with (
            run_relay(place, command),
            CurrentsSender(place.make_url("/currents"), token=token, clock=clock) as currents,
            SegmentSync(place.make_url("/segments"), token, page=10) as syncs,
        ):
            yield Stage(heap, braze, currents, syncs, clock, clock())


async def wait_until(good: Callable[[], bool]) -> None:
    """Wait until a condition holds, but no longer than WAIT_S: the checks of the story show what is missing."""
    deadline = time.monotonic() + WAIT_S
    while True:
        if good() or time.monotonic() > deadline:
            return
        await asyncio.sleep(POLL_S)


def _prepare(folder: Path, token: str, heap: str, braze: str) -> DemoFolder:
    place, file = DemoFolder(folder, find_free_port()), folder / "token"
    place.conf.mkdir()
    place.state.mkdir(mode=0o700)
    file.touch(mode=0o600)
    file.write_text(token)
    (place.conf / "relay.toml").write_text(
        CONF.format(port=place.port, token=json.dumps(str(file)), heap=heap, braze=braze)
    )
    return place
