"""What the admin API says of the configuration, of a real daemon by its socket."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

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
    assert (await api.ask("POST", "/reload"))[1] == {
        "ok": True, "said": ["metrics.listen: takes a restart"], "mistakes": []
    }  # fmt: skip
    found = (await api.ask("GET", "/config"))[1]
    assert (found["changed"], found["restart"]) == ([], ["metrics.listen"])
    (api.daemon.conf / "70-more.toml").unlink()
    assert (await api.ask("POST", "/reload"))[1]["ok"]
