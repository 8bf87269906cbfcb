"""Replays, erasures and cohorts in the console, by requests: a real relay, a real console, and stand-ins."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape

import orjson
import pytest
import pytest_asyncio

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.client import find_local
from relay.sandbox.braze.rest_api import CohortApi, Profile
from relay.testing import Destination, make_event
from relay.words import format_span
from tests.console import Browser, until_shown
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.console_place import Place, run_place

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPEN = "users.messages.email.Open"
SECRET = "the key of the stand-in"
MEMBERS = 3


class Acts:
    """A relay that delivers, its console, and a browser of each user."""

    def __init__(self, place: Place, hook: Destination) -> None:
        self.daemon, self.browsers, self.hook = place.daemon, place.browsers, hook
        self.sent = 0

    async def deliver(self, *events: bytes) -> None:
        await self.daemon.post(b'{"events": [%s]}' % b",".join(events))
        self.sent += len(events)
        await self.daemon.settled("hook", self.sent)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, relay_forks: Forks) -> AsyncIterator[Acts]:
    folder = tmp_path_factory.mktemp("acts")
    daemon = Daemon(folder, relay_forks)
    daemon.configure("11-segments", '[source.heap]\ntype = "heap_segments"\npath = "/segments"\n')
    (folder / "key").write_text(SECRET)
    profiles = [Profile(f"user-{number}") for number in range(MEMBERS)]
    async with Destination() as hook, CohortApi(profiles, partner_key=SECRET, data_import_key=SECRET) as api:
        daemon.configure("20-hook", f'[connector.hook]\ntype = "http"\nurl = "{hook.url}"\nevents = ["email"]\n')
        keys = "".join(f'{name} = {{ file = "{folder}/key" }}\n' for name in ("partner_key", "data_import_key"))
        daemon.configure(
            "30-cohorts",
            f'[connector.segments]\ntype = "braze_cohorts"\nendpoint = "{api.url}"\npartner = "heap"\n{keys}',
        )
        async with run_place(daemon, relay_forks) as place:
            yield Acts(place, hook)


async def test_a_replay_starts_after_a_page_that_says_how_many_events_it_has(place: Acts) -> None:
    await place.deliver(*(make_event(OPEN, n=number) for number in range(3)))
    browser, before = place.browsers["sven"], place.sent
    assert "<option>hook</option>" in (await browser.get("/replays/new")).text
    counted = await browser.get(f"/replays/new?connector=hook&events={OPEN}&rate=0.01&since=&until=")
    assert f"{before} events for hook" in counted.text
    assert f"at least {format_span(before * 100)}" in counted.text
    parts = re.search(r'name="parts" value="([^"]+)"', counted.text)
    assert parts
    answer = await browser.post("/replays/start", token=counted.token, parts=unescape(parts[1]))
    assert (answer.status, answer.location) == (303, "/replays")
    page = await until_shown(browser, "/replays", "Replay 1 to hook")
    assert "<progress" in page
    assert (await browser.post("/replays/1/cancel", token=counted.token)).location == "/replays"
    page = await until_shown(browser, "/replays", "No replay is under way.")
    assert "<td>cancelled</td>" in page
    told = (await browser.get("/activity?subject=connector+hook")).text
    assert "<td>sven</td>" in told


async def test_events_are_followed_as_they_pass(place: Acts) -> None:
    for name, is_shown in (("sven", True), ("lena", False)):
        page = await follow(place, place.browsers[name], f"/events/live?at=hook&events={OPEN}")
        assert f">{OPEN}</td>" in page
        assert ("&lt;i&gt;{{ 7 * 7 }}\\u202e" in page) == is_shown
        assert ("... (the page shows the begin)" in page) == is_shown
        assert ("xxx" in page) == is_shown


async def follow(place: Acts, browser: Browser, path: str) -> str:
    """Open a live page, and send events until the page shows one; return the page."""
    async with asyncio.timeout(30), browser.session.get(browser.url + path, headers={"Sec-Fetch-Site": "none"}) as live:
        page = ""
        while not re.search(r"[1-9]\d* events? passed since", page):
            await place.deliver(make_event(OPEN, evil="<i>{{ 7 * 7 }}\u202e", long="x" * 5000))
            page = ""
            while line := (await live.content.readline()).strip():
                page += f"{line.decode()}\n"
        return page


async def test_a_page_without_script_shows_the_events_of_the_next_seconds(place: Acts) -> None:
    path = "/events?at=ingest&events=&collect=1"
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(place.browsers["lena"].get(path), name="page")
        while not asked.done():
            await place.daemon.post(b'{"events": [%s]}' % make_event("users.behaviors.Purchase"))
            await asyncio.wait([asked], timeout=0.5)
    assert ">users.behaviors.Purchase</td>" in asked.result().text


async def test_a_connector_that_is_none_has_no_events(place: Acts) -> None:
    page = (await place.browsers["lena"].get("/events?at=none&events=&collect=1")).text
    assert "No events come: " in page


async def test_a_traced_event_is_delivered_again(place: Acts) -> None:
    event = make_event(OPEN, again="yes")
    await place.deliver(event)
    browser, name = place.browsers["sven"], orjson.loads(event)["id"]
    page = await browser.get(f"/trace?id={name}")
    assert re.search(r"<select name=\"connector\"><option>hook</option></select>", page.text), page.text
    fields = {field: re.search(rf'name="{field}" value="([^"]*)"', page.text) for field in ("offset", "worker")}
    form = {field: found[1] for field, found in fields.items() if found}
    async with asyncio.timeout(30):
        while (
            answer := await browser.post("/trace/deliver", token=page.token, connector="hook", id=name, **form)
        ).status == 502:
            await asyncio.sleep(0.1)  # its position is not saved yet
    assert answer.location.startswith(f"/trace?id={name}&replay="), answer
    arrived = lambda: [one for one in place.hook.events() if one["id"] == name]  # noqa: E731
    await place.daemon.until(arrived, lambda found: len(found) == 2)
    assert "delivers the event once more" in (await browser.get(answer.location)).text
    assert '"again": "yes"' in unescape(page.text)
    assert "again&#34;" not in (await place.browsers["lena"].get(f"/trace?id={name}")).text
    assert "Deliver again" not in (await place.browsers["lena"].get(f"/trace?id={name}")).text
    assert (await browser.post("/trace/deliver", token=page.token, connector="hook", offset="x")).status == 400


async def reload(place: Acts) -> None:
    client = find_local(place.daemon.state)
    assert client is not None
    assert (await asyncio.to_thread(client.ask, "POST", "/reload"))["ok"]


async def test_a_connector_that_is_gone_is_forgotten_after_a_page_says_the_loss(place: Acts) -> None:
    browser = place.browsers["sven"]
    place.daemon.configure("25-old", f'[connector.old]\ntype = "http"\nurl = "{place.hook.url}"\nevents = ["sms"]\n')
    await reload(place)
    assert (await browser.get("/connectors/old/forget")).status == 409, "it is configured"
    await until_shown(browser, "/connectors/old", "Attempts since this connector last started or changed")
    (place.daemon.conf / "25-old.toml").unlink()
    await reload(place)
    await until_shown(browser, "/", '<a href="/connectors/old/forget">Forget</a>')
    asked = await browser.get("/connectors/old/forget")
    assert "0 pending events that nobody delivers then" in asked.text
    assert (await place.daemon.post(b'{"events":[%s]}' % make_event("users.messages.sms.Send")))[0] == 202
    await until_shown(browser, "/connectors/old/forget", "1 newer event that nobody delivers then")
    seen = (await place.browsers["lena"].get("/")).text
    assert seen.count("old: ") == 1, "a removed connector stands there once"
    assert "old: not configured any more, 1 newer event kept in case it comes back." in seen
    assert "connectors/old/forget" not in seen
    assert (await browser.post("/connectors/old/forget", token=asked.token)).location == "/"
    await until_shown(browser, "/activity?kind=forgotten", "<td>sven</td>")


async def test_a_replay_without_a_rate_has_the_usual_rate(place: Acts) -> None:
    page = (await place.browsers["sven"].get("/replays/new?connector=hook&rate=")).text
    assert re.search(r'name="rate" [^>]*value="[1-9]\d*"', page)
    assert "at least" in page or "0 events for hook" in page


@pytest.mark.parametrize("query", ["rate=-1", "rate=x", "rate=inf", "rate=1&since=yesterday"])
async def test_a_wrong_replay_is_refused(place: Acts, query: str) -> None:
    assert (await place.browsers["sven"].get(f"/replays/new?connector=hook&{query}")).status == 400


@pytest.mark.parametrize("parts", ["", "[]", "{}", '[{"connector": "hook"}]'])
async def test_a_replay_starts_only_as_it_was_counted(place: Acts, parts: str) -> None:
    browser = place.browsers["cleo"]
    assert (await browser.post("/replays/start", token=await browser.read_token(), parts=parts)).status == 400


async def test_a_user_is_erased_whose_id_was_typed_twice(place: Acts) -> None:
    browser = place.browsers["sven"]
    form = {"token": await browser.read_token(), "kind": "external_id", "id": "anna-17"}
    assert (await browser.post("/erasures/request", **form, again="anna-71")).status == 400
    assert "no erasure was ever asked for" in (await browser.get("/erasures")).text
    assert (await browser.post("/erasures/request", **form, again="anna-17")).location == "/erasures"
    page = (await browser.get("/erasures")).text
    assert re.search(r'<th scope="row">1</th><td>waiting</td>.*\s*<td>sven</td>', page), page
    assert "anna-17" not in page
    found = await browser.post("/erasures/check", **form)
    assert "0 events in the journal, 0 parked. Erasures of this user: 1." in found.text
    assert "anna-17" not in (await browser.get("/activity")).text


@pytest.mark.parametrize(("kind", "name"), [("phone", "1"), ("external_id", " "), ("alias", "no label"), ("", "x")])
async def test_a_wrong_id_is_refused(place: Acts, kind: str, name: str) -> None:
    browser = place.browsers["sven"]
    form = {"token": await browser.read_token(), "kind": kind, "id": name, "again": name}
    assert (await browser.post("/erasures/request", **form)).status == 400


async def test_cohorts_and_their_members_are_shown(place: Acts) -> None:
    data = {
        "segment": {"id": 42, "name": "<b>Lost carts</b>"},
        "sync_info": {"page_number": 1, "total_pages": 1, "sync_task_id": "1"},
        "add": [{"id": f"user-{number}"} for number in range(MEMBERS)],
        "remove": [],
    }
    body = orjson.dumps({"action_type": "segment.users.sync", "data": data})
    await place.daemon.post(body, path="/segments")
    browser = place.browsers["sven"]
    page = await until_shown(browser, "/cohorts", f"<td>{MEMBERS}</td>")
    assert re.search(
        rf'tables/members\?cohort=42">42</a></th>\s*<td>&lt;b&gt;Lost carts&lt;/b&gt;</td>\s*<td>{MEMBERS}<', page
    )
    assert '<th scope="col">last refusal</th>' in page
    members = (await browser.get("/connectors/segments/tables/members?cohort=42")).text
    assert members.count("external_id:user-") == MEMBERS
    mine = (await browser.get("/connectors/segments/tables/members?user=external_id%3Auser-1")).text
    assert '<th scope="row">42</th>' in mine
    assert "say which" in (await browser.get("/connectors/segments/tables/members")).text
    assert (await browser.get("/connectors/segments/tables/none")).status == 404
    looking = (await place.browsers["lena"].get("/cohorts")).text
    assert "Lost carts" in looking
    assert "last refusal" not in looking
    assert (await place.browsers["lena"].get("/connectors/segments/tables/members?cohort=42")).status == 403
