"""What the browser meets: a relay between Braze and Heap, with something of everything that pages show."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from playwright.async_api import Browser

from relay.sandbox.braze.rest_api import CohortApi, Profile
from relay.sandbox.heap.segments import SegmentSync, StandInSegment
from relay.testing import Destination, make_event
from tests.browser.chromium import Window, open_window
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.commands import act, ask_replay
from tests.process.console_place import Place, run_place

EVIL = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">{{ 7 * 7 }}\u202e"
"""The markup that hostile events have."""
SECRET = "nobody-may-see-this"
OPEN = "users.messages.email.Open"
CONFIGURATION = """# of a person
[source.heap]
type = "heap_segments"
path = "/segments"
secret = {{ file = "{secret}" }}

[connector.hook]
type = "http"
url = "{hook}"
events = ["email"]
retry = {{ first = "10ms", max = "50ms" }}

[connector.cohorts]
type = "braze_cohorts"
endpoint = "{cohorts}"
partner = "heap"
partner_key = {{ file = "{secret}" }}
data_import_key = {{ file = "{secret}" }}
"""
LAUNCHED = "# launched by the tests\n"


@dataclass
class Stage:
    """The relay, what it delivers to, its console, and the browser."""

    place: Place
    hook: Destination
    cohorts: CohortApi
    browser: Browser
    parked: int = 0
    """The number of the parked event with markup."""

    @property
    def daemon(self) -> Daemon:
        """The relay."""
        return self.place.daemon

    @asynccontextmanager
    async def open_window(self, user: str | None, *, javascript: bool = True) -> AsyncIterator[Window]:
        """Open a window of a user who is signed in. None: nobody is signed in."""
        cookies = {cookie.key: cookie.value for cookie in self.place.browsers[user].session.cookie_jar} if user else {}
        async with open_window(self.browser, self.place.console.url, cookies, javascript=javascript) as window:
            yield window

    async def send(self, *events: bytes) -> None:
        """Send events."""
        status, answer = await self.daemon.post(b'{"events": [%s]}' % b",".join(events))
        assert status in (200, 202), answer

    async def park(self, *events: bytes) -> list[int]:
        """Have events refused by their destination; return their numbers."""
        before = {one.number for one in self.daemon.parked()}
        self.hook.behaviour = 400
        await self.send(*events)
        parked = await self.daemon.until(self.daemon.parked, lambda found: len(found) == len(before) + len(events))
        self.hook.behaviour = 200
        return [one.number for one in parked if one.number not in before]


@asynccontextmanager
async def set_stage(folder: Path, forks: Forks, browser: Browser) -> AsyncIterator[Stage]:
    """Run everything, with a parked event, a replay, a cohort, a launch and the receipt of an erasure."""
    daemon = Daemon(folder, forks)
    secret = folder / "secret"
    secret.write_text(SECRET)
    profiles = [Profile(f"user-{number}") for number in range(3)]
    async with Destination() as hook, CohortApi(profiles, partner_key=SECRET, data_import_key=SECRET) as cohorts:
        daemon.configure("20-stage", CONFIGURATION.format(secret=secret, hook=hook.url, cohorts=cohorts.url))
        async with run_place(daemon, forks) as place:
            stage = Stage(place, hook, cohorts, browser)
            await _fill(stage)
            yield stage


async def _fill(stage: Stage) -> None:
    await stage.place.put("71-old.toml", '[connector.old]\ntype = "stdout"\n')
    await stage.place.put("71-old.toml", "# the connector is gone\n")
    await stage.place.put("70-empty.toml", LAUNCHED)
    await stage.send(make_event(EVIL, evil=EVIL), name_event("delivered"))
    await stage.hook.received(1)
    (stage.parked,) = await stage.park(name_event("evil", evil=EVIL))
    await stage.daemon.settled("hook", 2)
    await ask_replay(stage.daemon, 0, 1)
    async with SegmentSync(f"{stage.daemon.url}/segments", SECRET) as heap:
        await heap.sync(StandInSegment(42, "Lost carts", "x"), {"user-1", "user-2"})
    await act(stage.daemon, "erasures", "request", "--external-id", "somebody-else")


def name_event(name: str, type: str = OPEN, **properties: Any) -> bytes:
    """Return the bytes of an event with this id."""
    return orjson.dumps({**orjson.loads(make_event(type, **properties)), "id": name})
