"""Tables made and changed by forms: what a form shows, what it writes, and what becomes of bad input.

A real relay and a real console, met by requests as a browser without JavaScript sends them.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import pytest
import pytest_asyncio

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.testing import Destination, make_event
from tests.console import Answer
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.console_place import Place, find_seen, plain, run_place

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "tok-3n-of-heap"
NEW = "/connectors/new"
NEW_HTTP = "/connectors/new?type=http"
TICKS = {"events.group.message_engagement": "on", "events.channel.customer_behavior.purchase": "on"}
OPEN = "events.type.users.messages.email.Open"
ALL = {"events.all": "on"}
CHAT = '''"""Sends events to a chat."""

from collections.abc import Iterator
from typing import Any

from relay.api import Batch, Connector, ConnectorSettings, Contradiction, Settings


class Room(Settings):
    """A room of the chat."""

    name: str
    """Which room it is."""
    loud: bool = False


class Chat(Connector, type="%s"):
    """Posts each event to a room.

    The room must be there already."""

    class Settings(ConnectorSettings):
        room: Room
        words: tuple[str, ...] = ("hello",)
        """What to say first."""
        odd: Any = None
        host: str | None = None

        def contradictions(self) -> Iterator[Contradiction]:
            if self.host is None and self.words == ("hello",):
                yield "host words", "a chat without words has a host"

    async def deliver(self, batch: Batch) -> None:
        pass
'''


class Form(HTMLParser):
    """What a browser without JavaScript would post of the form of a table."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.described: dict[str, str] = {}
        """What describes an input, by the name of the input."""
        self._texts: dict[str, str] = {}
        self._wanted: dict[str, list[str]] = {}
        self._in_form = self._select = self._area = ""
        self._ids: list[tuple[str, str]] = []
        self.feed(answer.text)
        for name, ids in self._wanted.items():
            self.described[name] = " ".join(" ".join(self._texts[one].split()) for one in ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._in_form = "table" if given.get("class") == "table" else ""
        if not self._in_form:
            return
        name = given.get("name", "")
        if "aria-describedby" in given:
            self._wanted[name or given["id"]] = given["aria-describedby"].split()
        if tag == "small" and "id" in given:
            self._ids.append((tag, given["id"]))
            self._texts[given["id"]] = ""
        if tag == "input" and (given.get("type") != "checkbox" or ("checked" in given and "disabled" not in given)):
            self.fields[name] = given.get("value", "")
        elif tag == "select":
            self._select = name
        elif tag == "option" and (self._select not in self.fields or "selected" in given):
            self.fields[self._select] = given["value"]
        elif tag == "textarea":
            self._area, self.fields[name] = name, ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._area = ""
        elif tag == "small" and self._ids:
            self._ids.pop()

    def handle_data(self, data: str) -> None:
        if self._area:
            self.fields[self._area] += data if self.fields[self._area] else data.removeprefix("\n")
        for _, one in self._ids:
            self._texts[one] += data


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hook() -> AsyncIterator[Destination]:
    async with Destination() as destination:
        yield destination


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    tmp_path_factory: pytest.TempPathFactory, relay_forks: Forks, hook: Destination
) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("forms")
    daemon = Daemon(folder, relay_forks)
    (daemon.plugins / "chat.py").write_text(CHAT % "chat")
    daemon.configure("40-calm", '[filter.calm]\ntype = "keep"\nfield = "user.y"\nequals = 1\n')
    daemon.configure("60-hook", f'# of a person\n[connector.hook]\ntype = "http"\nurl = "{hook.url}"\nrate = 5.0\n')
    async with run_place(daemon, relay_forks) as running:
        yield running


async def open_form(place: Place, path: str, user: str = "cleo", **changed: str) -> dict[str, str]:
    """Return what a browser posts of a form, with some of its inputs changed."""
    answer = await place.browsers[user].get(path)
    assert answer.status == 200, plain(answer)
    fields = Form(answer).fields
    assert changed.keys() - ALL.keys() - TICKS.keys() <= fields.keys(), changed.keys() - fields.keys()
    return fields | changed


async def post(place: Place, path: str, form: dict[str, str], act: str, user: str = "cleo") -> Answer:
    return await place.browsers[user].ask(
        "POST", path.partition("?")[0], data={**form, "act": act}, Sec_Fetch_Site="same-origin"
    )


async def check(place: Place, path: str, user: str = "cleo", **changed: str) -> Answer:
    return await post(place, path, await open_form(place, path, user, **changed), "check", user)


async def launch(place: Place, path: str, checked: Answer) -> Answer:
    find_seen(checked)
    return await post(place, path, Form(checked).fields, "launch")


def find_mistakes(answer: Answer) -> dict[str, str]:
    """Return the mistakes at the fields of a form, by the name of the input."""
    found = {name: re.search(r"Mistake: (.*)", said) for name, said in Form(answer).described.items()}
    return {name: said[1] for name, said in found.items() if said}


async def test_a_connector_is_launched_with_a_pasted_token(place: Place, hook: Destination) -> None:
    types = await place.admin.get(NEW)
    assert '<a href="/connectors/new?type=heap">heap</a>' in types.text
    assert "Sends events to a URL." in plain(types)
    path = f"{NEW}?type=heap"
    changed: dict[str, str] = {"name": "sink", "set.endpoint": hook.url, **TICKS}
    checked = await check(place, path, **changed, **{"set.token:from": "paste", "set.token:paste": TOKEN})
    ticked = Form(checked).fields
    assert ticked.pop(OPEN) == "on"
    checked = await post(place, path, ticked, "check")
    assert checked.status == 200, plain(checked)
    secret = place.daemon.state.absolute() / "secrets" / "sink-token"
    assert f"The secret that was pasted is stored in {secret}. No page shows it again." in plain(checked)
    assert secret.read_text() == TOKEN
    text = (
        f'# Written by the console of relay.\n[connector.sink]\ntype = "heap"\nendpoint = "{hook.url}"\n'
        f'token = {{ file = "{secret}" }}\n'
        'events = ["message_engagement", "purchase", "!users.messages.email.Open"]\n'
    )
    assert " ".join(f"+{line}" for line in text.splitlines()) in plain(checked)
    launched = await launch(place, path, checked)
    assert (launched.status, launched.location[:26]) == (303, "/connectors/sink?launched="), plain(launched)
    assert (place.daemon.conf / "60-sink.toml").read_bytes() == text.encode()
    events = [make_event("users.messages.email.Click"), make_event("users.messages.email.Open")]
    assert (await place.daemon.post(b'{"events": [%s]}' % b",".join(events)))[0] == 202
    await place.daemon.until(
        lambda: [one for one in hook.requests if one.headers.get("Authorization") == f"Bearer {TOKEN}"],
        lambda found: len(found) == 1,
    )
    for page in (NEW, "/connectors/sink", "/connectors/sink/edit", "/activity", "/files"):
        assert TOKEN not in (await place.admin.get(page)).text
    assert TOKEN not in checked.text
    assert TOKEN not in str(place.console.stderr) + str(place.daemon.stderr)


async def test_a_connector_of_a_person_changes_by_a_drop_in_and_is_copied(place: Place, hook: Destination) -> None:
    path = "/connectors/hook/edit"
    shown = await open_form(place, path)
    assert (shown["set.url"], shown["set.rate"], shown["set.retry.max"]) == (hook.url, "5.0", "")
    assert "Nothing changes." in plain(await post(place, path, shown, "check"))
    checked = await post(place, path, shown | {"set.retry.max": "1m", "set.headers": "X-From = relay"}, "check")
    assert (await launch(place, path, checked)).status == 303, plain(checked)
    drop_in = (place.daemon.conf / "60-hook.toml.d" / "50-console.toml").read_text()
    assert drop_in.partition("\n")[2] == '[connector.hook]\nheaders = { X-From = "relay" }\nretry = { max = "1m" }\n'
    again = await open_form(place, path)
    assert again == shown | {"set.retry.max": "1m", "set.headers": "X-From = relay", "token": again["token"]}
    checked = await check(place, "/connectors/hook/copy", name="twin", **{"set.rate": ""})
    assert (await launch(place, "/connectors/hook/copy", checked)).status == 303, plain(checked)
    twin = (place.daemon.conf / "60-twin.toml").read_text()
    assert twin.partition("\n")[2] == (
        f'[connector.twin]\ntype = "http"\nurl = "{hook.url}"\n'
        'headers = { X-From = "relay" }\nretry = { max = "1m" }\n'
    )


async def test_a_source_and_a_filter_are_made_by_forms(place: Place) -> None:
    changed = {"set.path": "/shop", "set.tokens:0:from": "paste", "set.tokens:0:paste": "tok-3n-of-shop"}
    checked = await check(place, "/sources/new?type=json", name="shop", **changed)
    assert (await launch(place, "/sources/new?type=json", checked)).status == 303, plain(checked)
    event = b'{"id": "1", "event_type": "sold", "time": 1}'
    assert (await place.daemon.post(event, "/shop", Authorization="Bearer tok-3n-of-shop"))[0] == 202
    assert (await place.daemon.post(event, "/shop"))[0] == 401
    again = await open_form(place, "/sources/shop/edit")
    assert again["set.tokens:1:from"] == again["set.tokens:1:paste"] == ""
    checked = await check(place, "/filters/new?type=keep", name="loud", **{"set.field": "user.x", "set.equals": "5"})
    assert (await launch(place, "/filters/new?type=keep", checked)).status == 303, plain(checked)
    assert (place.daemon.conf / "40-loud.toml").read_text().endswith('field = ["user.x"]\nequals = 5\n')
    page = await place.admin.get("/connectors/new?type=file")
    assert '<option value="loud">loud</option>' in page.text
    form = Form(page).fields | ALL | {"name": "chosen", "set.path": "/tmp/chosen", "set.filters:1": "calm"}
    checked = await post(place, "/connectors/new?type=file", form | {"set.filters:0": "loud"}, "check")
    assert '+filters = ["loud", "calm"]' in plain(checked)


async def test_bad_news_of_a_check_looks_like_it(place: Place) -> None:
    assert (await place.daemon.post(b'{"events": [%s]}' % make_event()))[0] == 202
    page = "/connectors/new?type=http"
    form = await open_form(place, page, name="nowhere", **{"set.url": "http://127.0.0.1:1/"})
    form = {name: value for name, value in form.items() if name not in ALL}
    checked = await post(place, page, form | {"events.channel.message_engagement.sms": "on"}, "check")
    warning = '<p class="notice" role="alert"><strong>Warning:</strong> '
    assert f"{warning}It cannot be reached" in checked.text, plain(checked)
    assert f"{warning}Of " in checked.text


async def test_a_filter_leads_on_to_connectors_and_stays_while_one_has_it(place: Place) -> None:
    settings = {"set.field": "user.x", "set.equals": "5"}
    checked = await check(place, "/filters/new?type=keep", name="used", **settings)
    made = (await launch(place, "/filters/new?type=keep", checked)).location
    shown = await place.admin.get(made)
    assert "relay has reloaded: filter used: added" in plain(shown)
    page = "/connectors/hook/edit"
    assert f'<a href="{page}">Put it before connector hook</a>' in shown.text
    put = await launch(place, page, await check(place, page, **{"set.filters:0": "used"}))
    assert put.status == 303
    number = put.location.rpartition("=")[2]
    assert "connector hook: changed: filters" in plain(await place.admin.get(f"/launches/{number}"))
    undo, remove = await place.admin.get(f"{made}/undo"), await place.admin.get("/filters/used/remove")
    said = f"still used by connector hook: undo launch {number} first, or take it out of its filters"
    assert said in plain(undo)
    assert said in plain(remove)
    await place.admin.post("/files/reload", token=await place.admin.read_token())
    async with asyncio.timeout(30):
        while "the configuration was reloaded: nothing has changed" not in plain(
            activity := await place.admin.get("/activity")
        ):
            await asyncio.sleep(0.05)
    assert activity.text.count(f'(<a href="/launches/{number}">') == 1
    assert "filter used: added" in plain(activity).partition("The last launches of the console")[2]
    assert f'(<a href="/launches/{number}">Launch {number}</a>)' in activity.text


async def test_paths_of_a_filter_have_no_quotes_and_no_typos(place: Place) -> None:
    path = "/filters/new?type=redact"
    page = await place.admin.get(path)
    assert "dotted paths such as <code>properties.email_address</code>" in page.text
    form = Form(page).fields | {"name": "quiet"}
    checked = await post(place, path, form | {"set.fields": '"properties.email_address"'}, "check")
    assert find_mistakes(checked)["set.fields"].startswith("write the path without quotes: properties.email_address.")
    checked = await post(place, path, form | {"set.fields": "properties.email_adress"}, "check")
    assert "Warning: no event of Braze has the field properties.email_adress: did you mean" in plain(checked)


async def test_check_shows_what_the_filters_of_a_connector_change(place: Place) -> None:
    events = [make_event("users.messages.sms.Send", n=n) for n in range(3)]
    events += [make_event("users.messages.sms.Send", n=n, email="a@b.c") for n in range(2)]
    assert (await place.daemon.post(b'{"events": [%s]}' % b",".join(events)))[0] == 202
    place.daemon.configure("41-bare", '[filter.bare]\ntype = "redact"\nfields = ["properties.email"]\n')
    form = await open_form(
        place, "/connectors/new?type=file", name="bared", **{"set.path": "bared", "set.filters:0": "bare"}
    )
    checked = await post(
        place, "/connectors/new?type=file", form | {"events.channel.message_engagement.sms": "on"}, "check"
    )
    (place.daemon.conf / "41-bare.toml").unlink()
    said = plain(checked)
    assert "the connector would have had 5. Its filters change 2, and drop 0." in said, said
    assert said.count(", changed by the filters A line with - is as the event came.") == 2
    assert said.count('- "email": "a@b.c"') == said.count("a@b.c") == 2
    assert said.count('"properties": {') == 3


async def test_the_connector_of_a_plugin_has_a_form_with_its_docstrings(place: Place) -> None:
    page = await place.admin.get("/connectors/new?type=chat")
    assert "The room must be there already." in plain(page)
    form = Form(page)
    assert form.described["set.room.name"] == "Which room it is."
    assert form.described["set.words"] == "What to say first. One entry a line. Default: hello."
    assert form.fields["set.odd:toml"] == ""
    assert '<label for="set.host">host (required, unless you change words)</label>' in page.text
    assert '<label for="set.room.name">name (required)</label>' in page.text
    assert "takes a restart" not in plain(page)
    (place.daemon.plugins / "later.py").write_text(CHAT % "later")
    assert "later (takes a restart)" in plain(await place.admin.get(NEW))
    assert "takes a restart" in plain(await place.admin.get("/connectors/new?type=later"))
    changed = {"set.room.name": "ops", "set.room.loud": "yes", "set.words": "a\r\nb", "set.odd:toml": "[1, { x = 2 }]"}
    checked = await check(place, "/connectors/new?type=chat", name="room", **changed, **ALL)
    assert (await launch(place, "/connectors/new?type=chat", checked)).status == 303, plain(checked)
    assert (place.daemon.conf / "60-room.toml").read_text().partition('"chat"\n')[2] == (
        'room = { name = "ops", loud = true }\nwords = ["a", "b"]\nodd = [1, { x = 2 }]\n'
    )
    again = await open_form(place, "/connectors/room/edit")
    assert (again["set.words"], again["set.odd:toml"]) == ("a\nb", "[1, { x = 2 }]")


async def test_mistakes_stand_at_their_fields_in_the_words_of_relay_check(place: Place) -> None:
    path = NEW_HTTP
    form = await open_form(place, path, name="wrong")
    found = find_mistakes(await post(place, path, form, "check"))
    assert found["set.url"] == "url is missing"
    assert found["set.events"].startswith("nothing is ticked")
    form |= {"set.url": "ftp://x", "set.timeout": "30", "set.retry.max": "1x", "set.filters:0": "none"}
    form |= {"events.text": "!", "set.window": "many", "set.token:from": "env", "set.token:at": "NO_SUCH"}
    checked = await post(place, path, form, "check")
    assert checked.status == 422
    said = {
        "set.url": "expected a URL such as",
        "set.timeout": 'expected a duration such as "30s"',
        "set.retry.max": "expected a duration",
        "set.filters": "none",
        "set.events": "nothing is ticked",
        "set.window": "expected a whole number",
        "set.token": "the environment has no variable NO_SUCH",
    }
    found = find_mistakes(checked)
    assert found.keys() == said.keys(), plain(checked)
    for field, reason in said.items():
        assert reason in found[field]
        assert f'<a href="#{field}">' in checked.text
    assert 'name="seen"' not in checked.text
    assert Form(checked).fields | {"token": form["token"]} == form
    assert '<details class="rare" open>' in checked.text


async def test_a_password_in_a_url_is_a_mistake_and_not_shown(place: Place) -> None:
    form = await open_form(place, NEW_HTTP, name="wrong", **{"set.url": "https://me:hush-hush@example.com/"})
    checked = await post(place, NEW_HTTP, form, "check")
    assert find_mistakes(checked)["set.url"].startswith("url holds a password in a URL")
    assert "hush-hush" not in checked.text


async def test_a_wrong_name_stands_beside_the_mistakes_that_relay_finds(place: Place) -> None:
    form = await open_form(place, NEW_HTTP, **{"set.url": "http://x", "set.headers": "X"})
    for name, said in {
        "": "name is missing",
        "../x": "a name is made of",
        "a" * 200: "the name is too long",
        "hook": "the name is taken, by the connector at 60-hook.toml:2",
        "new": "choose another one",
    }.items():
        checked = await post(place, NEW_HTTP, form | {"name": name}, "check")
        assert checked.status == 422
        found = find_mistakes(checked)
        assert said in found.pop("name")
        assert found.pop("set.events").startswith("nothing is ticked")
        assert found == {"set.headers": "write each line as name = value"}
        assert Form(checked).fields["name"] == name


async def test_an_empty_form_names_all_that_is_missing(place: Place) -> None:
    path = f"{NEW}?type=heap"
    checked = await post(place, path, await open_form(place, path), "check")
    found = find_mistakes(checked)
    assert found["name"] == "name is missing"
    assert found["set.endpoint"].startswith("endpoint is missing: the webhook URL")
    assert "3 mistakes. Nothing is launched. name is missing endpoint is missing: the webhook URL" in plain(checked)
    assert found["set.events"].startswith("nothing is ticked")
    assert '<a href="#set.endpoint">endpoint</a>' in checked.text
    assert re.search(r'name="set.endpoint"[^>]* aria-invalid="true"', checked.text)
    checked = await post(place, path, await open_form(place, path, name="x", **{"set.mode": "api"}), "check")
    assert find_mistakes(checked)["set.app_id"].startswith("app_id is missing")


async def test_exclusions_alone_start_from_all_events(place: Place) -> None:
    changed = {"name": "most", "set.url": "http://127.0.0.1:1", "events.text": "!users.messages.email.Open"}
    checked = await check(place, NEW_HTTP, **changed)
    assert '+events = ["!users.messages.email.Open"]' in plain(checked), plain(checked)
    shown = Form(checked).fields
    assert (OPEN in shown, shown["events.type.users.messages.email.Click"]) == (False, "on")


async def test_a_secret_with_a_space_and_a_time_to_come_are_warnings(place: Place) -> None:
    changed = {"name": "later", "set.url": "http://127.0.0.1:1", **ALL, "set.from:at": "2999-01-01T00:00"}
    checked = await check(place, NEW_HTTP, **changed, **{"set.token:paste": " one two "})
    assert "holds a space, and a token has none: was it copied whole?" in plain(checked), plain(checked)
    assert (place.daemon.state / "secrets" / "later-token").read_text() == "one two"
    assert "from is a time in the future: a new connector gets no event that comes before" in plain(checked)
    again = await post(place, NEW_HTTP, Form(checked).fields | {"set.token:paste": "three"}, "check")
    assert (place.daemon.state / "secrets" / "later-token-2").read_text() == "three"
    changed_since = Form(again).fields | {"set.rate": "5"}
    launched = await post(place, NEW_HTTP, changed_since, "launch")
    assert "The form has changed since it was checked. Nothing is launched yet: look at this first" in plain(launched)


async def test_a_secret_in_the_wrong_field_is_refused_and_not_shown(place: Place) -> None:
    form = await open_form(place, NEW_HTTP, **{"set.url": "http://x"})
    plain_secret = form | {"set.headers": "Authorization = Bearer s3cr3t-s3cr3t"}
    pasted = form | {"set.token:from": "paste", "set.token:paste": "s3cr3t\ts3cr3t"}
    other_setting = form | {"set:toml": 'api_key = "s3cr3t-s3cr3t"'}
    for name, posted, field, said in (
        ("wrong", other_setting, "set:toml", "in plain text"),
        ("wrong", plain_secret, "set.headers", "in plain text"),
        ("../x", plain_secret, "name", "a name is made of"),
        ("wrong", pasted, "set.token", "the secret holds a line break or another control character"),
    ):
        checked = await post(place, NEW_HTTP, posted | {"name": name}, "check")
        assert checked.status == 422
        assert said in find_mistakes(checked)[field]
        assert "s3cr3t" not in checked.text
    form = await open_form(place, NEW_HTTP, "lena", name="wrong")
    assert "set.token:paste" not in form
    form |= {"set.token:from": "paste", "set.token:paste": "s3cr3t-s3cr3t"}
    assert (await post(place, NEW, form, "check", "lena")).status == 403
    assert not [*place.daemon.state.glob("secrets/*wrong*")]


async def test_a_secret_is_not_stored_while_the_name_is_wrong(place: Place) -> None:
    folder = place.daemon.state / "secrets"
    before = {one.name for one in folder.glob("*")}
    form = await open_form(
        place, NEW_HTTP, **{"set.url": "http://127.0.0.1:1/", "set.token:paste": "s3cr3t-s3cr3t"}, **ALL
    )
    for name in ("", "../x", "hook", "Odd Name"):
        checked = await post(place, NEW_HTTP, form | {"name": name}, "check")
        found = find_mistakes(checked)
        assert found.keys() == {"name", "set.token"}, plain(checked)
        assert found["set.token"].startswith("the secret is not stored while the name is wrong")
        assert {one.name for one in folder.glob("*")} == before
    shown = Form(checked).fields
    assert (shown["name"], shown["set.token:paste"]) == ("Odd Name", "")
    checked = await post(place, NEW_HTTP, shown | {"name": "even", "set.token:paste": "s3cr3t-s3cr3t"}, "check")
    find_seen(checked)
    assert {one.name for one in folder.glob("*")} - before == {"even-token"}


async def test_who_may_look_sees_the_text_and_no_secret_of_a_file(place: Place) -> None:
    place.daemon.configure(
        "60-plain", '[connector.plain]\nenabled = false\ntype = "http"\nurl = "http://x?token=s3cr3t-1"\n'
    )
    shown = await place.browsers["lena"].get("/connectors/plain/edit")
    assert "s3cr3t" not in shown.text
    checked = await check(place, "/connectors/plain/edit", "lena", **{"set.method": "PUT"})
    assert '+method = "PUT"' in plain(checked)
    assert "relay reload" in plain(checked)
    assert "Launch" not in checked.text
    assert "s3cr3t" not in checked.text


async def test_a_table_of_an_unknown_type_is_lines_of_toml(place: Place) -> None:
    text = '[connector.gone]\nenabled = false\ntype = "gone"\nodd = [1.0, { a = 2026-01-02 }]\n'
    place.daemon.configure("60-gone", text)
    form = await open_form(place, "/connectors/gone/edit")
    assert form["set:toml"] == "enabled = false\nodd = [1.0, { a = 2026-01-02 }]"
    assert "Nothing changes." in plain(await post(place, "/connectors/gone/edit", form, "check"))
    for path in ("/connectors/none/edit", "/connectors/new?type=none", "/sources/hook/copy"):
        assert (await place.admin.get(path)).status == 404
    (place.daemon.conf / "60-gone.toml").unlink()
