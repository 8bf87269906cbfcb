"""A plugin that was written for relay 0.1.0 runs as it is."""

import hmac
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.config.plugins.registry import Registry
from relay.testing import Destination
from tests.daemon import Daemon

PLUGIN = Path(__file__).with_name("plugin_of_0_1_0.py")
TABLES = """
[source.shop]
type = "old_hook"
path = "/shop"
secret = {{ env = "SHOP" }}
[filter.totals]
type = "old_names"
[connector.lake]
type = "old_lake"
url = "{lake}"
limit = 2
filters = ["totals"]
[alert.pager]
type = "old_pager"
url = "{pager}"
"""


def order(id: str, *items: str) -> dict[str, object]:
    return {"id": id, "time": 1796083200, "user": {"external_user_id": "u-1"}, "items": items}


async def test_a_plugin_of_an_earlier_version_runs_as_it_is(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", "s3cret")
    (daemon.plugins / "old.py").write_text(PLUGIN.read_text())
    async with Destination() as lake, Destination() as pager:
        daemon.configure("50-old", TABLES.format(lake=lake.url, pager=pager.url))
        await daemon.start()
        orders = [order("1", "cup"), order("2"), order("3", *"abc"), order("test", "cup"), order("4", "cup", "pot")]
        for body, answer in (
            ({"challenge": "7"}, (200, 7)),
            ({"orders": orders}, (202, {"accepted": 5, "parked": 0, "duplicates": 0})),
        ):
            sent = json.dumps(body).encode()
            signature = "sha256=" + hmac.digest(b"s3cret", sent, "sha256").hex()
            status, said = await daemon.post(sent, "/shop", X_Signature=signature)
            assert (status, said) == answer
            assert (await daemon.post(sent, "/shop", X_Signature="sha256=00"))[0] == 401
        books = await daemon.settled("lake", 5)
        assert [json.loads(one.body)["total"] for one in lake.requests] == [1, 2]
        assert [one.headers["Idempotency-Key"] for one in lake.requests] == ["1", "4"]
        assert (books.counts.delivered, books.counts.filtered, books.counts.parked) == (2, 2, 1)
        assert [one.reason for one in daemon.parked()] == ["more than 2 items"]
        tested = await daemon.run("alerts", "test", "pager")
        assert tested.returncode == 0, tested.stderr
        assert "test" in json.loads(pager.requests[0].body)["summary"]
        assert await daemon.stop() == 0
    assert daemon.logged("the lake is closed")
    assert {*daemon.list_complaints()} == {"request refused", "event parked"}


def test_a_plugin_of_an_earlier_version_provides_what_it_did(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(PLUGIN.read_text())
    registry = Registry.discover([tmp_path])
    (info,) = [info for info in registry.list_plugins() if info.name == "old"]
    assert (info.error, info.notes) == (None, ())
    types = ("source old_hook", "filter old_names", "connector old_lake", "alert old_pager", "command old")
    assert {*info.provides} == {*types}
    (command,) = [command for command in registry.list_commands() if command.name == "old"]
    assert CliRunner().invoke(command).output == "0.1.0\n"


GOING = """
import relay.api
from typing_extensions import deprecated

relay.api.GOING["OLD"] = "shop.Old", "write the type yourself"  # as a later relay does

from relay.api import OLD, Filter

@deprecated("old goes: use new", category=FutureWarning)
def old():
    return OLD

class Loud(Filter, type="loud"):
    name_of_type = old()
    def apply(self, event):
        return event.with_type(self.name_of_type)
"""


async def test_the_log_names_what_a_plugin_uses_that_goes(daemon: Daemon) -> None:
    (file := daemon.plugins / "loud.py").write_text(GOING)
    await daemon.start()
    assert await daemon.stop() == 0
    said = "\n".join(daemon.stderr)
    assert (
        f"{file}:7: FutureWarning: relay.api.OLD goes with the next version of relay: write the type yourself" in said
    )
    assert f"{file}:14: FutureWarning: old goes: use new" in said
