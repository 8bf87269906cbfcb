"""The served OpenAPI document is valid, and every answer is one that it describes."""

import gzip
import hmac
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from jsonschema import Draft202012Validator

from relay.api import Decoded, Request, Response, Secret, Source, SourceSettings
from relay.config.address import TcpAddress
from relay.config.model import IngestSettings
from relay.config.plugins.registry import Registry
from relay.ingest.server import Ingest
from relay.ingest.to_first_worker import First
from relay.journal.journal import Journal
from relay.journal.live import group_commit
from relay.state.database import StateDatabase
from relay.state.state_folder import FolderInbox
from relay.store.error import Unavailable
from relay.store.log import JournalLimits
from relay.testing import make_event
from tests.parked import list_parked


class Hooked(Source, type="hooked"):
    """Answers challenges, and fails at all else."""

    methods = ("GET", "POST")

    def respond(self, request: Request) -> Response | None:
        return Response(request.query["challenge"]) if "challenge" in request.query else None

    def decode(self, request: Request) -> Decoded:
        raise NotImplementedError


class Bench:
    """An ingest listener of its own, with one source of each type."""

    def __init__(self, folder: Path, **more: Any) -> None:
        (folder / "token").write_text("right")
        types: Any = Registry.discover(()).get_types("source")
        token = Secret("file", str(folder / "token"))
        settings = IngestSettings(listen=(TcpAddress("127.0.0.1", 0),), max_body="100kB", read_timeout="200ms")  # type: ignore[arg-type]
        sources: list[Source] = []
        for name, path in (("currents", "/braze"), ("json", "/any")):
            given = {"type": name, "path": path, "tokens": (token,), "dedupe": "1h"} | more
            sources.append(types[name](name, types[name].Settings.model_validate(given)))  # type: ignore[arg-type]
        given = {"type": "heap_segments", "path": "/segments", "secret": token} | more
        segments = types["heap_segments"]
        sources.append(segments("segments", segments.Settings.model_validate(given)))  # type: ignore[arg-type]
        hooked = SourceSettings.model_validate({"type": "hooked", "path": "/hooked"})
        sources.append(Hooked("hooked", hooked))
        self.journal = Journal(folder / "journal", JournalLimits(1 << 30, 3600), 1 << 20)
        self.state = StateDatabase(folder)
        self.ingest = Ingest(sources, settings, FolderInbox(self.journal, self.state))
        self.url = ""

    async def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, "aiohttp.ClientResponse"]:
        given = {"Authorization": "Bearer right"} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with aiohttp.request(method, self.url + path, data=body, headers=given) as answer:
            text = await answer.text()
            return answer.status, yaml.safe_load(text), answer


@asynccontextmanager
async def running(folder: Path, **more: Any) -> AsyncIterator[Bench]:
    bench = Bench(folder, **more)
    (bench.url,) = await bench.ingest.start()
    try:
        yield bench
    finally:
        await bench.ingest.stop()
        await bench.journal.close()
        bench.state.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path) as bench:
        yield bench


def resolve(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def assert_described(document: dict[str, Any], path: str, seen: tuple[int, Any, aiohttp.ClientResponse]) -> None:
    status, body, answer = seen
    operation = next(iter(resolve(document, document["paths"][path]).values()))
    described = resolve(document, operation["responses"][str(status)])
    schema = described["content"][answer.content_type]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(body)
    for name in described.get("headers", {}):
        assert int(answer.headers[name]) > 0


async def slow() -> AsyncIterator[bytes]:
    import asyncio

    yield b"{"
    await asyncio.sleep(5)


EVENTS = b'{"events":[%s]}'


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"", {}),
        (200, EVENTS % b"", {}),
        (202, EVENTS % make_event(), {}),
        (202, gzip.compress(EVENTS % make_event()), {"Content_Encoding": "gzip"}),
        (202, make_event(), {"Content_Type": "text/plain"}),
        (400, b"nonsense", {}),
        (401, b"", {"Authorization": "Bearer wrong"}),
        (408, slow, {}),
        (413, b" " * 100_001, {}),
        (415, b"x", {"Content_Encoding": "zstd"}),
    ],
)
@pytest.mark.parametrize("path", ["/braze", "/any"])
async def test_every_answer_is_described(
    bench: Bench, path: str, status: int, body: Any, headers: dict[str, str]
) -> None:
    _, document, _ = await bench.ask("GET", "/openapi.yaml")
    given = body() if callable(body) else body
    if path == "/any" and isinstance(body, bytes) and body.startswith(b'{"events"'):
        given = body.replace(b'{"events":', b"")[:-1]
    seen = await bench.ask("POST", path, given, **headers)
    if not (
        path == "/any" and "Content_Encoding" in headers and status == 202
    ):  # a batch is one json event without type
        assert seen[0] == status
    assert_described(document, path, seen)


PAGE = b'{"action_type":"segment.users.sync","data":{"segment":{"id":1},"sync_info":{"sync_task_id":"t"}}}'


def signed(body: bytes) -> str:
    stamp = str(round(time.time() * 1000))
    return f"ts:{stamp},hmac:{b64encode(hmac.digest(b'right', stamp.encode() + body, 'sha256')).decode()}"


@pytest.mark.parametrize(
    ("status", "body", "proof", "accepted"),
    [
        (200, PAGE, signed, 1),
        (200, b"", signed, 0),
        (400, b"{}", signed, 0),
        (400, PAGE, lambda _: "nonsense", 0),
        (401, PAGE, lambda _: signed(b"other"), 0),
        (415, PAGE, signed, 0),
    ],
)
async def test_how_heap_signs_and_is_answered_is_described(
    bench: Bench, status: int, body: bytes, proof: Callable[[bytes], str], accepted: int
) -> None:
    _, document, _ = await bench.ask("GET", "/openapi.yaml")
    operation = resolve(document, document["paths"]["/segments"])["post"]
    (scheme,) = operation["security"][0]
    assert document["components"]["securitySchemes"][scheme]["name"] == "Heap-Hash"
    assert "202" not in operation["responses"]
    assert operation["responses"]["200"]["description"].startswith("Everything is on disk")
    encoding = {"Content_Encoding": "zstd"} if status == 415 else {}
    seen = await bench.ask("POST", "/segments", body, Heap_Hash=proof(body), **encoding)
    assert (seen[0], seen[1].get("accepted", 0)) == (status, accepted)
    assert_described(document, "/segments", seen)


@pytest.mark.parametrize("path", ["/braze", "/any"])
async def test_an_answer_tells_what_was_left_out(bench: Bench, path: str) -> None:
    _, document, _ = await bench.ask("GET", "/openapi.yaml")
    event = make_event()
    for expected in ({"accepted": 1, "parked": 0, "duplicates": 0}, {"accepted": 0, "parked": 0, "duplicates": 1}):
        seen = await bench.ask("POST", path, event)
        assert seen[:2] == (202, expected)
        assert_described(document, path, seen)


@pytest.mark.promise(5)
@pytest.mark.parametrize("path", ["/braze", "/any"])
async def test_an_outsider_is_403_whatever_it_sends_and_no_failure_of_the_source(tmp_path: Path, path: str) -> None:
    async with running(tmp_path, allow=["192.0.2.0/24"]) as bench:
        _, document, _ = await bench.ask("GET", "/openapi.yaml")
        for method, body, headers in (
            ("POST", make_event(), {}),
            ("POST", b"", {"Authorization": "Bearer wrong"}),
            ("POST", make_event(), {"X_Forwarded_For": "192.0.2.1"}),
            ("PUT", b"", {}),
        ):
            seen = await bench.ask(method, path, body, **headers)
            assert seen[0] == 403
            assert_described(document, path, seen)
        assert bench.journal.head == 0
        assert all(intake.refusal_clock.refusals is None for intake in bench.ingest.intakes.values())


@pytest.mark.promise(5)
@pytest.mark.parametrize("path", ["/braze", "/any"])
async def test_too_many_events_are_429_until_one_gets_through(tmp_path: Path, path: str) -> None:
    async with running(tmp_path, rate=0.001) as bench:
        _, document, _ = await bench.ask("GET", "/openapi.yaml")
        for _ in range(2):  # the second makes debts
            assert (await bench.ask("POST", path, make_event()))[0] == 202
        seen = await bench.ask("POST", path, make_event())
        assert seen[0] == 429
        assert_described(document, path, seen)
        assert bench.journal.head == 2
        for headers, status in (({"Authorization": "Bearer wrong"}, 401), ({}, 429)):
            assert (await bench.ask("POST", path, make_event(), **headers))[0] == status
        guard = bench.ingest.intakes[{"/braze": "currents", "/any": "json"}[path]].refusal_clock
        assert guard.refusals is not None
        assert guard.refusals.status == 429
        assert (await bench.ask("POST", path, b""))[0] == 200
        assert guard.refusals is None


async def test_the_document_is_valid_and_names_the_sources_paths(bench: Bench) -> None:
    _, document, answer = await bench.ask("GET", "/openapi.yaml")
    from openapi_spec_validator import validate  # takes long to import: one process of the tests needs it

    validate(document)
    assert answer.content_type == "application/yaml"
    sources = {"/braze", "/any", "/segments", "/hooked"}
    assert set(document["paths"]) == {"/healthz", "/readyz", "/openapi.yaml", *sources}
    for path in ("/healthz", "/readyz"):
        assert_described(document, path, await bench.ask("GET", path))


async def test_answers_of_a_source_that_is_challenged_or_wrong_are_described(bench: Bench) -> None:
    _, document, _ = await bench.ask("GET", "/openapi.yaml")
    described = resolve(document, document["paths"]["/hooked"])
    status, text, _ = await bench.ask("GET", "/hooked?challenge=abc")
    assert (status, text) == (200, "abc")
    assert "*/*" in described["get"]["responses"]["200"]["content"]
    seen = await bench.ask("GET", "/hooked")
    assert seen[0] == 405
    assert_described(document, "/hooked", seen)
    seen = await bench.ask("POST", "/hooked", b"{}")
    assert seen[0] == 500
    assert_described(document, "/hooked", seen)
    assert described["post"] == resolve(document, document["paths"]["/braze"])["post"]


async def test_a_stopping_relay_is_alive_not_ready_and_answers_retry_after(bench: Bench) -> None:
    _, document, _ = await bench.ask("GET", "/openapi.yaml")
    await bench.ingest.drain()
    assert (await bench.ask("GET", "/healthz"))[0] == 200
    for method, path in (("GET", "/readyz"), ("POST", "/braze")):
        seen = await bench.ask(method, path, b"" if method == "POST" else None)
        assert seen[0] == 503
        assert_described(document, path, seen)
    assert (await bench.ask("POST", "/braze", b"", Authorization="Bearer wrong"))[0] == 401


@pytest.mark.promise(5)
async def test_what_the_journal_cannot_take_is_503_and_parks_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def full(*_: Any) -> int:
        raise Unavailable("the journal is full")

    monkeypatch.setattr(bench.journal, "append", full)
    status, problem, answer = await bench.ask("POST", "/braze", EVENTS % (make_event() + b",{}"))
    assert (status, problem["detail"]) == (503, "the journal is full")
    assert int(answer.headers["Retry-After"]) > 0
    assert list_parked(tmp_path) == []


@pytest.mark.promise(5)
async def test_what_the_journal_can_never_hold_is_413(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at: all source types, and events for the first of several workers, which has a journal as large."""
    async with running(tmp_path) as bench:
        monkeypatch.setattr(group_commit, "find_largest_record", lambda _: 20_000)
        bench.journal.set_limits(JournalLimits(1 << 30, 3600), 1 << 20)
        large, small = make_event(text="x" * 30_000), make_event()
        for path in ("/braze", "/any"):
            status, said, _ = await bench.ask("POST", path, b'{"events":[%s]}' % large if path == "/braze" else large)
            assert (status, "half of journal.max_size" in said["detail"]) == (413, True)
            status, _, _ = await bench.ask("POST", path, b'{"events":[%s]}' % small if path == "/braze" else small)
            assert status == 202
        for intake in bench.ingest.intakes.values():
            intake._first = First(tmp_path / "first.sock", [])
        assert (await bench.ask("POST", "/braze", b'{"events":[%s]}' % large))[0] == 413
        assert bench.journal.head == 2
