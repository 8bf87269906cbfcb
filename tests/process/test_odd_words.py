"""What plugins and destinations say may be no UTF-8: it is told with escapes, and neither a lane nor relay ends.

Looked at beside reasons of connectors: keys, notices, filters, refusals and notices of sources, the log, answers of a
destination of the type http, and work in a thread that ends in a way that no future can hold.
"""

import asyncio
import json

import msgspec
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.status.model import Status
from relay.testing import Answer, Destination, make_event
from tests.daemon import Daemon
from tests.unit.cli.test_output import CLEAR, SOURCE, TURNED

PLUGIN = r"""
from relay.api import (
    Connector, ConnectorSettings, Denied, Filter, Malformed, Reject, Retry, Skipped, Source, Unauthorized
)

ODD = "half \ud83d"

class Odd(Connector, type="odd"):
    class Settings(ConnectorSettings):
        how: str

    def key(self, event):
        return ODD

    async def deliver(self, batch):
        how = self.settings.how
        self.notice = ODD
        self.log.warning("odd words", said=ODD)
        if how == "thread":
            return await self.run_blocking(lambda: next(iter([])))
        if how in ("outcome", "skipped"):
            return [Reject(ODD) if how == "outcome" else Skipped(ODD) for _ in batch]
        raise {
            "retry": Retry(ODD),
            "unauthorized": Unauthorized(ODD),
            "reject": Reject(ODD, status=400, answer=ODD),
            "outage": FileNotFoundError(2, "No such file", "/caf\udce9"),
            "bug": KeyError(ODD),
        }[how]

class Fails(Filter, type="fails"):
    def apply(self, event):
        raise ValueError(ODD)

class Refuses(Source, type="refuses"):
    @property
    def notice(self):
        return ODD

    def decode(self, request):
        raise (Denied if request.body == b"denied" else Malformed)(ODD)
"""
HEAD = """
[source.braze]
type = "currents"
path = "/currents"
[source.odd]
type = "refuses"
path = "/odd"
[connector.well]
type = "file"
path = "well.ndjson"
[filter.fails]
type = "fails"
[connector.filtered]
type = "file"
path = "filtered.ndjson"
filters = ["fails"]
[connector.shop]
type = "http"
url = "http://127.0.0.1:%d/"
"""
ODD = """
[connector.%(how)s]
type = "odd"
how = "%(how)s"
"""
TRIED_AGAIN = ("retry", "unauthorized", "outage", "bug", "thread")
PARKED = ("outcome", "reject")
SAYS = r"half \ud83d"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: http://shop.test/caf\xe9\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def move_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(MOVED)
    writer.close()
    await writer.wait_closed()


def errors(daemon: Daemon) -> dict[str, str]:
    told = CliRunner().invoke(cli, ["status", "--state", str(daemon.state), "--json"])
    assert told.stdout, told
    status = msgspec.json.decode(told.stdout, type=Status)
    return {lane.connector: lane.last_error.reason if lane.last_error else "" for lane in status.lanes}


async def test_words_that_are_no_utf8_end_nothing(daemon: Daemon) -> None:
    shop = await asyncio.start_server(move_on, "127.0.0.1", 0)
    async with shop:
        (daemon.plugins / "odd.py").write_text(PLUGIN)
        hows = (*TRIED_AGAIN, *PARKED, "skipped")
        lanes = "".join(ODD % {"how": how} for how in hows)
        daemon.configure("10-odd", HEAD % shop.sockets[0].getsockname()[1] + lanes)
        await daemon.start()
        assert (await daemon.post(b'{"events":[%b]}' % make_event(n=1)))[0] == 202
        assert (await daemon.post(b"denied", "/odd"))[0] == 401
        status, answer = await daemon.post(b"malformed", "/odd")
        assert (status, answer["detail"]) == (400, SAYS)

        told = await daemon.until(lambda: errors(daemon), lambda said: all(said[how] for how in (*TRIED_AGAIN, "shop")))
        assert all(SAYS in told[how] for how in ("retry", "unauthorized")), told
        assert r"caf\udce9" in told["outage"], told
        assert "shop.test" in told["shop"], told
        assert "StopIteration" in told["thread"], told
        parked = await daemon.until(daemon.parked, lambda lie: len(lie) == len(PARKED) + 1)
        assert all(SAYS in one.reason for one in parked), parked
        assert {one.connector for one in parked} == {*PARKED, "filtered"}

        assert await daemon.stop() == 0
        await daemon.start()
        assert (await daemon.post(b'{"events":[%b]}' % make_event(n=2)))[0] == 202
        assert (await daemon.settled("well", 2)).counts.delivered == 2
        assert not daemon.logged("lane failed, starts again")


async def test_what_a_destination_says_does_not_command_the_terminal(daemon: Daemon) -> None:
    said = f"no{CLEAR}{TURNED}\n  other: delivered"
    async with Destination() as destination:
        destination.behaviour = Answer(status=422, body=said.encode())
        daemon.configure(
            "10", f'{SOURCE.replace("unix", "127.0.0.1")}[connector.hook]\ntype = "http"\nurl = "{destination.url}"\n'
        )
        await daemon.start()
        event = json.loads(make_event()) | {"id": f"e{TURNED}", "event_type": f"t{CLEAR}"}
        await daemon.post(json.dumps(event).encode(), "/s")
        await daemon.until(daemon.parked, bool)
        state = ["--state", str(daemon.state)]
        async with asyncio.timeout(60):  # the position is saved a moment after the parked event
            while b"pending" in (found := await daemon.run("trace", event["id"])).stdout:
                await asyncio.sleep(0.05)
        assert found.stdout
        assert CLEAR.encode() not in found.stdout
        assert TURNED.encode() not in found.stdout
        for words in (["trace", event["id"]], ["parked", "list"], ["parked", "show", "1"], ["status"]):
            shown = CliRunner().invoke(cli, [*words, *state]).stdout
            assert "no" in shown, words
            assert "\n  other: delivered" not in shown, words
        as_json = json.loads((await daemon.run("trace", event["id"], "--json")).stdout)
        assert as_json["journal"][0]["type"] == f"t{CLEAR}"
