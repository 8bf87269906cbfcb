"""What the admin API says of the configuration, of a real daemon by its socket."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from relay.testing import make_event
from tests.daemon import Daemon
from tests.forks import Forks

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = '''
from relay.api import Batch, Connector, ConnectorSettings, Duration, HeaderSecret


class Chat(Connector, type="chat"):
    """Writes to a chat."""

    class Settings(ConnectorSettings):
        room: str
        """Room of the chat."""
        key: HeaderSecret
        """Key of the chat."""
        pause: Duration = 2.0
        """Pause between two messages."""

    async def deliver(self, batch: Batch) -> None:
        print("delivered")
'''
SHUT = """
from relay.api import Event, Filter


class Shut(Filter, type="shut"):
    async def open(self) -> None:
        raise OSError("no list is here")

    def apply(self, event: Event) -> Event:
        return event
"""
HEAP = """[connector.heap]
type = "heap"
endpoint = "http://127.0.0.1:9/"
token = { file = "%s" }
events = ["email"]
"""


class Api:
    """The API of a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and content of an answer."""
        connector = aiohttp.UnixConnector(str(self.daemon.state / "admin.sock"))
        async with (
            aiohttp.ClientSession("http://relay", connector=connector) as session,
            session.request(method, path, json=body) as answer,
        ):
            return answer.status, await answer.json(content_type=None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory, relay_forks: Forks) -> AsyncIterator[Api]:
    folder = tmp_path_factory.mktemp("configuration")
    daemon = Daemon(folder, relay_forks)
    (folder / "token").write_text("s3cr3t-token")
    (daemon.plugins / "chat.py").write_text(CHAT)
    (daemon.plugins / "shut.py").write_text(SHUT)
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"\n[runtime]\nworkers = 2\n')
    daemon.configure("60-heap", HEAP % (folder / "token"))
    await daemon.start()
    yield Api(daemon)
    await daemon.kill()


async def test_types_have_all_that_a_form_needs_also_of_later_plugins(api: Api) -> None:
    plugins = api.daemon.plugins
    (plugins / "later.py").write_text(CHAT.replace("chat", "later"))
    (plugins / "noisy.py").write_text("print('x' * 100_000)\nraise ValueError('no')\n")
    (plugins / "chat.py").write_text(CHAT + "# changed\n")
    try:
        status, found = await api.ask("GET", "/types")
    finally:
        for name in ("later.py", "noisy.py"):
            (plugins / name).unlink()
        (plugins / "chat.py").write_text(CHAT)
    assert status == 200
    known = {one["name"]: (one["loaded"], one["stale"], one["error"]) for one in found["plugins"]}
    assert known["chat"] == (True, True, None)
    assert known["later"] == (False, False, None)
    assert known["heap"] == (True, False, None)
    assert known["noisy"] == (False, False, "ValueError: no")
    (later,) = [one for one in found["types"] if one["type"] == "later"]
    assert (later["kind"], later["plugin"], later["loaded"], later["doc"]) == (
        "connector", "later", False, "Writes to a later."
    )  # fmt: skip
    settings = later["schema"]["properties"]
    assert settings["room"] == {"type": "string", "description": "Room of the later."}
    assert (settings["key"]["x-secret"], settings["pause"]["default"]) == (True, "2s")
    assert settings["pause"]["x-units"] == ["ms", "s", "m", "h", "d", "w"]
    assert {"room", "key"} < {*later["schema"]["required"]}
    assert {one["kind"] for one in found["types"]} == {"source", "connector", "filter", "alert"}


async def test_plugins_are_loaded_for_types_once_until_one_changes(api: Api) -> None:
    loads = api.daemon.state / "loads"
    counted = f"from pathlib import Path\nwith Path({str(loads)!r}).open('a') as file:\n    file.write('x')\n" + CHAT
    plugin = api.daemon.plugins / "counted.py"
    plugin.write_text(counted.replace("chat", "counted"))
    try:
        found = [(await api.ask("GET", "/types"))[1] for _ in range(2)]
        assert (found[0] == found[1], loads.read_text()) == (True, "x")
        plugin.write_text(counted.replace("chat", "counted_anew"))
        (changed,) = [one for one in (await api.ask("GET", "/types"))[1]["types"] if one["plugin"] == "counted"]
        assert (changed["type"], loads.read_text()) == ("counted_anew", "xx")
    finally:
        plugin.unlink()
    assert "counted" not in str((await api.ask("GET", "/types"))[1])


async def test_config_names_file_and_line_and_no_secret(api: Api) -> None:
    _, found = await api.ask("GET", "/config")
    settings = {one["key"]: one for one in found["settings"]}
    endpoint = settings["connector.heap.endpoint"]
    assert endpoint == {
        "key": "connector.heap.endpoint", "value": "http://127.0.0.1:9/", "origin": "60-heap.toml:3",
        "file": "60-heap.toml", "line": 3, "disabled": False,
    }  # fmt: skip
    timeout = settings["connector.heap.timeout"]
    assert (timeout["value"], timeout["origin"], timeout["file"], timeout["line"]) == ("30s", "default", "", None)
    assert settings["connector.heap.token"]["value"].keys() == {"file"}
    assert "s3cr3t" not in str(found)
    assert (found["folders"], found["changed"], found["restart"]) == ([str(api.daemon.conf)], [], [])


async def test_reload_has_mistakes_as_values_and_config_what_waits(api: Api) -> None:
    api.daemon.configure("70-more", '[connector.more]\ntype = "fil"\n')
    refused = (await api.ask("POST", "/reload"))[1]
    (mistake,) = refused["mistakes"]
    assert (refused["ok"], refused["said"][0].split(":")[:2]) == (False, ["70-more.toml", "2"])
    assert {name: mistake[name] for name in ("file", "line", "key", "suggestion", "excerpt")} == {
        "file": "70-more.toml", "line": 2, "key": "connector.more.type", "suggestion": "file",
        "excerpt": 'type = "fil"',
    }  # fmt: skip
    assert (await api.ask("GET", "/config"))[1]["changed"] == ["70-more.toml"]
    api.daemon.configure("70-more", '[metrics]\nlisten = "127.0.0.1:0"\n')
    reloaded = (await api.ask("POST", "/reload"))[1]
    assert reloaded.pop("at") > 0
    assert reloaded == {"ok": True, "said": ["metrics.listen: takes a restart"], "mistakes": []}
    found = (await api.ask("GET", "/config"))[1]
    assert (found["changed"], found["restart"]) == ([], ["metrics.listen"])
    (api.daemon.conf / "70-more.toml").unlink()
    assert (await api.ask("POST", "/reload"))[1]["ok"]


async def check(api: Api, text: str | None, name: str = "65-chat.toml", **more: str) -> dict[str, Any]:
    """What relay says of a file as it would be."""
    status, found = await api.ask("POST", "/check", {"files": {name: text}, **more})
    assert status == 200, found
    return dict(found)


async def test_check_names_each_mistake_and_what_would_change(api: Api) -> None:
    before = {path: path.read_bytes() for path in api.daemon.conf.rglob("*") if path.is_file()}
    wrong = await check(api, '[connector.chat]\ntype = "chat"\nroom = 7\nkey = "s3cr3t"\n')
    places = [(one["file"], one["line"], one["key"]) for one in wrong["mistakes"]]
    assert places == [("65-chat.toml", 3, "connector.chat.room"), ("65-chat.toml", 4, "connector.chat.key")]
    assert (wrong["ok"], wrong["changes"], "s3cr3t" in str(wrong)) == (False, [], False)

    good = f'[connector.chat]\ntype = "chat"\nroom = "ops"\nkey = {{ file = "{api.daemon.conf.parent}/token" }}\n'
    assert (await check(api, good))["changes"] == ["connector chat: added"]
    override = "[connector.heap]\nenabled = false\n[metrics]\nlisten = []\n"
    off = await check(api, override, "60-heap.toml.d/50-console.toml")
    assert off["changes"] == ["connector heap: switched off"]
    assert (await check(api, None, "60-heap.toml"))["changes"] == ["connector heap: removed"]
    assert (await check(api, None))["changes"] == ["nothing has changed"]
    alone = await check(api, "[connector.heap]", "61-none.toml.d/50-console.toml")
    assert "overrides nothing: there is no 61-none.toml" in [one["reason"] for one in alone["warnings"]]
    assert {path: path.read_bytes() for path in api.daemon.conf.rglob("*") if path.is_file()} == before
    assert (await api.ask("POST", "/reload"))[1]["said"] == ["nothing has changed"]


async def test_check_refuses_plugins_that_came_after_the_start_as_reload(api: Api) -> None:
    later = api.daemon.plugins / "later.py"
    later.write_text(CHAT.replace("chat", "later"))
    try:
        (mistake,) = (await check(api, '[connector.x]\ntype = "later"\n'))["mistakes"]
    finally:
        later.unlink()
    assert f"plugin later ({later}) came after the start, and takes a restart" in mistake["reason"]


async def test_check_takes_no_file_outside_its_folder(api: Api) -> None:
    names = ["../x.toml", "/etc/x.toml", "x.conf", ".toml", "a/b.toml", "x.toml.d/../y.toml", "x.toml.d/a/b.toml"]
    for name in [*names, "x\0.toml", "x.toml.d", f"{'x' * 300}.toml"]:
        assert (await api.ask("POST", "/check", {"files": {name: ""}}))[0] == 400, name


async def test_check_takes_a_sample_behind_the_filters_of_a_new_connector(api: Api) -> None:
    users = [make_event("users.messages.email.Open", n=n, email="a@b.c") for n in range(5)]
    others = [make_event("users.behaviors.Purchase", n=n, product="x") for n in range(3)]
    older = [make_event("users.messages.email.Click", n=n) for n in range(6)]
    body = b'{"events":[%s]}' % b",".join([*older, *users, *others, make_event("users.messages.sms.Send")])
    assert (await api.daemon.post(body))[0] == 202
    text = """
        [connector.copy]
        type = "file"
        path = "copy.ndjson"
        events = ["email", "users.behaviors.Purchase"]
        filters = ["few", "bare"]
        [filter.few]
        type = "drop"
        field = "properties.product"
        equals = "x"
        [filter.bare]
        type = "redact"
        fields = ["properties.email"]
    """
    found = await check(api, text, sample="copy", probe="copy")
    assert found["mistakes"] == []
    sample = found["sample"]
    assert (sample["read"], sample["selected"], sample["filtered"], sample["complete"]) == (15, 14, 3, True)
    assert (sample["changed"], sample["failed"]) == (5, 0)
    assert sample["types"] == {"users.messages.email.Click": 6, "users.messages.email.Open": 5}
    assert [one["type"] for one in sample["examples"]] == ["users.messages.email.Open"] * 3  # those that change
    assert all(one["changed"] and "a@b.c" in str(one.pop("before")) for one in sample["examples"])
    assert "a@b.c" not in str(sample["examples"])
    assert (found["probe"]["reached"], Path(found["probe"]["file"]).name) == (True, "copy.ndjson")
    assert not (api.daemon.state / "copy.ndjson").exists()
    assert (await api.ask("POST", "/check", {"files": {}, "sample": "copy"}))[0] == 404
    shut = await check(
        api, text.replace('type = "redact"\n        fields = ["properties.email"]', 'type = "shut"'), sample="copy"
    )
    assert (shut["ok"], shut["sample"]["complete"]) == (True, False)
    assert shut["sample"]["problems"] == ["filter bare does not open: no list is here"]


async def test_probe_says_whether_a_destination_can_be_reached(api: Api) -> None:
    status, found = await api.ask("POST", "/lanes/heap/probe")
    assert (status, found["reached"]) == (200, False)
    assert found["said"].startswith("127.0.0.1:9")
    assert (await api.ask("POST", "/lanes/hoop/probe"))[0] == 404


async def test_diff_compares_recorded_events_over_the_api(api: Api) -> None:
    event = make_event("users.messages.email.Open")
    assert (await api.daemon.post(b'{"events":[%s]}' % event))[0] == 202
    files = {path.name: path.read_text() for path in api.daemon.conf.glob("*.toml")}
    status, found = await api.ask("POST", "/diff", {"files": files})
    assert (status, [one["as_before"] for one in found["connectors"]]) == (200, [found["events"]])
    assert found["events"]
    files["60-heap.toml"] = files["60-heap.toml"].replace('["email"]', '["sms"]')
    _, found = await api.ask("POST", "/diff", {"files": files, "connectors": ["heap"]})
    (group,) = [one["no_longer_wanted"] for one in found["connectors"]]
    (why,) = group["reasons"]
    assert (why["before"], why["now"]) == ('selected by "email"', "unselected: no entry matches")
    assert why["events"] == group["events"] >= 1
    _, found = await api.ask("POST", "/diff", {"files": {"a.toml": "[connectr.x]\n"}})
    assert [(one["file"], one["line"]) for one in found["mistakes"]] == [("a.toml", 1)]
    for body, reason in (
        ({"files": {"../a.toml": ""}}, "is no file of conf.d"),
        ({"files": {}, "sinc": 1}, "sinc is not known here"),
        ({}, "missing required field"),
    ):
        status, problem = await api.ask("POST", "/diff", body)
        assert (status, reason in problem["detail"]) == (400, True), problem
    assert (await api.ask("POST", "/diff", {"files": files, "connectors": ["hoop"]}))[0] == 404


async def test_check_names_mistakes_of_tests_which_change_nothing(api: Api) -> None:
    test = '[test.open]\nsample = "users.messages.email.Open"\nexpect = { %s = "delivered" }\n'
    found = await check(api, test % "heap", "90-tests.toml")
    assert (found["ok"], found["changes"]) == (True, ["nothing has changed"]), found
    found = await check(api, test % "haep", "90-tests.toml")
    (mistake,) = found["mistakes"]
    assert (mistake["file"], mistake["line"], mistake["key"], mistake["suggestion"]) == (
        "90-tests.toml", 3, "test.open.expect.haep", "heap"
    )  # fmt: skip


async def test_check_counts_all_that_a_connector_gets_once_it_is_added_back(api: Api) -> None:
    text = '[connector.back]\ntype = "file"\npath = "back.ndjson"\n'
    api.daemon.configure("66-back", text)
    assert (await api.ask("POST", "/reload"))[1]["said"] == ["connector back: added"]
    (api.daemon.conf / "66-back.toml").unlink()
    assert (await api.ask("POST", "/reload"))[1]["said"] == ["connector back: removed"]
    events = b",".join(make_event("users.messages.sms.Send", n=n) for n in range(7))
    assert (await api.daemon.post(b'{"events":[%s]}' % events))[0] == 202
    said = ["connector back: added; goes on where it was, 7 events pending"]
    assert (await check(api, text, "66-back.toml"))["changes"] == said
    (gone,) = (await api.ask("GET", "/status"))[1]["gone"]
    assert (gone["connector"], gone["pending"], gone["later"]) == ("back", 0, 7)
