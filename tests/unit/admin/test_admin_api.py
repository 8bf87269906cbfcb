"""The API answers what its document says, to those who may ask."""

import asyncio
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from relay.admin.acts import SAID, clean_name, make_reload_entry
from relay.admin.handlers import status as api_module
from relay.admin.openapi import render_contract
from relay.admin.tail import Tap
from relay.api import Connector, ConnectorSettings, Secret, User
from relay.config.address import TcpAddress
from relay.config.mistake import Mistake
from relay.config.model import Configured
from relay.state.erasure.table import FolderErasures, save_answers
from relay.state.history import FolderHistory
from relay.state.replays import FolderReplays
from relay.status.reload_result import ReloadChange, ReloadResult
from relay.store import ConnectorAnswer, Cursor, Entry, JournalLimits, Parked, Replay
from tests.toy_store.store import ToyStore
from tests.unit.admin.shown_daemon import Bench, Shown
from tests.unit.status.statuses import a_status

DOCUMENT = yaml.load(render_contract(), yaml.CSafeLoader)
PARKED = Parked("braze", "heap", 3, "t", "refused", "no", 1, b'\xff{"id":1}')


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def assert_described(method: str, path: str, seen: tuple[int, Any, Any]) -> None:
    status, body, answer = seen
    described = resolve(DOCUMENT["paths"][path][method.lower()]["responses"][str(status)])
    schema = described["content"][answer.content_type]["schema"]
    if schema != {"type": "string"}:
        Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(body)


async def test_whether_relay_is_alive_costs_no_document(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.admin.openapi.render_contract", pytest.fail)
    assert (await bench.ask("HEAD", "/openapi.yaml"))[:2] == (200, "")


async def test_the_document_is_valid_and_every_route_is_in_it(bench: Bench) -> None:
    assert (await bench.ask("GET", "/openapi.yaml"))[1] == render_contract()
    from openapi_spec_validator import validate  # takes long to import: one process of the tests needs it

    validate(DOCUMENT)
    served = {
        (route.method, route.resource.canonical)
        for route in bench.admin._runners[0].app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    methods = ("get", "post", "delete")
    described = {(m.upper(), path) for path, item in DOCUMENT["paths"].items() for m in methods if m in item}
    assert served == described


@pytest.mark.parametrize(
    ("status", "method", "path", "template", "body"),
    [
        (200, "GET", "/status", None, None),
        (200, "GET", "/lanes", None, None),
        (200, "GET", "/health", None, None),
        (200, "GET", "/metrics", None, None),
        (200, "GET", "/config", None, None),
        (200, "GET", "/types", None, None),
        (200, "POST", "/check", None, {"files": {"60-more.toml": "[connector.more]"}}),
        (400, "POST", "/check", None, {"files": {"../60-more.toml": ""}}),
        (200, "GET", "/lanes/heap/tables", "/lanes/{connector}/tables", None),
        (404, "GET", "/lanes/hoop/tables", "/lanes/{connector}/tables", None),
        (404, "GET", "/lanes/heap/tables/users", "/lanes/{connector}/tables/{table}", None),
        (404, "POST", "/lanes/hoop/probe", "/lanes/{connector}/probe", None),
        (200, "GET", "/audit", None, None),
        (200, "GET", "/trace?id=event-1", "/trace", None),
        (400, "GET", "/trace", None, None),
        (200, "GET", "/journal", None, None),
        (200, "GET", "/journal/events?start=1&stop=3&events=email&events=sms&limit=2", "/journal/events", None),
        (200, "GET", "/journal/types?since=1", "/journal/types", None),
        (400, "GET", "/journal/types?since=now", "/journal/types", None),
        (400, "GET", "/journal/events?from=1", "/journal/events", None),
        (400, "GET", "/journal/events?start=-1", "/journal/events", None),
        (400, "GET", f"/journal/events?limit={10**25}", "/journal/events", None),
        (200, "POST", "/replays/count", None, {"connector": "heap", "events": ["email"], "since": 1.5, "until": None}),
        (400, "POST", "/replays/count", None, {"connector": "heap", "start": 0}),
        (404, "POST", "/replays/count", None, {"connector": "hoop"}),
        (404, "GET", "/tail?at=hoop", "/tail", None),
        (404, "POST", "/lanes/hoop/pause", "/lanes/{connector}/pause", None),
        (200, "POST", "/lanes/gone/forget", "/lanes/{connector}/forget", None),
        (400, "POST", "/lanes/heap/forget", "/lanes/{connector}/forget", None),
        (404, "POST", "/lanes/hoop/forget", "/lanes/{connector}/forget", None),
        (200, "GET", "/parked?connector=heap&limit=1&number=1", "/parked", None),
        (400, "GET", "/parked?conector=heap", "/parked", None),
        (400, "GET", "/parked?limit=many", "/parked", None),
        (200, "GET", "/parked?order=newest&after=7&type=t&reason=no&until=9e9", "/parked", None),
        (400, "GET", "/parked?order=best", "/parked", None),
        (200, "GET", "/parked/groups?connector=heap&type=t", "/parked/groups", None),
        (400, "GET", "/parked/groups?limit=1", "/parked/groups", None),
        (200, "POST", "/parked/count", None, {"connector": "heap", "numbers": [1]}),
        (200, "POST", "/parked/count", None, {}),
        (400, "POST", "/parked/drop", None, {}),
        (400, "POST", "/parked/drop", None, {"conector": "heap"}),
        (400, "POST", "/parked/replay", None, [1]),
        (200, "POST", "/parked/replay", None, {"cause": "refused"}),
        (400, "POST", "/parked/count", None, {"cause": "refusd"}),
        (400, "GET", "/parked?cause=refusd", "/parked", None),
        (200, "GET", "/replays", None, None),
        (
            200,
            "POST",
            "/replays",
            None,
            {"connector": "heap", "start": 0, "stop": 10, "events": ["email"], "rate": 5.0},
        ),
        (400, "POST", "/replays", None, {"connector": "heap", "start": 0, "stop": 11}),
        (400, "POST", "/replays", None, {"connector": "heap", "start": 0, "stop": 10, "until": 5}),
        (400, "POST", "/replays", None, {"connector": "heap", "start": 0, "stop": 10, "rate": -5}),
        (400, "POST", "/replays", None, {"connector": "heap", "start": 0, "stop": 10, "rate": 1e300}),
        (404, "POST", "/replays", None, {"connector": "hoop", "start": 0, "stop": 10}),
        (404, "POST", "/replays", None, {"connector": "heap", "start": 0, "stop": 10, "worker": 1}),
        (200, "DELETE", "/replays/7", "/replays/{number}", None),
        (200, "GET", "/erasures", None, None),
        (200, "GET", "/history?since=1&kind=failing&subject=heap&limit=2", "/history", None),
        (400, "GET", "/history?until=1", "/history", None),
        (200, "POST", "/history", None, {"subject": "connector heap", "refused": "pause"}),
        (400, "POST", "/history", None, {"subject": "connector heap", "refused": ""}),
        (400, "POST", "/history", None, {"kind": "started", "subject": "relay", "refused": "x"}),
        (200, "POST", "/erasures", None, {"user_id": "anna", "external_ids": ["a1", "a2"]}),
        (200, "POST", "/erasures", None, {"external_ids": ["a1"]}),
        (200, "POST", "/erasures", None, {"user_id": "anna", "other_ids": [["alias:crm", "17"]]}),
        (400, "POST", "/erasures", None, {"user_id": "anna", "other_ids": [["phone", "17"]]}),
        (400, "POST", "/erasures", None, {}),
        (400, "POST", "/erasures", None, {"user_id": "anna", "external_id": "a1"}),
        (200, "POST", "/erasures/check", None, {"user_id": "anna"}),
        (400, "POST", "/erasures/check", None, {"user_id": "", "external_ids": [""]}),
    ],
)
async def test_every_answer_is_described(
    bench: Bench, status: int, method: str, path: str, template: str | None, body: Any
) -> None:
    await bench.state.park([PARKED])
    await bench.state.save({"gone": Cursor(0, 4)}, 10)
    FolderReplays(bench.shown.folder).ask(Replay("heap", Cursor(0, 0), 5))
    FolderErasures(bench.shown.folder).ask(User("anna", ("a1",)))
    FolderHistory(bench.shown.folder).add([Entry("failing", "connector heap", "heap fails", about={"pending": 3})])
    await bench.state.run(lambda db: save_answers(db, {1: ConnectorAnswer("heap", "failed", "HTTP 503")}))
    seen = await bench.ask(method, path, body)
    assert seen[0] == status, seen[1]
    assert_described(method, template or path, seen)


async def test_parked_events_are_counted_replayed_and_dropped_as_named(bench: Bench) -> None:
    await bench.state.park([PARKED, Parked("braze", None, None, None, "unreadable", "no", 0, b"x")])
    assert (await bench.ask("POST", "/parked/count", {"connector": "heap"}))[1] == {"events": 1}
    assert (await bench.ask("POST", "/parked/replay", {"source": "braze"}))[1] == {"events": 1}
    assert (await bench.ask("POST", "/parked/drop", {"numbers": [2, 9]}))[1] == {"events": 1}
    assert (await bench.ask("POST", "/parked/count", {}))[1] == {"events": 1}


async def test_a_wrong_selection_of_parked_events_says_what_is_expected(bench: Bench) -> None:
    said = [(await bench.ask("POST", "/parked/count", body))[1]["detail"] for body in (None, [1], {"cause": "refusd"})]
    expected = '; expected a JSON object such as {"connector": "heap"}'
    assert said[0] == f"the body is empty{expected}"
    assert said[1].endswith(expected)
    assert said[2].startswith("there is no cause refusd; causes: unreadable, filter, refused, ")


async def test_a_wrong_replay_or_query_names_the_field(bench: Bench) -> None:
    missing = (await bench.ask("POST", "/replays", {"connector": "heap", "stop": 8}))[1]["detail"]
    wrong = (await bench.ask("POST", "/replays", {"connector": "heap", "start": "0", "stop": 8}))[1]["detail"]
    assert ("`start`" in missing, "$.start" in wrong) == (True, True), (missing, wrong)
    for name in ("bodys", "numbers"):
        status, problem, _ = await bench.ask("GET", f"/parked?{name}=1")
        known = "after, bodies, cause, connector, limit, number, order, reason, since, source, type, until"
        assert (status, problem["detail"]) == (400, f"{name} is not known here; known: {known}")


async def test_a_replay_is_asked_for_and_cancelled(bench: Bench) -> None:
    asked = {"connector": "heap", "start": 2, "stop": 8, "events": ["email"], "rate": 5}
    assert (await bench.ask("POST", "/replays", asked))[1] == {"number": 1, "runs": True}
    (one,) = FolderReplays(bench.shown.folder).read()
    assert (one.connector, one.cursor.start, one.stop, one.entries, one.rate) == ("heap", 2, 8, ["email"], 5.0)
    assert (await bench.ask("DELETE", "/replays/1"))[1] == {"cancelled": True}
    assert (await bench.ask("DELETE", "/replays/1"))[1] == {"cancelled": False}


async def test_a_pause_says_whether_it_was_news(bench: Bench) -> None:
    for action, changed in (("pause", True), ("pause", False), ("resume", True), ("resume", False)):
        seen = await bench.ask("POST", f"/lanes/heap/{action}")
        more = {} if action == "pause" else {"retried": False}
        assert seen[:2] == (200, {"connector": "heap", "paused": action == "pause", "changed": changed} | more)
        assert_described("POST", f"/lanes/{{connector}}/{action}", seen)


async def test_a_lane_that_waits_for_its_destination_is_tried_at_once(bench: Bench) -> None:
    for action in ("resume", "retry"):
        bench.shown.waits = True
        for retried in (True, False):
            seen = await bench.ask("POST", f"/lanes/heap/{action}")
            assert (seen[0], seen[1]["retried"]) == (200, retried)
            assert_described("POST", f"/lanes/{{connector}}/{action}", seen)
    assert (await bench.ask("POST", "/lanes/nobody/retry"))[0] == 404


async def test_only_so_many_taps_at_a_time_and_whoever_leaves_makes_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "TAPS", 1)
    connector = aiohttp.UnixConnector(str(bench.socket))
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://relay/tail"):
        assert [type(tap) for tap in bench.shown.passing] == [Tap]
        assert (await bench.ask("GET", "/tail"))[0] == 503
    async with asyncio.timeout(30):
        while bench.shown.passing:
            await asyncio.sleep(0.005)


async def test_the_socket_is_ours_alone_and_lies_where_systemd_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tmp_path / "run", tmp_path / "state"
    run.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(run))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(run / "admin.sock"))
    bench = Bench(folder)
    (folder / "admin.sock").symlink_to(tmp_path / "elsewhere")
    await bench.admin.start()
    assert stat.S_IMODE((run / "admin.sock").stat().st_mode) == 0o600
    assert (folder / "admin.sock").readlink() == run / "admin.sock"
    assert (await bench.ask("GET", "/lanes"))[0] == 200
    await bench.admin.stop()
    assert not any(folder.glob("admin.sock"))
    assert not any(run.iterdir())
    bench.state.close()


async def test_a_loopback_address_wants_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t")
    given = {"listen": (TcpAddress("127.0.0.1", 0),), "tokens": (Secret("file", str(tmp_path / "token")),)}
    bench = Bench(tmp_path, **given)
    await bench.admin.start()
    (address,) = [one for one in bench.admin.addresses["admin"] if one.startswith("http")]
    for header, status in (({}, 401), ({"Authorization": "Bearer x"}, 401), ({"Authorization": "Bearer s3cr3t"}, 200)):
        async with aiohttp.request("GET", f"{address}/lanes", headers=header) as answer:
            assert answer.status == status
    await bench.admin.stop()
    bench.state.close()


async def test_an_unknown_path_is_answered_with_the_list_of_paths(bench: Bench) -> None:
    status, problem, _ = await bench.ask("GET", "/nonsense")
    assert (status, "/openapi.yaml" in problem["detail"]) == (404, True)


async def test_what_the_process_that_reads_does_not_find_is_not_there(bench: Bench) -> None:
    idle = Configured("idle", Connector, ConnectorSettings(type="heap"))
    bench.shown.config = replace(bench.shown.config, connectors={"idle": idle})
    status, said, _ = await bench.ask("POST", "/replays/count", {"connector": "idle"})
    assert (status, said["detail"].split(":")[0]) == (404, "connector idle has not run yet")


def test_who_somebody_says_they_are_is_one_short_line() -> None:
    assert clean_name("\x1b[31mEve\u202e \t of\n  relay") == "[31mEve of relay"
    assert clean_name("x" * 1000) == "x" * 100


async def test_an_action_that_a_client_refused_is_noted_with_its_user(bench: Bench) -> None:
    await bench.ask("POST", "/history", {"subject": "connector heap", "refused": "pa\x1buse"}, **{"Relay-By": "eve"})
    (entry,) = bench.shown.noted
    assert (entry.kind, entry.subject, entry.by) == ("refused", "connector heap", "eve")
    assert entry.sentence == "eve may not do this: pause"


def test_a_reload_names_the_connectors_and_sources_that_it_has_changed() -> None:
    changes = [ReloadChange("connector", "heap", "added"), ReloadChange("setting", "journal.max_size", "changed")]
    entry = make_reload_entry(ReloadResult(changes=changes), by="root")
    assert entry.about == {
        "said": ["connector heap: added", "journal.max_size: changed"],
        "changed": ["connector heap"],
    }


def test_a_reload_that_is_refused_is_kept_with_every_mistake() -> None:
    mistakes = [f"60-heap.toml:{line}: expected a number" for line in range(3)]
    refused = [Mistake(file="60-heap.toml", line=line, reason="expected a number") for line in range(3)]
    entry = make_reload_entry(ReloadResult(mistakes=refused), by="root")
    assert entry.sentence.endswith(": " + "; ".join(mistakes))
    assert (entry.kind, entry.by, entry.about) == ("reload_refused", "root", {"said": mistakes})
    many = make_reload_entry(ReloadResult(mistakes=refused * SAID), by="")
    assert [*many.about["said"][SAID - 1 :]] == [mistakes[(SAID - 1) % 3], f"and {2 * SAID} more"]


async def test_status_is_of_all_nodes_and_metrics_are_of_this_node(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ToyStore(partitions=2)
    log, state = store.open(0, JournalLimits(64 << 20, 3600), 1 << 20)
    store.join(0).report(msgspec.json.encode(a_status(strays=70)), {})
    store.join(1).report(msgspec.json.encode(a_status(strays=7, partitions=[1])), {})
    monkeypatch.setattr(Shown, "store", store)
    seen = await bench.ask("GET", "/status")
    assert_described("GET", "/status", seen)
    assert (seen[1]["strays"], [one["worker"] for one in seen[1]["nodes"]]) == (77, [0, 1])
    assert (await bench.ask("GET", "/health"))[1]["nodes"][1]["said"] == "node toy (worker 1): runs partition 0 on toy"
    assert "relay_ingest_stray_requests_total 0.0" in (await bench.ask("GET", "/metrics"))[1]
    store.world.away = True
    monkeypatch.setattr(store, "read_processes", store.world.check)
    assert (await bench.ask("GET", "/status"))[1]["strays"] == 0, "the store is away"
    await log.close()
    state.close()
