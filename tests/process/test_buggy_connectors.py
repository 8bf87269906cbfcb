"""Connectors that are written wrong, in a real relay: one event never stops a lane, and an outage is no bug.

Looked at beside it: outcomes per event, replays, `erase`, filters that make an event unreadable, the code that
`relay new connector` writes, a connector that fails at everything.
"""

import asyncio

import msgspec
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.status.model import LaneStatus, Status
from relay.testing import Destination, make_event
from tests.daemon import Daemon

PLUGIN = """
import asyncio, socket, ssl, urllib.error
import aiohttp
from relay.api import DELIVERED, Connector, ConnectorSettings, Filter, Reject, Retry, UnreadableEvent

class Anonymous(Filter, type="anonymous"):
    def apply(self, event):
        if event.properties.get("n") == 5:
            return event.with_data({key: value for key, value in event.data.items() if key != "id"})
        return event

class Fussy(Connector, type="fussy"):
    \"\"\"Fails at one event, in one way or another, and writes the ids of all others.\"\"\"

    class Settings(ConnectorSettings):
        how: str

    async def deliver(self, batch):
        how, outcomes = self.settings.how, []
        for event in batch:
            bad = event.properties.get("n") == 3
            if how == "raises" and bad:
                raise KeyError("n")
            if how == "gives up" and bad:
                raise Retry("busy")
            if how == "group" and bad:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.fail())
            if how == "everything":
                raise ZeroDivisionError("always")
            event.id if how == "ids" else event.user
            if how == "waits" and (bad or (event.properties.get("n") == 1 and batch.attempt == 1)):
                outcomes.append(Retry("later", after=3600.0 if bad else 0.0))
                continue
            outcomes.append(None if bad and how == "outcomes" else Later() if bad and how == "odd" else DELIVERED)
        with (self.folder / self.name).open("a") as file:
            for event, outcome in zip(batch, outcomes):
                if outcome is DELIVERED:
                    file.write(f"{event.properties['n']}\\n")
        return outcomes if how in ("outcomes", "odd", "waits") else None

    async def fail(self):
        raise ValueError("in a task of the group")

class Later(Retry):
    def __init__(self):
        self.after = "60"

class Refusal(urllib.error.URLError):
    pass

class EndpointConnectionError(ConnectionError):
    pass

RAISED = {
    "client": aiohttp.ClientConnectionError("https://h.test/a?key=s3cret"),
    "status": aiohttp.ClientResponseError(None, (), status=503, message="busy"),
    "os": EndpointConnectionError("cannot connect to postgres://me:s3cret@db.test:5432/base"),
    "name": socket.gaierror(-2, "Name or service not known"),
    "tls": ssl.SSLError(1, "bad handshake"),
    "time": TimeoutError(),
    "eof": asyncio.IncompleteReadError(b"", 10),
    "url": Refusal("connection refused"),
    "file": FileNotFoundError(2, "No such file or directory", "/no/such/file"),
    "group": ExceptionGroup("tasks", [ConnectionResetError(104, "Connection reset by peer"), Retry("busy")]),
}

class Away(Connector, type="away"):
    class Settings(ConnectorSettings):
        what: str

    async def deliver(self, batch):
        raise RAISED[self.settings.what]

    async def erase(self, users):
        raise RAISED[self.settings.what]
"""
WORDS = {
    "client": "ClientConnectionError: https://h.test",
    "status": "HTTP 503: busy",
    "os": "EndpointConnectionError: cannot connect to postgres://db.test:5432",
    "name": "there is no such host: Name or service not known",
    "tls": "TLS: bad handshake",
    "time": "no answer in time",
    "eof": "IncompleteReadError: 0 bytes read on a total of 10 expected bytes",
    "url": "Refusal: <urlopen error connection refused>",
    "file": "No such file or directory (/no/such/file)",
    "group": "Connection reset by peer",
}
PARKED = {
    "raises": ("bug", "bug in the connector: KeyError: 'n'"),
    "outcomes": ("bug", "bug in the connector: not an outcome: None"),
    "odd": ("bug", "bug in the connector: TypeError: must be real number, not str"),
    "group": ("bug", "bug in the connector: ValueError: in a task of the group"),
    "gives up": ("gave_up", "busy"),
}
HEAD = """
[source.braze]
type = "currents"
path = "/currents"
[erasure]
after = "1ms"
"""
FUSSY = """
[connector.%(name)s]
type = "fussy"
how = "%(how)s"
batch = { events = 8, age = "1s" }
concurrency = 1
retry = { first = "1ms", max = "10ms", give_up_after = "%(limit)s" }
"""
AWAY = """
[connector.away_%(what)s]
type = "away"
what = "%(what)s"
"""
IDS = (
    FUSSY
    + """
filters = ["anonymous"]
[filter.anonymous]
type = "anonymous"
"""
)


def lanes(daemon: Daemon) -> dict[str, LaneStatus]:
    answer = CliRunner().invoke(cli, ["status", "--json", "--state", str(daemon.state)])
    return {lane.connector: lane for lane in msgspec.json.decode(answer.output, type=Status).lanes}


def trace(daemon: Daemon, event: bytes) -> dict[str, tuple[str, set[str]]]:
    """What became of an event, and what the attempts at it came to."""
    asked = ["trace", msgspec.json.decode(event)["id"], "--json", "--state", str(daemon.state)]
    (found,) = msgspec.json.decode(CliRunner().invoke(cli, asked).stdout)["journal"]
    return {
        way["connector"]: (way["state"], {one["outcome"] for one in way["attempts"]}) for way in found["connectors"]
    }


def written(daemon: Daemon, name: str) -> list[int]:
    path = daemon.state / name
    return sorted({int(line) for line in path.read_text().split()}) if path.exists() else []


async def test_one_event_never_stops_a_lane(daemon: Daemon) -> None:
    (daemon.plugins / "fussy.py").write_text(PLUGIN)
    tables = "".join(
        FUSSY % {"name": f"x{number}", "how": how, "limit": "300ms" if how == "gives up" else "0s"}
        for number, how in enumerate([*PARKED, "everything", "waits"])
    )
    daemon.configure("10-all", HEAD + tables)
    await daemon.start()
    events = [make_event(n=n) for n in range(8)]
    assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202
    for number, (how, (cause, reason)) in enumerate(PARKED.items()):
        name = f"x{number}"
        books = await daemon.settled(name, 8)
        assert (books.counts.delivered, books.counts.parked) == (7, 1), how
        (one,) = [one for one in daemon.parked() if one.connector == name]
        assert (one.cause, one.reason[: len(reason)]) == (cause, reason)
        assert one.attempts >= 5 or cause == "gave_up"
        assert written(daemon, name) == [0, 1, 2, 4, 5, 6, 7]
    assert trace(daemon, events[0])["x0"] == ("delivered", {"not delivered", "delivered"})
    assert trace(daemon, events[3])["x0"][1] == {"not delivered", "parked"}
    broken = f"x{len(PARKED)}"
    lane = await daemon.until(lambda: lanes(daemon)[broken], lambda lane: lane.attempts["bug"] > 20)
    assert (lane.state, lane.pending, lane.outcomes["parked"]) == ("failing", 8, 0)
    told = [line for line in daemon.logged("connector raised") if line["connector"] == broken]
    assert len(told) == 1, "the same bug is told once a minute"
    waiting = f"x{len(PARKED) + 1}"
    await daemon.until(lambda: written(daemon, waiting), lambda numbers: numbers == [0, 1, 2, 4, 5, 6, 7])
    assert await daemon.stop() == 0


async def test_an_event_that_cannot_be_read_is_parked_and_no_other(daemon: Daemon) -> None:
    (daemon.plugins / "fussy.py").write_text(PLUGIN)
    made = CliRunner().invoke(cli, ["new", "connector", "fresh", str(daemon.plugins)])
    assert made.exit_code == 0, made.output
    async with Destination() as hook:
        fresh = f"""
[connector.fresh]
type = "fresh"
url = "{hook.url}"
token = {{ file = "{daemon.conf}/token" }}
"""
        (daemon.conf / "token").write_text("s3cret")
        daemon.configure(
            "10-all",
            HEAD
            + fresh
            + FUSSY % {"name": "users", "how": "users", "limit": "0s"}
            + IDS % {"name": "ids", "how": "ids", "limit": "0s"},
        )
        await daemon.start()
        events = [make_event(n=n) for n in range(8)]
        odd = b'{"event_type":"users.canvas.Entry","id":"odd-%d","properties":{"n":%b}}'
        events += [odd % (number, bad) for number, bad in enumerate([b'{"n":1e999}', rb'{"n":"\ud800"}'])]
        assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202
        for name, unreadable, good in (("fresh", 2, 8), ("users", 2, 8), ("ids", 3, 7)):
            books = await daemon.settled(name, 10)
            assert (books.counts.delivered, books.counts.parked) == (good, unreadable), name
        assert len(hook.requests) == 1, "nobody looks for the culprits by halves"
        parked = [one for one in daemon.parked() if one.connector != "ids"]
        assert {(one.cause, one.reason.partition(":")[0]) for one in parked} == {
            ("refused", "the event cannot be decoded")
        }
        causes = sorted((one.cause, one.reason[:26]) for one in daemon.parked() if one.connector == "ids")
        assert causes == [("filter", "filter anonymous: the even")] * 2 + [("refused", "the event has no id")]
        assert not daemon.logged("connector raised")
        assert await daemon.stop() == 0


async def test_an_outage_is_told_in_words_and_is_no_bug(daemon: Daemon) -> None:
    (daemon.plugins / "fussy.py").write_text(PLUGIN)
    daemon.configure("10-all", HEAD + "".join(AWAY % {"what": what} for what in WORDS))
    await daemon.start()
    assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
    asked = ["erasures", "request", "--external-id", "customer-1", "--state", str(daemon.state)]
    answer = await asyncio.to_thread(CliRunner().invoke, cli, asked)
    assert answer.exit_code == 0, answer.output
    found = await daemon.until(lambda: lanes(daemon), lambda found: all(lane.last_error for lane in found.values()))
    for what, words in WORDS.items():
        lane = found[f"away_{what}"]
        assert lane.last_error is not None
        assert lane.last_error.reason == words
        assert (lane.attempts["bug"], lane.pending) == (0, 1)
    failed = await daemon.until(
        lambda: daemon.logged("erasing failed at the connector"), lambda lines: len(lines) >= len(WORDS)
    )
    assert {line["reason"] for line in failed} == {*WORDS.values()}
    assert not daemon.logged("connector raised")
    assert "s3cret" not in "\n".join(daemon.stderr)
    assert await daemon.stop() == 0
