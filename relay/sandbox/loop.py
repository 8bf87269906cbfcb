"""The closed loop, as a story: what users do is seen in Heap, a segment becomes a Braze cohort, a campaign goes to it,
and what the campaign sent is in Heap again. All through a real relay, between stand-ins of both.
"""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relay.sandbox.braze import CurrentsSender
from relay.sandbox.cohorts import CohortApi
from relay.sandbox.daemon import Place, SandboxError, free_port, running
from relay.sandbox.profiles import Profile
from relay.sandbox.segments import Segment, SegmentSync
from relay.sandbox.stream import Stream
from relay.sandbox.track import HeapApi

VISITORS: Final = 40
DONE: Final = 12
"""Of them did at once what the campaign is to bring about; they are not in the segment."""
STRANGERS: Final = 3
"""Of those in the segment, Braze does not know."""
WON: Final = 5
"""Do it after the campaign."""
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
events = ["message_engagement"]

[connector.braze]
type = "braze_cohorts"
endpoint = "{braze}"
partner = "heap"
partner_key = {{ file = {token} }}
data_import_key = {{ file = {token} }}
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Whom a campaign is for, what it sends, and how that is called in Heap."""

    segment: Segment
    sends: str
    seen_as: str


SCENARIOS: Final = {
    "funnel": Scenario(
        Segment(1, "Lost carts", "Checkout Started", "Purchase"), "users.messages.email.Send", "Email Send"
    ),
    "trial": Scenario(
        Segment(2, "Stuck at the import", "Import Failed", "Import Finished"),
        "users.messages.pushnotification.Send",
        "Push Notification Send",
    ),
    "offer": Scenario(
        Segment(3, "Looked at the prices", "Prices Viewed", "Subscribed"),
        "users.messages.inappmessage.Impression",
        "In-App Message Impression",
    ),
}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One scenario, to be played in a folder."""

    scenario: Scenario
    folder: Path
    command: Sequence[str] = (sys.executable, "-m", "relay")

    async def run(self) -> list[Step]:
        """Play it. Raises SandboxError if it could not be played to its end."""
        token = secrets.token_urlsafe(16)
        known = [Profile(_name(number)) for number in range(VISITORS - STRANGERS)]
        async with HeapApi() as heap, CohortApi(known, partner_key=token, data_import_key=token) as braze:
            place = await asyncio.to_thread(_prepare, self.folder, token, heap.url, braze.url)
            async with (
                running(place, self.command),
                CurrentsSender(place.url("/currents"), token=token) as currents,
                SegmentSync(place.url("/segments"), token, page=10) as sync,
            ):
                return await _play(self.scenario, heap, braze, currents, sync)


async def _play(
    scenario: Scenario, heap: HeapApi, braze: CohortApi, currents: CurrentsSender, sync: SegmentSync
) -> list[Step]:
    segment, steps = scenario.segment, list[Step]()
    heap.capture(segment.did, map(_name, range(VISITORS)))
    heap.capture(segment.did_not, map(_name, range(DONE)))
    entered, _ = await sync.sync(segment, segment.members(heap.events.values()))
    steps.append(Step(f'users in the Heap segment "{segment.name}"', VISITORS - DONE, entered))

    cohort = braze.members[str(segment.id)]
    expected = {_name(number) for number in range(DONE, VISITORS - STRANGERS)}
    await _until(lambda: len(cohort) == len(expected) and braze.books.unknown == STRANGERS)
    audience = {str(profile.external_id) for profile in braze.audience([segment.name])}
    steps.append(Step("of them in the Braze cohort", len(expected), len(audience & expected)))
    steps.append(Step("unknown to Braze, and ignored", STRANGERS, braze.books.unknown))

    await _send_campaign(currents, scenario.sends, audience)
    steps.append(Step(f"sent to, as {scenario.sends}", len(expected), currents.counts.accepted))
    await _until(lambda: len(_reached(heap, scenario.seen_as)) == len(audience))
    reached = _reached(heap, scenario.seen_as)
    steps.append(Step(f'of them in Heap with "{scenario.seen_as}"', len(expected), len(reached & expected)))

    heap.capture(segment.did_not, sorted(audience)[:WON])
    _, left = await sync.sync(segment, segment.members(heap.events.values()))
    steps.append(Step(f'did "{segment.did_not}" and left the segment', WON, left))
    await _until(lambda: len(braze.members[str(segment.id)]) == len(expected) - WON)
    steps.append(Step("still in the Braze cohort", len(expected) - WON, len(braze.members[str(segment.id)])))
    return steps


async def _send_campaign(currents: CurrentsSender, type: str, audience: Collection[str]) -> None:
    """Send a message to everybody in the audience; Currents tells of each."""
    Stream(currents).campaign(type, audience, "Come back")
    await _within(currents.send())
    if currents.stopped:
        raise SandboxError(f"Braze would have stopped the Current: {currents.stopped}")


def _reached(heap: HeapApi, name: str) -> set[str]:
    return {event["identity"] for event in heap.events.values() if event["event"] == name}


async def _within(work: Awaitable[Any]) -> None:
    try:
        await asyncio.wait_for(work, WAIT_S)
    except TimeoutError:
        raise SandboxError(f"relay did not take the events within {WAIT_S:g} s") from None


async def _until(good: Callable[[], bool]) -> None:
    """Wait for that, but not for ever: the story tells what is missing."""
    deadline = time.monotonic() + WAIT_S
    while True:
        if good() or time.monotonic() > deadline:
            return
        await asyncio.sleep(POLL_S)


def _prepare(folder: Path, token: str, heap: str, braze: str) -> Place:
    place, file = Place(folder, free_port()), folder / "token"
    place.conf.mkdir()
    place.state.mkdir(mode=0o700)
    file.touch(mode=0o600)
    file.write_text(token)
    (place.conf / "relay.toml").write_text(
        CONF.format(port=place.port, token=json.dumps(str(file)), heap=heap, braze=braze)
    )
    return place


def _name(number: int) -> str:
    return f"visitor-{number:02}"
