"""Whatever a source does wrong is told under its name: nothing of it is kept, and everybody else goes on."""

import hmac
import json
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.status.model import SourceStatus, Status
from relay.testing import Destination, make_event
from tests.daemon import Daemon

PLUGIN = """
import time
from relay.api import Decoded, Denied, Entries, Kind, Malformed, Response, Secret, Source, SourceSettings, Unreadable

GOOD = b'{"id": "1"}'

async def later(*_):
    pass

class Crooked(Source, type="crooked"):
    class Settings(SourceSettings):
        what: str

    @property
    def what(self):
        return self.settings.what

    def rest(self, call):
        if self.what == call + " sleeps":
            time.sleep(0.12)

    def authorize(self, request):
        self.rest("authorize")
        if self.what == "authorize raises":
            raise KeyError("who")
        return True if self.what == "authorize returns" else None

    def verify(self, request):
        self.rest("verify")
        if self.what == "verify raises":
            raise ZeroDivisionError
        if self.what == "verify awaits":
            return later()
        return False if self.what == "verify returns" else None

    def respond(self, request):
        self.rest("respond")
        return {
            "respond text": "challenge",
            "respond large": Response(b"x" * 65_537),
            "respond status": Response(b"no", status=401),
            "respond type": Response(b"no", content_type="text/html\\r\\nX-Injected: 1"),
        }.get(self.what)

    def decode(self, request):
        kind, two = self.kind("a"), [GOOD, GOOD]
        self.rest("decode")
        return {
            "one kind for two": lambda: Decoded([kind], two),
            "one kind for two entries": lambda: Decoded([kind], Entries(two)),
            "too few ids": lambda: Decoded([kind, kind], two, ids=["1"]),
            "text as body": lambda: Decoded([kind], ["{}"]),
            "no object": lambda: Decoded([kind], [b"[]"]),
            "two objects": lambda: Decoded([kind], [GOOD + b"," + GOOD]),
            "half an object": lambda: Decoded([kind], [b'{"id":']),
            "kind is a text": lambda: Decoded(["a"], [GOOD]),
            "kind of another": lambda: Decoded([Kind("braze", "a")], [GOOD]),
            "no Decoded": lambda: ([kind], [GOOD]),
            "none": lambda: None,
            "awaits": lambda: later(),
            "decode raises": lambda: 1 / 0,
        }.get(self.what, lambda: Decoded([kind], [GOOD], ids=["1"]))()

class Watcher(Crooked, type="watcher"):
    watches = True

    def __getattribute__(self, name):
        if name in ("notice", "incomplete", "remember") and name in object.__getattribute__(self, "settings").what:
            raise RuntimeError(name)
        return super().__getattribute__(name)

    def kept(self, bodies):
        self.rest("kept")
        if self.what == "kept raises":
            raise ZeroDivisionError
        if self.what == "kept exits":
            raise SystemExit(3)
        return later() if self.what == "kept awaits" else None
"""
WRONG = {
    "authorize raises": "authorize raised KeyError",
    "authorize returns": "authorize returned True",
    "verify raises": "verify raised ZeroDivisionError",
    "verify awaits": "verify returned a coroutine",
    "verify returns": "verify returned False",
    "respond text": "respond returned an object of the type str",
    "respond large": "more than 65,536 bytes",
    "respond status": "respond returned a status",
    "respond type": "respond returned a content type",
    "one kind for two": "1 kind for 2 bodies",
    "one kind for two entries": "1 kind for 2 bodies",
    "too few ids": "1 id for 2 bodies",
    "text as body": "type str as body 1",
    "no object": "no JSON object (body 1)",
    "two objects": "no JSON object (body 1)",
    "half an object": "no JSON object (body 1)",
    "kind is a text": "type str as a kind",
    "kind of another": "a kind of another source",
    "no Decoded": "type tuple, not Decoded",
    "none": "decode returned None",
    "awaits": "decode returned a coroutine",
    "decode raises": "decode raised ZeroDivisionError",
}
SLOW = ["authorize", "verify", "respond", "decode", "kept"]
WATCHED = {
    "kept raises": "kept raised ZeroDivisionError",
    "kept exits": "kept raised SystemExit",
    "kept awaits": "kept returned a coroutine",
    "remember": "remember raised RuntimeError",
    "notice": "notice raised RuntimeError",
    "incomplete": "incomplete raised RuntimeError",
}
HEAD = """
[source.braze]
type = "currents"
path = "/currents"
[runtime]
workers = %d
drain = "2s"
[connector.hook]
type = "http"
url = "%s"
"""
SOURCE = """
[source.%(name)s]
type = "%(type)s"
path = "/%(name)s"
what = "%(what)s"
dedupe = "1h"
"""


def table(type: str, what: str) -> str:
    return SOURCE % {"name": named(what), "type": type, "what": what}


def named(what: str) -> str:
    return what.replace(" ", "_").lower()


def status(daemon: Daemon) -> dict[str, SourceStatus]:
    answer = CliRunner().invoke(cli, ["status", "--json", "--state", str(daemon.state)])
    return {one.source: one for one in msgspec.json.decode(answer.output, type=Status).sources}


def bugs(daemon: Daemon, what: str) -> list[dict[str, Any]]:
    return [line for line in daemon.logged("bug in a source") if line["source"] == named(what)]


async def test_a_failure_of_a_source_harms_no_other_and_is_logged_with_its_name(daemon: Daemon) -> None:
    """Looked at: authorize, verify, respond, decode in the loop and in a thread, with `dedupe` and without."""
    (daemon.plugins / "crooked.py").write_text(PLUGIN)
    tables = [*(table("crooked", what) for what in WRONG), *(table("watcher", f"{call} sleeps") for call in SLOW)]
    async with Destination() as hook:
        daemon.configure("10-all", HEAD % (1, hook.url) + "".join(tables))
        await daemon.start()
        for what, said in WRONG.items():
            for body in (b"[]", b" " * 300_000):
                code, problem = await daemon.post(body, f"/{named(what)}")
                assert (code, problem["title"], problem["status"]) == (500, "Internal Server Error", 500)
                assert f"source {named(what)}: bug in its plugin crooked (source type crooked)" in problem["detail"]
                assert said in problem["detail"]
        for call in SLOW:
            assert (await daemon.post(b"[]", f"/{call}_sleeps"))[0] == 202
        assert (await daemon.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await daemon.settled("hook", len(SLOW) + 1)
        found = status(daemon)
        for what, said in WRONG.items():
            assert found[named(what)].requests["5xx"] == 2
            assert found[named(what)].accepted == 0
            (line,) = bugs(daemon, what)
            assert (line["level"], line["plugin"]) == ("error", "crooked (source type crooked)")
            assert said in line["reason"]
        assert not daemon.logged("request refused")
        slow = {
            (one.get("source"), one["call"]) for one in daemon.logged("a plugin held up relay") if one["seconds"] >= 0.1
        }
        assert slow >= {(f"{call}_sleeps", call) for call in SLOW}
        assert await daemon.stop() == 0
    for command in (["audit"], ["journal", "check"]):
        assert CliRunner().invoke(cli, [*command, "--state", str(daemon.state)]).exit_code == 0


async def test_events_on_disk_are_answered_2xx_whatever_their_source_does_then(daemon: Daemon) -> None:
    """Looked at: kept, remember, notice and incomplete, in the worker that keeps the events and in the other one.
    Duplicates are noted all the same."""
    (daemon.plugins / "crooked.py").write_text(PLUGIN)
    async with Destination() as hook:
        daemon.configure("10-all", HEAD % (2, hook.url) + "".join(table("watcher", what) for what in WATCHED))
        await daemon.start()
        for what in WATCHED:
            taken = [(await daemon.post(b"[]", f"/{named(what)}"))[0] for _ in range(4)]
            assert taken == [202] * 4
        found = await daemon.until(
            lambda: status(daemon), lambda found: all(found[w].duplicates for w in map(named, WATCHED))
        )
        assert {found[named(what)].accepted for what in WATCHED} == {1}
        assert found["notice"].notice.startswith("its notice cannot be read")
        for what, said in WATCHED.items():
            lines = await daemon.until(lambda what=what: bugs(daemon, what), bool)
            assert len({line.get("worker") for line in lines}) == len(lines), "each worker tells it once a minute"
            assert said in lines[0]["reason"]
        assert await daemon.stop() == 0


CHALLENGED = """
import hashlib, hmac
from relay.api import Decoded, Denied, Response, Secret, Source, SourceSettings, check_hmac

class Hook(Source, type="hook"):
    methods = ("GET", "POST")

    class Settings(SourceSettings):
        secret: Secret

    def verify(self, request):
        check_hmac(request.headers.get("X-Signature"), self.settings.secret, request.body, prefix="sha256=")

    def respond(self, request):
        if request.method == "GET":
            if "hub.challenge" not in request.query:
                return None
            if request.query.get("hub.verify_token") != self.settings.secret.reveal():
                raise Denied("no, it is not " + request.query.get("hub.verify_token", ""))
            return Response(request.query["hub.challenge"])
        return Response(request.json()["challenge"]) if b"challenge" in request.body else None

    def decode(self, request):
        type = request.query.get("type") or request.header("X-Event")
        return Decoded([self.kind(type)], [request.body], ids=[request.header("X-Id")])
"""
CHALLENGES = """
[source.hook]
type = "hook"
path = "/hook"
secret = { file = "%(secret)s" }
[source.shut]
type = "hook"
path = "/shut"
secret = { file = "%(secret)s" }
allow = ["192.0.2.1"]
[source.braze]
type = "currents"
path = "/currents"
"""


async def test_a_source_answers_challenges_and_reads_types_from_headers(daemon: Daemon, tmp_path: Path) -> None:
    """Looked at: GET of sources that do not want it, and from where the source's `allow` does not reach."""
    (tmp_path / "secret").write_text("s3cret-of-the-hook")
    (daemon.plugins / "hook.py").write_text(CHALLENGED)
    daemon.configure("10-all", CHALLENGES % {"secret": tmp_path / "secret"})
    await daemon.start()

    async def ask(path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, str, dict[str, str]]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with aiohttp.request(method, daemon.url + path, data=body or None, headers=given) as answer:
            return answer.status, await answer.text(), {**answer.headers}

    good = "/hook?hub.mode=subscribe&hub.verify_token=s3cret-of-the-hook&hub.challenge=a%26b"
    code, text, headers = await ask(good)
    assert (code, text) == (200, "a&b")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    for path, status_code in (
        (good.replace("verify_token=s3", "verify_token=x"), 401),
        ("/hook", 405),
        (good.replace("hook?", "shut?"), 403),
        ("/currents?hub.challenge=1", 405),
    ):
        code, text, headers = await ask(path)
        assert (code, json.loads(text)["status"]) == (status_code, status_code)
        assert "s3cret" not in text
    assert headers["Allow"] == "POST"
    body = b'{"type": "url_verification", "challenge": "3eZbrw1a"}'
    signature = "sha256=" + hmac.digest(b"s3cret-of-the-hook", body, "sha256").hex()
    assert (await ask("/hook", "POST", body, X_Signature=signature))[:2] == (200, "3eZbrw1a")
    assert (await ask("/hook", "POST", body, X_Signature=signature[:-1] + "_"))[0] == 401
    event = b'{"id": "17", "total": 12}'
    signature = "sha256=" + hmac.digest(b"s3cret-of-the-hook", event, "sha256").hex()
    assert (await ask("/hook", "POST", event, X_Signature=signature, X_Event="order.New", X_Id="17"))[0] == 202
    assert (await ask("/hook?type=order.%4Fld", "POST", event, X_Signature=signature, X_Id="18"))[0] == 202
    code, text, _ = await ask("/hook", "POST", event, X_Signature=signature)
    assert (code, json.loads(text)["detail"]) == (400, "the header X-Event is missing")
    dumped = CliRunner().invoke(cli, ["journal", "dump", "--state", str(daemon.state)]).output
    assert [json.loads(line)["type"] for line in dumped.splitlines()] == ["order.New", "order.Old"]
    assert await daemon.stop() == 0
