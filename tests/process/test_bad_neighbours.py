"""A folder full of bad plugins of every kind beside one connector that is well: that one notices nothing."""

import asyncio
import re
from typing import Any

import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.tables import DEAF

ENTRY = "users.canvas.Entry"
MOST_LINES = 6
"""Of a connector that fails in many ways: why, what it raised, what was parked."""
NOT_LOADED = {
    "no_python": "def (",
    "exits": "import sys\nsys.exit(3)",
    "escapes": "class Stop(BaseException): pass\nraise Stop",
    "prints": "print('loud')\n1 / 0",
    "takes_text": "from relay.api import *\nclass A(Connector, type='a', batch={'events': 5}):\n"
    "    accepted_types = 'x'\n    async def deliver(self, batch): pass",
    "shadows": "from relay.api import *\nclass B(Connector, type='b'):\n    class Settings(ConnectorSettings):\n"
    "        timeout: int = 5\n    async def deliver(self, batch): pass",
    "wrong_default": "from relay.api import *\nclass C(Connector, type='c', batch={'events': 0}):\n"
    "    async def deliver(self, batch): pass",
    "no_deliver": "from relay.api import *\nclass D(Connector, type='d'): pass",
}
"""What cannot be loaded; no table needs it."""
CONNECTORS = {
    "open_fails": "async def open(self): raise KeyError('open')",
    "open_hangs": "async def open(self): await deaf()",
    "raises": "async def deliver(self, batch): raise KeyError('deliver')",
    "exits_later": "async def deliver(self, batch): raise SystemExit(3)",
    "cancels": "async def deliver(self, batch): raise asyncio.CancelledError",
    "thread_hangs": "async def deliver(self, batch): await self.run_blocking(__import__('time').sleep, 3600)",
    "deaf": "async def deliver(self, batch): await deaf()",
    "too_many": "async def deliver(self, batch): return [DELIVERED] * 99",
    "nonsense": "async def deliver(self, batch): return 'fine'",
    "one_poison": "async def deliver(self, batch):\n        if any(e.properties['number'] == 3 for e in batch): 1 / 0",
    "key_fails": "def key(self, event): raise KeyError('key')",
    "notice_fails": "opened = 0\n    notice = property(lambda self: 1 / (1 - self.opened), lambda self, value: None)\n"
    "    async def open(self): self.opened = 1",
    "close_hangs": "async def close(self): await deaf()",
    "warns_badly": "class Settings(ConnectorSettings):\n        def warnings(self): raise KeyError('warnings')",
}
FILTERS = {
    "filter_raises": "def apply(self, event): raise SystemExit(2)",
    "filter_gives_text": "def apply(self, event): return 'x'",
}
SOURCES = {
    "decode_raises": "def decode(self, request): raise SystemExit(2)",
    "decode_gives_none": "def decode(self, request): return None",
    "verify_says_false": "def verify(self, request): return False",
}
HEAD = f"""
import asyncio
from relay.api import *
{DEAF}"""
CONNECTOR = """
class Bad(Connector, type="{name}"):
    async def deliver(self, batch):
        pass
    {code}
"""
FILTER = """
class Bad(Filter, type="{name}"):
    {code}
"""
SOURCE = """
class Bad(Source, type="{name}"):
    def decode(self, request):
        return Decoded([self.kind("a.b")], [b'{{"id":"1"}}'])
    {code}
"""
TABLES = """
[source.braze]
type = "currents"
path = "/currents"
[runtime]
drain = "2s"
[connector.heap]
type = "heap"
endpoint = "%s"
"""
BAD = """
[connector.{name}]
type = "{type}"
events = ["{entry}"]
filters = [{filters}]
timeout = "500ms"
open_timeout = "500ms"
retry = {{ first = "100ms", max = "500ms" }}
"""


def write(daemon: Daemon, url: str) -> None:
    """The folder of plugins and a table for each that can be loaded."""
    tables = TABLES % url
    for name, code in NOT_LOADED.items():
        (daemon.plugins / f"{name}.py").write_text(code)
    for template, plugins in ((CONNECTOR, CONNECTORS), (FILTER, FILTERS), (SOURCE, SOURCES)):
        for name, code in plugins.items():
            (daemon.plugins / f"{name}.py").write_text(HEAD + template.format(name=name, code=code))
    for name in CONNECTORS:
        tables += BAD.format(name=name, type=name, entry=ENTRY, filters="")
    for name in FILTERS:
        tables += BAD.format(name=name, type="http", entry=ENTRY, filters=f'"{name}"').replace(
            "timeout", f'url = "{url}/filtered"\ntimeout', 1
        )
        tables += f'[filter.{name}]\ntype = "{name}"\n'
    for name in SOURCES:
        tables += f'[source.{name}]\ntype = "{name}"\npath = "/{name}"\nallow = ["127.0.0.1"]\n'
    daemon.configure("10-all", tables)


def naming(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    """The lines of the log that are about a plugin, or about the table that uses it; what it takes besides is well."""
    of_plugin = f"plugin {name} ({daemon.plugins}/"
    lines = [line for line in daemon.logs if line["level"] in ("warning", "error")]
    return [
        line
        for line in lines
        if of_plugin in line["message"] or name in (line.get("connector"), line.get("source"), line.get("filter"))
    ]


async def load(daemon: Daemon, batches: int) -> None:
    """100 events a batch: all of them for Heap, and now and then one for the others."""
    for number in range(batches):
        events = [make_event("users.messages.email.Open", number=number) for _ in range(99)]
        events.append(make_event(ENTRY, number=number // 5) if number % 5 == 0 else events[0])
        assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202


@pytest.mark.promise(3)
async def test_a_folder_of_bad_plugins_does_not_harm_a_healthy_connector(daemon: Daemon) -> None:
    """All events arrive at Heap, each bad plugin is named and does not flood the log, the books balance, and a stop
    keeps to the drain budget. Looked at: what is loaded, made, opened, called, asked, and closed."""
    async with Destination() as heap:
        write(daemon, heap.url)
        await daemon.start()
        for name in SOURCES:
            assert (await daemon.post(b'{"id":"1"}', f"/{name}"))[0] == 500
        await load(daemon, 40)
        books = await daemon.settled("heap", 4000, within=60)
        assert books.counts.delivered == len(heap.events()) == 4000
        by_log = {*NOT_LOADED, *CONNECTORS, *FILTERS, *SOURCES} - {"notice_fails", "close_hangs"}
        await daemon.until(lambda: {name for name in by_log if not naming(daemon, name)}, lambda unnamed: not unnamed)
        code, out = await run("status", "--state", str(daemon.state))
        assert re.search("notice_fails: working; .*; its notice cannot be read: ZeroDivisionError", out)
        assert [name for name in (*NOT_LOADED, *SOURCES, *FILTERS) if len(naming(daemon, name)) > 1] == []
        assert {name: len(naming(daemon, name)) for name in CONNECTORS if len(naming(daemon, name)) > MOST_LINES} == {}
        assert await daemon.stop() == 0
    assert daemon.logged("relay stopped"), "all steps were in time, or else the process had ended without this line"
    assert naming(daemon, "close_hangs"), daemon.stderr[-6:]
    for word in ("lane failed", "log lines were dropped", "relay ends by a bug of its own", "Task exception"):
        assert not [line for line in daemon.logs if word in line["message"]]
    given = "--conf", str(daemon.conf), "--plugins", str(daemon.plugins), "--state", str(daemon.state)
    code, out = await run("audit", *given)
    assert (code, "Everything balances." in out) == (0, True), out
    code, out = await run("check", *given[:4])
    assert code == 0
    assert {name for name in (*NOT_LOADED, "warns_badly") if f"plugin {name} ({daemon.plugins}/" not in out} == set()


async def run(*words: str) -> tuple[int, str]:
    answer = await asyncio.to_thread(CliRunner().invoke, cli, [*words])
    return answer.exit_code, answer.output
