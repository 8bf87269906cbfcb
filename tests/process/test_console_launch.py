"""conf.d changed from the console: what is written, what relay has in force, and what becomes of bad input.

A real relay and a real console with a conf.d of their own, met by requests.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.edits.conf import MARK
from relay.testing import Destination, make_event
from tests.console import until_shown
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.commands import ask
from tests.process.console_place import EDIT, NEW, Place, plain, run_place

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOOK = """# for the growth team
[connector.hook]
type = "http"
url = "%s"   # from the wiki
events = ["email"]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hook() -> AsyncIterator[Destination]:
    async with Destination() as destination:
        yield destination


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    tmp_path_factory: pytest.TempPathFactory, relay_forks: Forks, hook: Destination
) -> AsyncIterator[Place]:
    daemon = Daemon(tmp_path_factory.mktemp("launch"), relay_forks)
    daemon.configure("60-hook", HOOK % hook.url)
    async with run_place(daemon, relay_forks) as running:
        yield running


def list_acts(page: str) -> list[tuple[str, str]]:
    """The class and the text of each button to act on a connector, in order."""
    (acts,) = re.findall(r'(?s)<section id="acts".*?</section>', page)
    return re.findall(r'<button type="submit"(?: class="([\w ]+)")?>(.*?)</button>', acts)


async def test_a_new_connector_is_launched_and_delivers(place: Place, hook: Destination) -> None:
    text = NEW % ("fresh", hook.url)
    checked = await place.check(EDIT, name="60-fresh.toml", text=text)
    assert "connector fresh: added" in plain(checked)
    assert f'+{MARK} +[connector.fresh] +type = "http"' in plain(checked)
    assert not (place.daemon.conf / "60-fresh.toml").exists()
    launched = await place.launch(EDIT, checked, name="60-fresh.toml", text=text)
    assert (launched.status, launched.location[:10]) == (303, "/launches/"), plain(launched)
    assert (place.daemon.conf / "60-fresh.toml").read_text() == f"{MARK}\n{text}"
    shown = plain(await place.admin.get(launched.location))
    assert "by cleo relay has reloaded: connector fresh: added" in shown
    assert (await ask(place.daemon, "history"))[-1]["by"] == "cleo"
    assert "the configuration was reloaded: connector fresh: added" in plain(await place.admin.get("/connectors/fresh"))
    assert (await place.daemon.post(b'{"events": [%s]}' % make_event()))[0] == 202
    await place.daemon.settled("fresh", 1)
    assert "in force" in plain(await place.admin.get("/activity"))
    for change in ("remove", "switch-off"):
        asked = plain(await place.admin.get(f"/connectors/fresh/{change}"))
        assert "A connector of this name that comes back goes on there" in asked


async def test_the_file_of_a_person_stays_and_undo_takes_the_drop_in_away(place: Place) -> None:
    persons = (place.daemon.conf / "60-hook.toml").read_bytes()
    page = "/connectors/hook/switch-off"
    shown = await place.admin.get(page)
    assert f"60-hook.toml.d/50-console.toml (new) in {place.daemon.conf}" in plain(shown)
    assert '<a href="/connectors/hook">Leave it as it is</a>' in shown.text
    launched = await place.launch(page, shown)
    drop_in = place.daemon.conf / "60-hook.toml.d" / "50-console.toml"
    assert drop_in.read_text() == f"{MARK}\n[connector.hook]\nenabled = false\n"
    assert "connector hook: switched off" in plain(await place.admin.get(launched.location))
    assert "hook" not in {lane["connector"] for lane in (await ask(place.daemon, "status"))["lanes"]}
    overview = await place.admin.get("/")
    assert re.search(
        r"hook: switched off, \d+ \w+ events? kept in case it comes back. Switch on, Forget", plain(overview)
    ), plain(overview)
    absent = await place.admin.get("/connectors/hook")
    assert (absent.status, "this connector is switched off, at 60-hook.toml.d/50-console.toml:3" in plain(absent)) == (
        404,
        True,
    )
    assert 'href="/connectors/hook/switch-on"' in absent.text
    never = await place.admin.get("/sources/none")
    assert (never.status, "conf.d has no such source" in plain(never)) == (404, True)
    assert 'href="/activity?subject=source+none"' in never.text
    undo = f"{launched.location}/undo"
    undone = await place.launch(undo, await place.admin.get(undo))
    said = plain(await place.admin.get(undone.location))
    number = launched.location.rpartition("/")[2]
    assert "connector hook: added" in said
    assert f"undo of launch {number} (connector hook: added)" in said
    again = plain(await place.admin.get(launched.location))
    assert f"not in force any more: undone by launch {undone.location.rpartition('/')[2]}." in again
    activity = await place.admin.get("/activity")
    assert f'href="{undone.location}/undo"' in activity.text
    assert f'href="{undo}"' not in activity.text
    assert "connector hook: switched off" in plain(activity).partition("The last launches of the console")[2]
    assert not drop_in.parent.exists()
    assert (place.daemon.conf / "60-hook.toml").read_bytes() == persons
    assert plain(await place.admin.get("/connectors/hook/switch-on")).count("Nothing changes") == 1
    shown = await place.admin.get(f"/files/show?path={place.daemon.conf}/60-hook.toml")
    assert "# for the growth team" in plain(shown)
    link = re.search(r'href="([^"]*)">Override keys', shown.text)
    assert link is not None
    assert 'value="60-hook.toml.d/50-console.toml"' in (await place.admin.get(link[1])).text
    assert (await place.admin.get("/files/show?path=/etc/passwd")).status == 404
    assert (await place.admin.get("/files/edit?name=60-hook.toml")).status == 404
    remove = await place.admin.get("/connectors/hook/remove")
    assert (remove.status, "a person wrote it at 60-hook.toml:2" in plain(remove)) == (409, True)
    assert 'href="/connectors/hook/switch-off"' in remove.text
    for page in ("/files", "/connectors/hook"):
        assert "/connectors/hook/remove" not in (await place.admin.get(page)).text


async def test_the_page_of_a_connector_waits_for_its_first_delivery(place: Place) -> None:
    before = place.daemon.ledger()["hook"].accepted
    assert (await place.daemon.post(b'{"events": [%s]}' % make_event(user={"user_id": "</pre>{{ 7 * 7 }}"})))[0] == 202
    await place.daemon.settled("hook", before + 1)
    off = "/connectors/hook/switch-off"
    await place.launch(off, await place.admin.get(off))
    on = "/connectors/hook/switch-on"
    shown = await place.admin.get(on)
    assert re.search(
        r"The events of the last hour Of [1-9]\d* events? the connector would have had [1-9]", plain(shown)
    )
    assert "&lt;/pre&gt;{{ 7 * 7 }}" in shown.text
    assert re.search("The destination (It can be reached|Not known)", plain(shown)), plain(shown)
    launched = await place.launch(on, shown)
    assert re.fullmatch(r"/connectors/hook\?launched=\d+", launched.location), launched
    await until_shown(place.admin, launched.location, "No event that it wants has come since the launch")
    page = await place.admin.get(launched.location)
    assert f'content="10; url={launched.location}"' in page.text  # whatever fragment the address has
    other = launched.location.replace("hook", "fresh")
    assert "is in force" not in plain(await place.admin.get(other))
    assert (await place.daemon.post(b'{"events": [%s]}' % make_event()))[0] == 202
    await until_shown(place.admin, launched.location, "Delivered: 1 event since the launch")
    token = await place.admin.read_token()
    assert (await place.admin.post("/connectors/hook/pause", token=token)).status == 303
    await until_shown(place.admin, launched.location, "The connector is paused by cleo: resume it to deliver")
    paused = (await place.admin.get("/connectors/hook")).text
    assert list_acts(paused) == [("", "Resume"), ("secondary", "Pause")]
    assert "<strong>Paused:</strong> hook: paused by cleo at" in paused
    overview = (await place.admin.get("/")).text
    assert 'Problem:</strong> <a href="/connectors/hook">hook</a>: paused by cleo at' in overview
    assert (await place.admin.post("/connectors/hook/resume", token=token)).status == 303
    works = (await place.admin.get("/connectors/hook")).text
    assert list_acts(works) == [("outline secondary", "Pause"), ("outline secondary", "Try again at once")]


async def test_what_relay_refuses_is_taken_back_to_the_byte(place: Place, hook: Destination, tmp_path: Path) -> None:
    await place.put("60-back.toml", NEW % ("back", hook.url))
    file, token = place.daemon.conf / "60-back.toml", tmp_path / "token"
    before, stamp = place.read_files(), file.stat()
    more = f'token = {{ file = "{token}" }}\n'
    for name, connector in (("60-back.toml", "back"), ("60-fresh.toml", "fresh")):
        text = (NEW % (connector, hook.url)) + more
        token.write_text("t0ken")
        checked = await place.check(EDIT, name=name, text=text)
        token.unlink()
        refused = await place.launch(EDIT, checked, name=name, text=text)
        said = plain(refused)
        assert (refused.status, str(token) in said) == (409, True)
        assert "relay refuses it, and goes on with the configuration it had. What was written is taken back" in said
        assert place.read_files() == before
    now = file.stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_mode) == (stamp.st_ino, stamp.st_mtime_ns, stamp.st_mode)
    found = await place.read_config()
    assert (found["changed"], found["connector.back.token"]) == ([], None)
    assert (await ask(place.daemon, "status"))["refused_reload"] is None
    told = [entry["sentence"] for entry in await ask(place.daemon, "history")]
    assert any("refused" in one or "not reloaded" in one for one in told), told


async def test_of_two_who_launch_at_once_the_second_sees_a_new_diff(place: Place, hook: Destination) -> None:
    await place.put("60-race.toml", NEW % ("race", hook.url))
    texts = [(NEW % ("race", hook.url)) + f"timeout = '{seconds}s'\n" for seconds in (11, 12)]
    checked = [await place.check(EDIT, name="60-race.toml", text=text) for text in texts]
    both = zip(checked, texts, strict=True)
    done = await asyncio.gather(*(place.launch(EDIT, one, name="60-race.toml", text=text) for one, text in both))
    won, lost = sorted(done, key=lambda one: one.status)
    assert (won.status, lost.status) == (303, 409)
    first, second = ("11", "12") if done[0] is won else ("12", "11")
    assert f"-timeout = '{first}s' +timeout = '{second}s'" in plain(lost)
    assert f"Meanwhile somebody has changed {place.daemon.conf}/60-race.toml" in plain(lost)
    assert (await place.read_config())["connector.race.timeout"] == f"{first}s"
    again = await place.launch(EDIT, lost, name="60-race.toml", text=texts[done.index(lost)])
    assert again.status == 303
    assert (await place.read_config())["connector.race.timeout"] == f"{second}s"


async def test_a_broken_file_of_others_stops_a_launch_and_is_named(place: Place, hook: Destination) -> None:
    text = NEW % ("late", hook.url)
    checked = await place.check(EDIT, name="60-late.toml", text=text)
    broken = place.daemon.conf / "61-broken.toml"
    broken.write_text("[connector.x\n")
    try:
        refused = await place.launch(EDIT, checked, name="60-late.toml", text=text)
        assert refused.status == 409
        assert "Meanwhile somebody has changed" in plain(refused)
        assert "61-broken.toml:1: not TOML" in plain(refused)
        assert 'value="launch"' not in refused.text
        page = await place.admin.get("/files")
        assert "61-broken.toml:1: not TOML" in plain(page)
        reload = await place.admin.post("/files/reload", token=page.token)
        assert reload.status == 409
        assert re.search("relay has not reloaded, .* 61-broken.toml:1: not TOML", plain(reload))
    finally:
        broken.unlink()
    assert not (place.daemon.conf / "60-late.toml").exists()
    reload = await place.admin.post("/files/reload", token=page.token)
    assert (reload.status, "relay has reloaded: nothing has changed" in plain(reload)) == (200, True)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x.toml",
        "/etc/x.toml",
        "60-x.toml.d/../../x.toml",
        "60-x.d/a.toml",
        ".x.toml",
        "x",
        "60-hook.toml",
        "a\nb.toml",
    ],
)
async def test_no_file_beside_those_of_the_console_can_be_named(place: Place, name: str) -> None:
    before = place.read_files()
    answer = await place.check(EDIT, name=name, text="[log]\n")
    assert (answer.status, 'value="launch"' in answer.text) == (422, False)
    forged = await place.admin.post(EDIT, token=answer.token, act="launch", seen="x", name=name, text="[log]\n")
    assert forged.status == 422
    assert place.read_files() == before
    assert not {*place.daemon.conf.parent.glob("x*")}


async def test_the_console_gives_nobody_a_right(place: Place) -> None:
    text = f'[console.user.me]\nmay = "configure"\nsecret = {{ file = "{place.daemon.state.parent}/secret-lena" }}\n'
    answer = await place.check(EDIT, name="60-rights.toml", text=text)
    assert (answer.status, 'value="launch"' in answer.text) == (422, False)
    assert "60-rights.toml: console: the console cannot set this itself" in plain(answer)


@pytest.mark.parametrize(
    "line",
    [
        'token = "pl41n-s3cret"',
        'url = "https://me:pl41n-s3cret@h.example/"',
        'url = "https://h.example/?api_key=pl41n-s3cret"',
        'headers = { Authorization = "Bearer pl41n-s3cret" }',
        'headers.x-api-key = """\npl41n-s3cret"""',
        'token = "pl41n-s3cret',
    ],
)
async def test_a_secret_in_plain_text_is_refused_and_shown_nowhere(place: Place, line: str) -> None:
    before = place.read_files()
    text = f'[connector.leak]\ntype = "http"\n{line}\n'
    for act, name in (("check", "60-leak.toml"), ("launch", "60-leak.toml"), ("check", "")):
        token = await place.admin.read_token()
        answer = await place.admin.post(EDIT, token=token, act=act, name=name, text=text)
        assert (answer.status, 'value="launch"' in answer.text) == (422, False)
        assert not name or re.search("secret|password|no closing", plain(answer)), plain(answer)
        assert "pl41n" not in answer.text
    assert place.read_files() == before
    told = "\n".join([*place.console.stderr, *place.daemon.stderr, str(await ask(place.daemon, "history"))])
    assert "pl41n" not in told
    kept = [path.read_bytes() for path in (place.daemon.state / "console").rglob("*") if path.is_file()]
    assert not any(b"pl41n" in one for one in kept)


async def test_who_may_not_configure_gets_the_text_and_no_check(place: Place, hook: Destination) -> None:
    text = NEW % ("wish", hook.url)
    for user in ("lena", "sven"):
        answer = await place.check(EDIT, user, name="60-wish.toml", text=text)
        said = plain(answer)
        assert (answer.status, "What a reload would say" in said, 'value="launch"' in answer.text) == (
            200,
            False,
            False,
        )
        assert f"Write this text to {place.daemon.conf}/60-wish.toml" in said
        assert "relay reload" in said
        forged = await place.browsers[user].post(EDIT, token=answer.token, act="launch", name="60-wish.toml", text=text)
        assert forged.status == 403
        await until_shown(place.admin, "/activity?subject=configuration&kind=refused", f"<td>{user}</td>")
        entry = (await ask(place.daemon, "history"))[-1]
        assert (entry["by"], entry["subject"]) == (user, "configuration")
        assert "launch" in entry["sentence"]
    assert not (place.daemon.conf / "60-wish.toml").exists()
