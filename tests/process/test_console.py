"""The console as browsers meet it, by requests: who gets in, from where, and what each right can do.

A real relay and a real console, for all tests of this file. Each browser has an address of its own, as tries to sign in
are limited by address.
"""

import asyncio
import io
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.routes import ROUTES
from relay.console.security.rights import Right
from relay.console.security.throttle import TRIES
from relay.console.streams import MOST
from relay.console.visit import ConsoleRoute
from relay.testing import Destination, make_event
from tests.certificates import Authority
from tests.console import PROXY, USERS, Browser, RunningConsole, until_shown, write_users
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.commands import ask_replay

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANYBODY = {"/static/{name:.+}", "/sign-in", "/sign-in/link"}
"""The only paths without a right."""
ADDRESSES = (f"127.0.1.{number}" for number in count(1))


class Place:
    """A relay with a destination and a console."""

    def __init__(self, daemon: Daemon, console: RunningConsole) -> None:
        self.daemon, self.console = daemon, console

    def browser(self, address: str | None = None) -> Browser:
        return Browser(self.console.url, address or next(ADDRESSES))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, relay_forks: Forks) -> AsyncIterator[Place]:
    daemon = Daemon(tmp_path_factory.mktemp("console"), relay_forks)
    daemon.configure("10-source", '[source.braze]\ntype = "currents"\npath = "/currents"\n')
    async with Destination() as hook:
        daemon.configure("20-hook", f'[connector.hook]\ntype = "http"\nurl = "{hook.url}"\n')
        write_users(daemon, *USERS, "leo")
        console = RunningConsole(daemon.conf, daemon.state, relay_forks)
        await daemon.start()
        await console.start()
        yield Place(daemon, console)
        assert await console.stop() == 0
        assert await daemon.stop() == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signed_in(place: Place) -> AsyncIterator[dict[str, Browser]]:
    """A browser for each right."""
    async with AsyncExitStack() as stack:
        browsers = {}
        for name in USERS:
            browsers[name] = await stack.enter_async_context(place.browser())
            assert (await browsers[name].sign_in(name, f"the secret of {name}")).status == 303
        yield browsers


async def test_a_user_signs_in_and_comes_back_to_where_he_was(place: Place) -> None:
    async with place.browser() as browser:
        asked = await browser.get("/connectors/hook?x=1")
        assert (asked.status, asked.location) == (303, "/sign-in?back=%2Fconnectors%2Fhook%3Fx%3D1")
        assert 'value="/connectors/hook?x=1"' in (await browser.get(asked.location)).text
        answer = await browser.sign_in("lena", "the secret of lena", back="/connectors/hook?x=1")
        assert (answer.status, answer.location) == (303, "/connectors/hook?x=1")
        cookie = answer.headers["Set-Cookie"]
        assert re.fullmatch(r"relay_console=[\w-]{43}; HttpOnly; Path=/; SameSite=Strict", cookie), cookie
        assert "Connector hook" in (await browser.get("/connectors/hook")).text


@pytest.mark.parametrize("back", ["//evil.example/", "/\\evil.example", "https://evil.example/", "x", "/a\nb"])
async def test_signing_in_leads_to_no_other_site(place: Place, back: str) -> None:
    async with place.browser() as browser:
        assert (await browser.sign_in("lena", "the secret of lena", back=back)).location == "/"


async def test_the_overview_shows_what_relay_status_shows(signed_in: dict[str, Browser], place: Place) -> None:
    status, _ = await place.daemon.post(b'{"events": [%s]}' % make_event())
    assert status in (200, 202)
    await place.daemon.settled("hook", 1)
    answer = await signed_in["lena"].get("/")
    assert "All is well" in answer.text
    assert re.search(
        r'<th scope="row"><a href="/connectors/hook">hook</a></th>\s*<td class="text">(idle|working)</td>', answer.text
    )
    assert re.search(r'<th scope="row"><a href="/sources/braze">braze</a></th>\s*<td>\d+</td>', answer.text)
    screen = (await place.daemon.run("status")).stdout.decode()
    (heads,) = [line for line in screen.splitlines() if line.startswith("connector ")]
    assert [f">{head}</th>" in answer.text for head in re.split("  +", heads)] == [True] * 8


async def test_the_overview_leads_to_each_kind_of_new_table(signed_in: dict[str, Browser]) -> None:
    page = (await signed_in["cleo"].get("/")).text
    for kind in ("connector", "source", "filter", "alert"):
        assert f'<a href="/{kind}s/new">{kind}</a>' in page
        assert (await signed_in["cleo"].get(f"/{kind}s/new")).status == 200


async def test_every_page_has_the_headers_of_a_strict_site(signed_in: dict[str, Browser]) -> None:
    for path in ("/", "/connectors/hook", "/activity", "/nothing", "/static/console.css", "/sign-in"):
        answer = await signed_in["lena"].get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert ("immutable" if path.startswith("/static") else "no-store") in answer.headers["Cache-Control"]
        assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", answer.text), f"{path} has an inline script or style"


async def test_only_static_files_and_signing_in_take_no_right() -> None:
    assert {route.path for route in ROUTES if route.right is None} == ANYBODY
    for route in ROUTES:
        if route.method == "POST" and route.path not in ("/sign-in", "/sign-out"):
            assert find_right_to_act(route) >= (Right.CONFIGURE if route.launches else Right.STEER)


def find_right_to_act(route: ConsoleRoute) -> Right:
    """Return the right that a form takes which changes something."""
    assert route.right is not None
    return Right.CONFIGURE if route.is_launch({"act": "launch"}) else route.right


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_each_route_lets_in_the_rights_that_it_names(
    place: Place, signed_in: dict[str, Browser], route: ConsoleRoute
) -> None:
    method, pattern = route.method, route.path
    if route.right is None or pattern == "/sign-out":
        return
    right = find_right_to_act(route) if method == "POST" else route.right
    path = re.sub(r"\{name[^}]*\}", "braze" if pattern.startswith("/sources") else "hook", pattern)
    path = path.replace("{number:[0-9]{1,18}}", "1").replace("{table}", "members")
    async with place.browser() as nobody:
        refused = await nobody.ask(method, path, data={} if method == "POST" else None, Sec_Fetch_Site="same-origin")
    assert (refused.status, refused.location[:9]) == (303, "/sign-in?"), refused
    for name, browser in signed_in.items():
        form = {"token": await browser.read_token(), "act": "launch"} if method == "POST" else None
        answer = await browser.ask(method, path, data=form, Sec_Fetch_Site="same-origin")
        if USERS[name] >= right:
            assert answer.status in (200, 303, 400, 404, 409, 422), f"{name}: {answer}"
        else:
            assert answer.status == 403, f"{name}: {answer}"
            assert f"this takes the right to {right}, and {name} may only {USERS[name]}" in answer.text


async def test_a_form_with_a_wrong_token_is_refused(signed_in: dict[str, Browser]) -> None:
    for given in ({}, {"token": ""}, {"token": "x" * 43}, {"token": await signed_in["cleo"].read_token()}):
        answer = await signed_in["sven"].post("/connectors/hook/resume", **given)
        assert answer.status == 403
        assert "the form was not made for this session" in answer.text


@pytest.mark.parametrize(
    ("site", "origin", "status"),
    [
        ("same-origin", None, 303),
        ("cross-site", None, 403),
        ("same-site", None, 403),
        ("none", None, 403),
        (None, "{url}", 303),
        (None, "http://evil.example", 403),
        (None, "null", 403),
        (None, None, 403),
        ("cross-site", "{url}", 403),
    ],
)
async def test_only_a_page_of_the_console_sends_a_form(
    place: Place, signed_in: dict[str, Browser], site: str | None, origin: str | None, status: int
) -> None:
    browser = signed_in["sven"]
    headers = {"Origin": origin.format(url=place.console.url)} if origin else {}
    token = await browser.read_token()
    answer = await browser.post("/connectors/hook/resume", site=site, headers=headers, token=token)
    assert answer.status == status


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        ("127.0.0.1:{port}", True),
        ("localhost:{port}", True),
        ("localhost:9000", True),  # a forwarded port
        ("relay.example.com", True),
        ("RELAY.example.com:443", True),
        ("evil.example", False),
        ("127.0.0.2:{port}", False),
        ("relay.example.com.evil.example", False),
        ("[::1]", False),
        ("a b", False),
        ("", False),
    ],
)
async def test_a_foreign_host_is_421_on_every_path(place: Place, host: str, *, is_known: bool) -> None:
    port = place.console.url.rpartition(":")[2]
    for path in ("/sign-in", "/static/console.css", "/nothing"):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host.format(port=port)}\r\nConnection: close\r\n\r\n".encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
        known = 404 if path == "/nothing" else 200
        assert (status == known) if is_known else (status in (400, 421)), f"{path}: {status}"


async def test_six_wrong_secrets_are_429_for_that_address_alone(place: Place) -> None:
    address = next(ADDRESSES)
    async with place.browser(address) as browser, place.browser() as other:
        for _ in range(TRIES):  # a foreign site can make a browser ask for links
            assert (await browser.get("/sign-in/link?key=x")).status == 403
        for _ in range(TRIES):
            answer = await browser.sign_in("lena", "wrong")
            assert answer.status == 403
            assert "the name or the secret is wrong" in answer.text
        answer = await browser.sign_in("lena", "the secret of lena")
        assert answer.status == 429
        await place.console.until_logged("console request refused", client=address, status=429, page="/sign-in")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert (await other.sign_in("lena", "the secret of lena")).status == 303


async def test_behind_a_proxy_tries_count_by_the_address_that_it_names(place: Place) -> None:
    async with place.browser(PROXY) as browser:
        browser.headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.1.1.1"}
        for _ in range(TRIES):
            assert (await browser.sign_in("lena", "wrong")).status == 403
        assert (await browser.sign_in("lena", "the secret of lena")).status == 429
        browser.headers["X-Forwarded-For"] = "10.1.1.2"
        answer = await browser.sign_in("lena", "the secret of lena")
        assert (answer.status, "; Secure" in answer.headers["Set-Cookie"]) == (303, True)
        await place.console.until_logged("console sign-in", client="10.1.1.2", user="lena")


async def test_a_browser_that_does_not_name_its_site_sees_no_field_for_a_secret(place: Place) -> None:
    """As every browser over plain http, when the host is not this machine."""
    async with place.browser() as browser:
        assert 'name="secret"' in (await browser.get("/sign-in")).text
        told = (await browser.ask("GET", "/sign-in")).text
        assert "You cannot sign in here: your browser does not say which site its forms come from" in told
        assert 'name="secret"' not in told
        answer = await browser.post("/sign-in", site=None, headers={"Origin": "null"})
        assert (answer.status, "browsers say so over https and at localhost only" in answer.text) == (403, True)


@pytest.mark.parametrize("name", ["lena", "nobody", ""])
async def test_a_wrong_name_or_secret_gets_the_same_answer(place: Place, name: str) -> None:
    async with place.browser() as browser:
        answer = await browser.sign_in(name, "wrong")
    assert answer.status == 403
    assert "the name or the secret is wrong" in answer.text


async def test_a_large_form_is_413(place: Place, signed_in: dict[str, Browser]) -> None:
    async with place.browser() as nobody:
        for browser in (nobody, signed_in["cleo"]):
            form = io.BytesIO(b"name=" + b"x" * 10_000_000)
            kind = "application/x-www-form-urlencoded"
            answer = await browser.ask("POST", "/sign-in", data=form, Content_Type=kind, Sec_Fetch_Site="same-origin")
            assert answer.status == 413


async def test_signing_out_ends_the_session_everywhere(place: Place) -> None:
    async with place.browser() as browser, place.browser() as thief:
        await browser.sign_in("lena", "the secret of lena")
        token = await browser.read_token()
        (cookie,) = browser.session.cookie_jar
        thief.headers = {"Cookie": f"relay_console={cookie.value}"}
        assert (await thief.get("/")).status == 200
        assert (await browser.post("/sign-out", token=token)).location == "/sign-in"
        assert (await thief.get("/")).status == 303


async def test_a_user_who_leaves_conf_d_is_signed_out(place: Place) -> None:
    async with place.browser() as browser:
        await browser.sign_in("leo", "the secret of leo")
        assert (await browser.get("/")).status == 200
        write_users(place.daemon, *USERS)
        await place.console.until_logged("console settings read again")
        assert (await browser.get("/")).status == 303


async def test_a_pause_is_in_the_history_with_the_name_of_the_user(signed_in: dict[str, Browser]) -> None:
    browser = signed_in["sven"]
    token = await browser.read_token()
    answer = await browser.post("/connectors/hook/pause", token=token, hours="8")
    assert (answer.status, answer.location) == (303, "/connectors/hook")
    assert "paused" in (await browser.get("/connectors/hook")).text
    assert (await browser.post("/connectors/hook/resume", token=token)).status == 303
    activity = (await browser.get("/activity?subject=connector+hook&kind=paused")).text
    assert re.search(r"<td>paused</td><td>connector hook</td><td[^>]*>[^<]+</td><td>sven</td>", activity), activity


async def test_an_event_is_traced_and_a_replay_is_cancelled_by_a_user(
    place: Place, signed_in: dict[str, Browser]
) -> None:
    event = make_event()
    await place.daemon.post(b'{"events": [%s]}' % event)
    browser = signed_in["sven"]
    await until_shown(browser, f"/trace?id={json.loads(event)['id']}", "delivered at the first attempt")
    assert "Not found in the journal, nor parked" in (await browser.get("/trace?id=other")).text
    token = await browser.read_token()
    await browser.post("/connectors/hook/pause", token=token)
    number = await ask_replay(place.daemon, 0, 1)
    assert f'action="/replays/{number}/cancel"' in (await browser.get("/replays")).text
    assert f'action="/replays/{number}/cancel"' not in (await signed_in["lena"].get("/replays")).text
    assert (await browser.post(f"/replays/{number}/cancel", token=token)).location == "/replays"
    assert "<td>cancelled</td>" in (await browser.get("/replays")).text
    assert (await browser.post(f"/replays/{number}/cancel", token=token)).status == 409
    await browser.post("/connectors/hook/resume", token=token)
    assert "<td>sven</td>" in (await browser.get("/activity?kind=replay_cancelled")).text
    assert "no erasure was ever asked for" in (await browser.get("/erasures")).text


async def test_a_trusted_proxy_names_the_user_and_nobody_else_does(place: Place) -> None:
    async with place.browser(PROXY) as proxied, place.browser() as direct:
        assert (await direct.get("/", X_Remote_User="cleo")).status == 303
        answer = await proxied.get("/", X_Remote_User="lena")
        assert (answer.status, "may look" in answer.text) == (200, True)
        assert (await proxied.get("/", X_Remote_User="stranger")).status == 403
        other = await proxied.get("/", X_Remote_User="cleo")
        assert "may configure" in other.text, "the cookie of lena counts no more"
        assert (await proxied.get("/")).status == 303, "the proxy names nobody any more"


async def test_what_a_sender_makes_up_is_shown_as_text(place: Place, signed_in: dict[str, Browser]) -> None:
    odd = "<script>alert(1)</script>{{ 7 * 7 }}\u202e"
    await place.daemon.post(b'{"events": [%s]}' % make_event(odd))
    text = await until_shown(signed_in["lena"], "/sources/braze", "not in the catalogue")
    assert "What to type in at the sender" in text
    assert "Create New Current" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}\\u202e" in text


async def test_more_live_pages_than_the_limit_are_refused(place: Place, signed_in: dict[str, Browser]) -> None:
    url, headers = f"{place.console.url}/live", {"Accept": "text/html, text/event-stream"}
    async with AsyncExitStack() as stack:
        session = signed_in["lena"].session
        opened = 0
        async with asyncio.timeout(30):
            while opened < MOST:  # the console notices within seconds that a live page of another test was left
                answer = await stack.enter_async_context(session.get(url, headers=headers))
                if answer.status == 200:
                    assert (await answer.content.readline()).startswith(b"data: ")
                    opened += 1
                else:
                    await asyncio.sleep(0.1)
        async with session.get(url, headers=headers) as refused:
            assert (refused.status, (await refused.text())[:8]) == (503, f"{MOST} live ")


async def test_no_log_line_has_a_secret(place: Place) -> None:
    async with place.browser() as browser:
        for secret in ("the secret of sven", "the secret of lena"):
            await browser.sign_in("lena", secret)
        await browser.post("/connectors/hook/pause", token=await browser.read_token())
    await place.console.until_logged("console request refused")
    said = "\n".join(place.console.stderr)
    assert place.console.logged("console sign-in failed")
    assert "the secret of" not in said
    assert not re.search(r"[\w-]{43}", said), "the id of a session, or a token"


async def test_without_a_user_a_link_lets_one_browser_in_once(tmp_path: Path, relay_forks: Forks) -> None:
    (tmp_path / "conf.d").mkdir()
    console = RunningConsole(tmp_path / "conf.d", tmp_path / "state", relay_forks)
    ours, theirs = os.openpty()
    try:
        await console.start(theirs, "--listen", "127.0.0.1:0")
        shown = os.read(ours, 1000).decode()
        found = re.search(r"http://127\.0\.0\.1:\d+(/sign-in/link\?key=[\w-]{43})", shown)
        assert found, shown
        async with Browser(console.url) as browser, Browser(console.url) as other:
            assert (await browser.get(found[1][:-1] + "x")).status == 403
            assert (await browser.get(found[1])).status == 303
            overview = await browser.get("/")
            assert "may configure" in overview.text
            assert f"no relay runs with the state folder {tmp_path / 'state'}" in overview.text
            assert (await other.get(found[1])).status == 403
            activity = await browser.get("/activity")
            assert (activity.status, "no relay runs with" in activity.text) == (502, True)
        assert await console.stop() == 0
    finally:
        os.close(ours)
        os.close(theirs)


async def test_over_tls_the_cookie_is_for_this_host_and_tls_alone(tmp_path: Path, relay_forks: Forks) -> None:
    (tmp_path / "conf.d").mkdir()
    authority = Authority(tmp_path)
    authority.issue()
    (tmp_path / "secret").write_text("typed")
    (tmp_path / "conf.d" / "console.toml").write_text(
        '[console]\nlisten = "127.0.0.1:0"\n'
        f'tls = {{ certificate = "{authority.certificate}", key = "{authority.key}" }}\n'
        f'[console.user.anna]\nsecret = {{ file = "{tmp_path / "secret"}" }}\nmay = "look"\n'
        '[console.user.bert]\nsecret = { credential = "bert" }\nmay = "look"\n'
    )
    console = RunningConsole(tmp_path / "conf.d", tmp_path / "state", relay_forks)
    await console.start()
    assert [one["user"] for one in console.logged("a user cannot sign in to the console")] == ["bert"]
    async with Browser(console.url, ssl=False) as browser:
        cookie = (await browser.sign_in("anna", "typed")).headers["Set-Cookie"]
        assert re.fullmatch(r"__Host-relay_console=[\w-]{43}; HttpOnly; Path=/; SameSite=Strict; Secure", cookie), (
            cookie
        )
        assert (await browser.get("/")).status == 200
    assert await console.stop() == 0


async def test_an_open_address_takes_a_user(tmp_path: Path, relay_forks: Forks) -> None:
    (tmp_path / "conf.d").mkdir()
    words = ("console", "--conf", str(tmp_path / "conf.d"), "--state", str(tmp_path), "--listen", "0.0.0.0:0")
    done = await asyncio.to_thread(relay_forks.run, *words)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("Error: the console cannot start: 0.0.0.0:0 is neither a loopback address")
