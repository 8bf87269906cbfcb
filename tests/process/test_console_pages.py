"""The pages that act on many events, by requests: a real relay whose destination refuses, and a real console."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import unescape
from urllib.parse import quote

import pytest
import pytest_asyncio

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.routes import ROUTES
from relay.testing import Answer, Destination, make_event
from tests.console import until_shown
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.console_place import Place, run_place

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPEN, CLICK = "users.messages.email.Open", "users.messages.email.Click"
EVIL = "<script>alert(1)</script>{{ 7 * 7 }}\u202e"
LARGE = 70_000
OVERLARGE = 900_000
ODD = quote(EVIL, safe="")
UNSAFE = re.compile("<script>alert|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Markup of others; and characters that control a screen or turn a text round."""
QUERIES = (
    "/trace?id={odd}",
    "/trace?id={odd}&replay={odd}",
    *(f"/parked?{name}={{odd}}" for name in ("connector", "source", "cause", "type", "reason", "since", "after", "x")),
    "/parked/confirm?act={odd}&number=1",
    "/parked/confirm?act=drop&which=type%3D{odd}",
    "/parked/confirm?act=drop&which={odd}",
    "/parked/export?which={odd}",
    "/activity?kind={odd}&subject={odd}",
    "/connectors/hook?launched={odd}",
    "/files/show?path={odd}",
    "/files/edit?name={odd}",
    "/connectors/new?type={odd}",
    *(f"/replays/new?connector=hook&{name}={{odd}}" for name in ("since", "until", "events", "rate")),
    "/replays/new?connector={odd}",
    "/events?at={odd}&events={odd}",
    "/catalogue?count=1",
    *(f"/journal?read={what}" for what in ("check", "audit", "types", "{odd}")),
    "/sign-in?back={odd}",
    "/sign-in/link?key={odd}",
    "/parked",
    "/activity",
)
"""Pages that show what events or the address bar say."""


class Parking:
    """A relay that parks each event, its console, and a browser of each user."""

    def __init__(self, place: Place, hook: Destination) -> None:
        self.daemon, self.browsers, self.hook = place.daemon, place.browsers, hook

    async def park(self, *events: bytes) -> None:
        before = len(self.daemon.parked())
        await self.daemon.post(b'{"events": [%s]}' % b",".join(events))
        await self.daemon.until(self.daemon.parked, lambda found: len(found) == before + len(events))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, relay_forks: Forks) -> AsyncIterator[Parking]:
    daemon = Daemon(tmp_path_factory.mktemp("console"), relay_forks)
    async with Destination() as hook:
        hook.behaviour = 400
        daemon.configure("20-hook", f'[connector.hook]\ntype = "http"\nurl = "{hook.url}"\nevents = ["email"]\n')
        async with run_place(daemon, relay_forks) as place:
            yield Parking(place, hook)


async def test_an_action_without_the_right_is_in_the_history(place: Parking) -> None:
    looker = place.browsers["lena"]
    token = await looker.read_token()
    for path in ("/connectors/hook/pause", "/parked/drop", "/replays/3/cancel"):
        assert (await looker.post(path, token=token)).status == 403
        assert (await looker.post(path)).status == 403, "a form of another site is no action of the user"
    page = await until_shown(looker, "/activity?kind=refused", "may not do this: cancel")
    told = re.findall(r"<td>refused</td><td>([^<]+)</td><td[^>]*>([^<]+)</td><td>lena</td>", page)
    assert sorted(told) == [
        ("connector hook", "lena may not do this: pause"),
        ("parked events", "lena may not do this: drop"),
        ("replay 3", "lena may not do this: cancel"),
    ]


async def test_an_event_is_shown_as_text_to_users_who_may_see_content(place: Parking) -> None:
    await place.park(make_event(OPEN, evil=EVIL, large="x" * LARGE))
    number = place.daemon.parked()[-1].number
    shown = (await place.browsers["sven"].get(f"/parked/{number}")).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}\\u202e" in shown
    assert "The page shows the first 64.0 KiB of 68." in shown
    assert "<dt>Reason</dt>" in shown
    whole = await place.browsers["sven"].get(f"/parked/{number}/content")
    assert whole.headers["Content-Type"] == "application/octet-stream"
    assert whole.headers["Content-Disposition"] == f'attachment; filename="parked-{number}.json"'
    assert len(whole.text) > LARGE
    assert EVIL in whole.text
    hidden = (await place.browsers["lena"].get(f"/parked/{number}")).text
    assert "<dt>Cause</dt><dd>refused</dd>" in hidden
    assert "<dt>Reason</dt>" not in hidden
    assert "alert" not in hidden


async def test_what_others_make_up_is_text_on_every_page(place: Parking) -> None:
    event = json.loads(make_event(OPEN, evil=EVIL)) | {"id": EVIL}
    place.hook.behaviour = Answer(status=400, body=EVIL.encode())
    await place.park(json.dumps(event).encode())
    place.hook.behaviour = 400
    await place.daemon.post(b'{"events": [%s]}' % make_event(EVIL))
    number = place.daemon.parked()[-1].number
    paths = [re.sub(r"{number[^/]*}", str(number), one.path) for one in ROUTES if one.method == "GET"]
    odd = [re.sub(r"{[^/]*}", ODD, path) for path in paths if not path.startswith("/static") and "/content" not in path]
    browser, told = place.browsers["cleo"], dict[str, str]()
    for path in [*odd, *(query.format(odd=ODD) for query in QUERIES)]:
        answer = await browser.get(path)
        assert answer.status < 500 or answer.status == 502, f"{path}: {answer.status} {answer.text}"
        is_page = answer.headers.get("Content-Type", "").startswith("text/html")
        assert not (is_page and UNSAFE.search(answer.text)), f"{path}: {answer.text}"
        told[path] = unescape(answer.text)
    shown = EVIL.replace("\u202e", "\\u202e")
    for path in (
        f"/parked/{number}",
        f"/trace?id={ODD}",
        "/parked",
        "/journal?read=types",
        f"/activity?kind={ODD}&subject={ODD}",
    ):
        assert shown in told[path], f"{path}: {told[path]}"


async def test_bytes_that_are_no_event_are_shown_as_they_are(place: Parking) -> None:
    bad = b'{"event_type":"%s","id":17,"evil":"<script>alert(1)</script>","large":"%s"}' % (
        OPEN.encode(),
        b"x" * OVERLARGE,
    )
    latin = b'{"event_type":"%s","id":"caf\xe9"}' % OPEN.encode()
    await place.park(bad, latin)
    one, other = (one for one in place.daemon.parked() if one.cause == "unreadable")
    page = (await place.browsers["sven"].get(f"/parked/{other.number}")).text
    assert '"id":"caf\\xe9"}' in unescape(page)
    assert "not UTF-8" in page
    page = (await place.browsers["sven"].get(f"/parked/{one.number}")).text
    assert not UNSAFE.search(page)
    assert '"id":17,"evil":"<script>alert(1)</script>","large":"xxx' in unescape(page)
    assert len(page) < OVERLARGE // 5
    assert (await place.browsers["sven"].get(f"/parked/{one.number}/content")).text == bad.decode()


async def test_a_replay_is_offered_for_what_a_connector_can_get(place: Parking) -> None:
    await place.park(make_event(OPEN), b"17", b"18")
    parked = sorted(place.daemon.parked()[-3:], key=lambda one: one.cause)
    event, first, second = (one.number for one in parked)  # refused, unreadable, unreadable
    browser = place.browsers["sven"]
    for path, is_offered in (
        ("/parked", True),
        (f"/parked/{event}", True),
        (f"/parked/{first}", False),
        ("/parked?cause=unreadable", False),
    ):
        assert ('value="replay"' in (page := (await browser.get(path)).text)) == is_offered, path
        assert ("no event that a connector can get" in page) != is_offered, path
    ask = "/parked/confirm?act=replay&number="
    asked = (await browser.get(f"{ask}{event}&number={first}&number={second}")).text
    assert "Replay 1 parked event?" in asked
    assert "2 parked events more cannot be replayed" in asked
    refused = await browser.get(f"{ask}{first}&number={second}")
    assert (refused.status, "2 parked events cannot be replayed" in refused.text) == (409, True)


async def test_users_who_may_only_look_learn_no_reason(place: Parking) -> None:
    await place.park(make_event(OPEN))
    reason = place.daemon.parked()[-1].reason
    assert reason in unescape((await place.browsers["sven"].get("/parked")).text)
    looking = await place.browsers["lena"].get("/parked")
    assert f">{OPEN}</td>" in looking.text
    assert reason not in unescape(looking.text)
    assert "reason" not in looking.text
    assert (await place.browsers["lena"].get("/parked?reason=x")).status == 403, "or a user could guess reasons"


async def test_ticked_events_are_replayed_after_a_page_that_says_how_many(place: Parking) -> None:
    await place.park(make_event(OPEN, n="ticked"), make_event(OPEN, n="ticked too"), make_event(OPEN, n="left"))
    first, second, left = (one.number for one in place.daemon.parked()[-3:])
    browser = place.browsers["sven"]
    asked = await browser.get(f"/parked/confirm?number={first}&number={second}&act=replay")
    assert "Replay 2 parked events?" in asked.text
    place.hook.behaviour = 200
    answer = await browser.post("/parked/replay", token=asked.token, numbers=read_field(asked.text, "numbers"))
    assert (answer.status, answer.location) == (303, "/parked?replay=2")
    await place.daemon.until(place.daemon.parked, lambda found: not {first, second} & {one.number for one in found})
    place.hook.behaviour = 400
    assert [one["properties"]["n"] for one in place.hook.events()] == ["ticked", "ticked too"]
    assert (await browser.get(f"/parked/{first}")).status == 404
    assert (await browser.get(f"/parked/{left}")).status == 200
    page = (await browser.get("/activity?kind=parked_replayed")).text
    assert "2 parked events to be delivered once more</td><td>sven</td>" in page


def read_field(page: str, name: str) -> str:
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)"', page)
    assert found, page
    return unescape(found[1])


async def test_ticked_events_and_all_that_a_filter_matches_are_exported(place: Parking) -> None:
    await place.park(*(make_event(OPEN, kept=number) for number in range(60)))
    browser, numbers = place.browsers["sven"], [one.number for one in place.daemon.parked()[-2:]]
    some = await browser.get(f"/parked/export?number={numbers[0]}&number={numbers[1]}")
    assert [json.loads(line)["properties"]["kept"] for line in some.text.splitlines()] == [58, 59]
    assert some.headers["Content-Disposition"] == 'attachment; filename="parked.ndjson"'
    every = (await browser.get(f"/parked/export?which=connector%3Dhook%26type%3D{OPEN}")).text.splitlines()
    assert len(every) == sum(one.type == OPEN for one in place.daemon.parked())
    assert (await browser.get("/parked/export")).status == 400
    assert (await browser.get("/parked/export?which=all%3D1")).status == 400
    assert (await browser.get("/parked/export?number=x")).status == 400


async def test_all_that_a_filter_matches_is_dropped_but_nothing_later(place: Parking) -> None:
    browser = place.browsers["sven"]
    await place.park(*(make_event(CLICK) for _ in range(60)), make_event(OPEN))
    page = (await browser.get(f"/parked?type={CLICK}")).text
    assert "60 parked events in groups" in page
    assert len(re.findall('type="checkbox"', page)) == 50
    older = re.search(r'<a href="/parked\?([^"]+)" rel="next">', page)
    assert older
    assert len(re.findall('type="checkbox"', (await browser.get(f"/parked?{unescape(older[1])}")).text)) == 10
    asked = await browser.get(f"/parked/confirm?act=drop&which=type%3D{CLICK}")
    assert "Drop 60 parked events?" in asked.text
    await place.park(make_event(CLICK))
    form = {"token": asked.token, "which": read_field(asked.text, "which")}
    assert (await browser.post("/parked/drop", **form)).location == "/parked?drop=60"
    assert "60 parked events removed for good" in (await browser.get("/parked?drop=60")).text
    left = [one.type for one in place.daemon.parked()]
    assert left.count(CLICK) == 1
    assert OPEN in left
    assert "60 parked events dropped" in (await browser.get("/activity?kind=parked_dropped")).text


@pytest.mark.parametrize(
    "form",
    [{}, {"which": ""}, {"which": "type=x"}, {"which": "until=nan"}, {"which": "until=1e9&all=1"}, {"numbers": "1,x"}],
)
async def test_events_are_dropped_only_as_the_page_before_has_said(place: Parking, form: dict[str, str]) -> None:
    await place.park(make_event(OPEN))
    before = len(place.daemon.parked())
    browser = place.browsers["cleo"]
    assert (await browser.post("/parked/drop", token=await browser.read_token(), **form)).status == 400
    assert len(place.daemon.parked()) == before


@pytest.mark.parametrize("query", ["cause=none", "since=yesterday", "until=1e300", "after=x", "since=-5"])
async def test_a_wrong_filter_is_refused(place: Parking, query: str) -> None:
    assert (await place.browsers["sven"].get(f"/parked?{query}")).status == 400


async def test_the_catalogue_says_who_wants_a_type_and_how_many_came(place: Parking) -> None:
    await place.park(make_event(OPEN))
    await place.daemon.post(b'{"events": [%s]}' % make_event(EVIL))
    browser = place.browsers["lena"]
    page = (await browser.get("/catalogue?count=1")).text
    wanted = '<td class="long"><a href="/connectors/hook">hook</a></td>'
    assert re.search(rf">{OPEN}</th><td>email</td><td>current</td>\s*{wanted}\s*<td>[1-9]", page)
    unwanted = "users.behaviors.Purchase</th><td>purchase</td><td>current</td>"
    assert re.search(rf'>{unwanted}\s*<td class="long">-</td>\s*<td>0</td>', page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}\\u202e" in page
    assert '<th scope="col">events</th>' not in (await browser.get("/catalogue")).text


async def test_the_plugins_are_shown_with_docstrings_and_settings(place: Parking) -> None:
    page = unescape((await place.browsers["lena"].get("/plugins")).text)
    assert "<summary>connector http</summary>" in page
    assert "Sends events to a URL." in page
    assert re.search(r'<th scope="row">retry.max</th><td[^>]*>a number with a unit: ms, [^<]+</td><td>"5m"</td>', page)
    assert re.search(r'<th scope="row">url</th><td[^>]*>a text</td><td>required</td>', page)


async def test_the_journal_is_checked_and_audited_on_demand(place: Parking) -> None:
    await place.park(make_event(OPEN))
    browser = place.browsers["lena"]
    assert "reads the journal for this" in (await browser.get("/journal")).text
    checked = (await browser.get("/journal?read=check")).text
    assert "The journal is whole." in checked
    assert re.search(r'<th scope="row">\d+\.log</th>\s*<td>0', checked), checked
    audited = (await browser.get("/journal?read=audit")).text
    assert "Everything balances." in audited
    assert re.search(r'<th scope="row">hook</th>\s*<td>\d', audited), audited
    counted = (await browser.get("/journal?read=types")).text
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert f'<th scope="col">{today}</th>' in counted
    assert re.search(rf">{OPEN}</th><td><time [^>]*>[^<]*</time></td><td>[1-9]", counted), counted
    assert (await browser.get("/journal?read=all")).status == 400
