"""conf.d changed from the console: what is written, what relay has in force, and what becomes of bad input.

A real relay and a real console with a conf.d of their own, met by requests.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from html import unescape
from itertools import count

import pytest
import pytest_asyncio

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.edits.conf import MARK
from relay.testing import Destination, make_event
from tests.console import USERS, Answer, Browser, RunningConsole, until_shown, write_users
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.commands import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADDRESSES = (f"127.0.2.{number}" for number in count(1))
HOOK = """# for the growth team
[connector.hook]
type = "http"
url = "%s"   # from the wiki
events = ["email"]
"""
NEW = '[connector.new]\ntype = "http"\nurl = "%s"\n'


class Place:
    """A relay, its destination, and its console with signed in browsers."""

    def __init__(
        self, daemon: Daemon, console: RunningConsole, hook: Destination, browsers: dict[str, Browser]
    ) -> None:
        self.daemon, self.console, self.hook, self.browsers = daemon, console, hook, browsers

    @property
    def admin(self) -> Browser:
        """The browser of the user who may configure."""
        return self.browsers["cleo"]

    async def check(self, path: str, user: str = "cleo", **form: str) -> Answer:
        browser = self.browsers[user]
        return await browser.post(path, token=await browser.read_token(), act="check", **form)

    async def launch(self, path: str, checked: Answer, user: str = "cleo", **form: str) -> Answer:
        """Send what a page offers to launch."""
        browser = self.browsers[user]
        return await browser.post(path, token=checked.token, act="launch", seen=find_seen(checked), **form)

    async def put(self, name: str, text: str) -> Answer:
        """Launch the text of a file."""
        checked = await self.check("/files/edit", name=name, text=text)
        assert checked.status == 200, plain(checked)
        return await self.launch("/files/edit", checked, name=name, text=text)

    def read_files(self) -> dict[str, bytes]:
        conf = self.daemon.conf
        return {path.relative_to(conf).as_posix(): path.read_bytes() for path in conf.rglob("*") if path.is_file()}


def find_seen(answer: Answer) -> str:
    found = re.search(r'name="seen" value="([^"]*)"', answer.text)
    assert found, plain(answer)
    return unescape(found[1])


def plain(answer: Answer) -> str:
    """Return what a page says."""
    main = answer.text.partition("<main")[2]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", main)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, relay_forks: Forks) -> AsyncIterator[Place]:
    daemon = Daemon(tmp_path_factory.mktemp("launch"), relay_forks)
    daemon.configure("10-source", '[source.braze]\ntype = "currents"\npath = "/currents"\n')
    daemon.configure("91-launch", "[console]\nlaunch = true\n")
    write_users(daemon, *USERS)
    async with Destination() as hook, AsyncExitStack() as stack:
        daemon.configure("60-hook", HOOK % hook.url)
        console = RunningConsole(daemon.conf, daemon.state, relay_forks)
        await daemon.start()
        await console.start()
        browsers = {}
        for name in USERS:
            browsers[name] = await stack.enter_async_context(Browser(console.url, next(ADDRESSES)))
            assert (await browsers[name].sign_in(name, f"the secret of {name}")).status == 303
        yield Place(daemon, console, hook, browsers)
        assert await console.stop() == 0
        assert await daemon.stop() == 0


async def test_a_new_connector_is_launched_and_its_page_says_what_was_delivered(place: Place) -> None:
    text = NEW % place.hook.url
    checked = await place.check("/files/edit", name="60-new.toml", text=text)
    assert "connector new: added" in plain(checked)
    assert f'+{MARK} +[connector.new] +type = "http"' in plain(checked)
    assert not (place.daemon.conf / "60-new.toml").exists()
    launched = await place.launch("/files/edit", checked, name="60-new.toml", text=text)
    assert (launched.status, launched.location[:10]) == (303, "/launches/"), plain(launched)
    assert (place.daemon.conf / "60-new.toml").read_text() == f"{MARK}\n{text}"
    shown = plain(await place.admin.get(launched.location))
    assert "by cleo relay has reloaded: connector new: added" in shown
    assert (await ask(place.daemon, "history"))[-1]["by"] == "cleo"
    page = f"/connectors/new?launched={launched.location.rpartition('/')[2]}"
    assert "No event that it wants has come yet" in await until_shown(place.admin, page, "No event that it wants")
    assert (await place.daemon.post(b'{"events": [%s]}' % make_event()))[0] == 202
    await until_shown(place.admin, page, "Delivered: 1 event since the launch")
