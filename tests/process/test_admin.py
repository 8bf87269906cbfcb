"""What admins see of a real daemon, and have it do, by its socket and with the commands."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.client import find_login
from relay.status.model import Status
from relay.testing import Answer, Destination, make_event
from tests.certificates import Authority
from tests.daemon import Daemon

ROOT = Path(__file__).parents[2]
CLICK, OPEN = "users.messages.email.Click", "users.messages.email.Open"
SOURCE = '[source.braze]\ntype="currents"\npath="/currents"\n'
SAMPLE = re.compile(r"^(relay_\w+?)(_bucket|_sum|_count)?(?:\{(.*)\})? ", re.MULTILINE)


def relay(daemon: Daemon, *arguments: object) -> tuple[int, str]:
    """Run a command in this process, which is not the daemon's."""
    result = CliRunner().invoke(cli, [*map(str, arguments), "--state", str(daemon.state)])
    return result.exit_code, result.output


def seen(daemon: Daemon) -> Status:
    """What `relay status --json` says."""
    return msgspec.json.decode(relay(daemon, "status", "--json")[1], type=Status)


async def send(daemon: Daemon, *events: bytes) -> None:
    assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202


def metrics_documented() -> dict[str, tuple[str, set[str]]]:
    """Return the type and labels of each metric that the reference lists."""
    page = (ROOT / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(relay_\w+)` \| (\w+) \| ([\w, ]*)\|", page, re.MULTILINE)
    return {name: (kind, set(filter(None, labels.replace(",", " ").split()))) for name, kind, labels in rows}


def metrics_served(text: str) -> dict[str, tuple[str, set[str]]]:
    """The same of what is served."""
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)", text, re.MULTILINE))
    found: dict[str, tuple[str, set[str]]] = {}
    for name, part, labels in SAMPLE.findall(text):
        family = name if f"{name}{part}" not in kinds else f"{name}{part}"
        found[family] = kinds[family], set(re.findall(r'(\w+)="', labels)) - {"le"}
    return found


def metrics_used(text: str) -> set[str]:
    """The metrics that queries name, without the parts of a histogram."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\brelay_\w+", text)}


async def test_status_is_right_during_an_outage_and_after_it(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    daemon.configure("20-archive", '[connector.archive]\ntype="file"\npath="out.ndjson"')
    async with Destination() as heap:
        settings = 'concurrency=1\nretry={ first = "10ms", max = "20ms" }\nbatch={ events = 2 }'
        daemon.configure("60-heap", f'[connector.heap]\ntype="heap"\nendpoint="{heap.url}"\n{settings}')
        heap.behaviour = 503
        await daemon.start()
        assert stat.S_IMODE((daemon.state / "admin.sock").stat().st_mode) == 0o600
        before = time.time()
        await send(daemon, *(make_event(n=n) for n in range(5)))
        assert (await daemon.post(b"nonsense"))[0] == 400
        now = await daemon.until(lambda: seen(daemon), lambda now: now.lanes[1].state == "failing")
        archive, lane = now.lanes
        assert (lane.connector, lane.pending, lane.outcomes["delivered"], lane.file) == ("heap", 5, 0, "60-heap.toml")
        assert lane.oldest_pending
        assert before - 1 <= lane.oldest_pending <= time.time()
        assert lane.last_error
        assert lane.last_error.status == 503
        await daemon.until(lambda: seen(daemon).lanes[0].pending, lambda pending: pending == 0)
        assert (archive.state, now.sources[0].accepted, now.sources[0].refused) == ("working", 5, 1)
        assert now.journal.head == 5
        code, screen = relay(daemon, "status")
        assert code == 1
        assert "heap: failing since" in screen

        heap.behaviour = 401
        await daemon.until(lambda: seen(daemon).lanes[1].state, lambda state: state == "unauthorized")
        code, screen = relay(daemon, "top", "--times", 1, "--every", 0.1)
        assert code == 0
        assert re.search(
            r"heap: unauthorized, .* since \S+Z: HTTP 401.*; 5 pending.*; 60-heap.toml sets no credentials",
            screen,
        )

        heap.behaviour = 200
        await daemon.until(lambda: seen(daemon).lanes[1], lambda lane: lane.pending == 0 and lane.state == "working")
        after = seen(daemon).lanes[1]
        assert after.last_error
        assert (after.outcomes["delivered"], after.oldest_pending, after.last_error.status) == (5, None, 401)
        assert sum(after.end_to_end.counts) == 5
        assert after.attempts["unauthorized"] >= 1
        await daemon.settled("heap", 5)
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(daemon.state / "admin.sock"))) as session,
            session.get("http://relay/audit") as answer,
        ):
            found = await answer.json()
        assert (found["balances"], found["head"], len(found["connectors"])) == (True, 5, 2)
        assert relay(daemon, "status")[0] == 0
        assert await daemon.stop() == 0
        assert not (daemon.state / "admin.sock").exists()


async def test_status_says_since_when_it_counts_and_shows_parked_events(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE + 'dedupe = "1h"')
    daemon.configure("20-archive", '[connector.archive]\ntype="file"\npath="out.ndjson"')
    await daemon.start()
    event = make_event()
    await send(daemon, event, b"7")
    await send(daemon, event)
    await daemon.settled("archive", 1)
    columns = "source, since start  events accepted  accepted/s  requests refused  unreadable  last event"
    for counted in (r"1 +\d +0 +1 +\ds ago +1 +1", r"0 +0 +0 +0 +- +1 +1"):
        code, screen = relay(daemon, "status")
        assert (code, columns in screen) == (0, True), screen
        assert re.search(rf"^braze +{counted}$", screen, re.MULTILINE), screen
        assert "; 1 parked (relay parked list --source braze --cause unreadable)" in screen
        assert ", 1 event kept" in screen
        assert await daemon.stop() == 0
        await daemon.start()
    assert await daemon.stop() == 0


async def test_the_status_shows_a_replay_that_is_under_way(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    daemon.configure("20-archive", '[connector.archive]\ntype="file"\npath="out.ndjson"\nbatch = { events = 2 }')
    await daemon.start()
    await send(daemon, *(make_event(n=n) for n in range(50)))
    await daemon.settled("archive", 50)
    asked = ["--connector", "archive", "--rate", 20, "--yes", "--detach", "--conf", daemon.conf]
    assert relay(daemon, "replay", *asked)[0] == 0
    found = await daemon.until(lambda: seen(daemon).replays, lambda found: bool(found) and found[0].settled > 30)
    assert (found[0].number, found[0].connector, found[0].events) == (1, "archive", 50)
    code, screen = relay(daemon, "status")
    assert (code, bool(re.search(r"^replay 1 to archive: \d+ of 50 events, \d+/s$", screen, re.MULTILINE))) == (0, True)
    await daemon.until(lambda: seen(daemon).replays, lambda found: not found)
    assert await daemon.stop() == 0


async def test_metrics_alerts_and_dashboard_match_the_documentation(daemon: Daemon, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    daemon.configure("05-tls", authority.table())
    daemon.configure("10-source", SOURCE)
    daemon.configure("15-metrics", '[metrics]\nlisten="127.0.0.1:0"')
    daemon.configure("80-alerts", '[alert.ops]\ntype="command"\ncommand=["true"]')
    daemon.configure("20-archive", '[connector.archive]\ntype="file"\npath="out.ndjson"')
    await daemon.start()
    async with aiohttp.ClientSession() as session:
        body = b'{"events":[%s,7]}' % make_event()
        async with session.post(f"{daemon.url}/currents", data=body, ssl=False) as answer:
            assert answer.status == 202
    await daemon.settled("archive", 1)
    (told,) = daemon.logged("relay runs")
    (address,) = told["metrics"]
    assert told["admin"] == [f"unix:{daemon.state}/admin.sock"]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{address}/metrics") as answer:
            text = await answer.text()
        async with session.get(f"{address}/status") as answer:
            assert answer.status == 404
    assert await daemon.stop() == 0
    known = metrics_documented()
    other_tests = ("relay_cluster_", "relay_deliver_counted_")  # come with a database, and with a plugin that counts
    assert metrics_served(text) == {name: known[name] for name in known if not name.startswith(other_tests)}
    assert 'relay_deliver_events_total{connector="archive",outcome="delivered"} 1.0' in text
    assert 'relay_parked_events{cause="unreadable",connector="",source="braze"} 1.0' in text
    assert "email" not in text
    monitoring = ROOT / "systemd" / "monitoring"
    rules = yaml.safe_load((monitoring / "alerts.yml").read_text())["groups"][0]["rules"]
    dashboard = json.loads((monitoring / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    used = metrics_used(" ".join([*(rule["expr"] for rule in rules), *queries, json.dumps(dashboard["templating"])]))
    assert used <= known.keys()
    assert known.keys() <= metrics_used(json.dumps(dashboard))
    promtool(["check", "metrics"], text)
    promtool(["check", "rules", str(monitoring / "alerts.yml")], "")
    promtool(["test", "rules", *map(str, sorted((ROOT / "tests" / "systemd").glob("*.test.yml")))], "")


def promtool(arguments: list[str], given: str) -> None:
    if shutil.which("promtool") is None and "CI" not in os.environ:
        pytest.skip("promtool is not here: apt install prometheus")
    result = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


async def test_a_pause_holds_over_a_restart_and_resume_delivers(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    async with Destination() as hook:
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"')
        await daemon.start()
        assert relay(daemon, "pause", "hock") == (1, "Error: no connector hock runs; there are: hook\n")
        assert relay(daemon, "pause", "hook") == (0, "hook is paused; relay resume hook ends it\n")
        await send(daemon, make_event(n=1))
        assert seen(daemon).lanes[0].state == "paused"
        assert await daemon.stop() == 0
        assert relay(daemon, "pause", "hook") == (0, "hook was paused already\n")
        await daemon.start()
        await send(daemon, make_event(n=2))
        assert (seen(daemon).lanes[0].pending, hook.requests) == (2, [])
        assert relay(daemon, "resume", "hook") == (0, "hook goes on\n")
        await daemon.settled("hook", 2)
        assert len(hook.events()) == 2
        assert await daemon.stop() == 0
        assert relay(daemon, "resume", "hook") == (0, "hook was not paused\n")
        assert relay(daemon, "pause", "hock")[0] == 1
    code, out = relay(daemon, "status")
    assert (code, "no relay runs" in out) == (1, True)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_resume_says_that_a_destination_is_mended(daemon: Daemon, workers: int) -> None:
    daemon.configure("10-source", f"{SOURCE}[runtime]\nworkers = {workers}\n")
    async with Destination() as refusing, Destination() as busy:
        refusing.behaviour = Answer(status=401)
        busy.behaviour = Answer(status=503, headers={"Retry-After": "3000"})
        for name, destination in (("refusing", refusing), ("busy", busy)):
            long = 'retry = { first = "50m", max = "50m" }'
            daemon.configure(f"20-{name}", f'[connector.{name}]\ntype="http"\nurl="{destination.url}"\n{long}')
        await daemon.start()
        await send(daemon, make_event(n=1))
        await daemon.until(
            lambda: {lane.state for lane in seen(daemon).lanes}, lambda found: found == {"unauthorized", "failing"}
        )
        for name, destination in (("refusing", refusing), ("busy", busy)):
            destination.behaviour = 200
            assert relay(daemon, "resume", name) == (0, f"{name} tries again at once\n")
            await daemon.until(destination.events, bool)
            await daemon.until(lambda: seen(daemon).lanes, lambda found, it=name: lane_of(found, it).state == "working")
            assert relay(daemon, "resume", name) == (0, f"{name} was not paused\n")
        assert relay(daemon, "resume", "bussy")[0] == 1


async def test_refusing_and_hanging_destinations_show_and_a_pause_ends_by_itself(
    daemon: Daemon,
) -> None:
    daemon.configure("10-source", SOURCE)
    async with Destination() as strict, Destination() as deaf:
        strict.behaviour, deaf.behaviour = 422, Answer(hang=True)
        for name, one in (("strict", strict), ("deaf", deaf)):
            daemon.configure(f"20-{name}", f'[connector.{name}]\ntype="http"\nurl="{one.url}"\nbatch={{ events = 10 }}')
        await daemon.start()
        await send(daemon, *(make_event(n=n) for n in range(25)))
        told = await daemon.until(
            lambda: lane_of(seen(daemon).lanes, "strict"), lambda lane: lane.state == "refusing" and not lane.pending
        )
        assert (told.last_error.status, told.parked_now, told.since <= told.last_error.at) == (422, 25, True)
        slow = await daemon.until(lambda: lane_of(seen(daemon).lanes, "deaf"), lambda lane: lane.unanswered >= 5)
        assert (slow.state, slow.pending) == ("working", 25)
        code, screen = relay(daemon, "status")
        assert code == 1
        assert "strict: refusing, the destination has taken no event since" in screen
        assert re.search(r"^deaf: working; 25 pending.*; no answer yet for \ds$", screen, re.MULTILINE), screen
        assert [line["attempts"] for line in daemon.logged("destination refuses everything")] == [20]

        strict.behaviour = 200
        assert relay(daemon, "pause", "strict", "--for", "soon")[0] == 2
        code, said = relay(daemon, "pause", "strict", "--for", "2h")
        assert (code, bool(re.match(r"strict is paused until .*Z; relay resume strict ends it before\n", said))) == (
            0,
            True,
        )
        by = f"strict: paused by {find_login()} at"
        await daemon.until(lambda: relay(daemon, "status")[1], lambda screen: by in screen)
        assert relay(daemon, "pause", "strict", "--for", "1s")[0] == 0
        await send(daemon, make_event(n=30))
        after = await daemon.until(
            lambda: lane_of(seen(daemon).lanes, "strict"), lambda lane: (lane.state, lane.pending) == ("working", 0)
        )
        assert (after.last_error.status, after.paused_until) == (422, None)
        deaf.release()


def lane_of(lanes: Any, name: str) -> Any:
    return next(lane for lane in lanes if lane.connector == name)


async def test_a_tap_shows_what_passes_and_one_that_is_not_read_slows_nothing(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    mask = '[filter.mask]\ntype="redact"\nfields=["properties.pad"]\naction="mask"'
    daemon.configure(
        "20-archive",
        f'[connector.archive]\ntype="file"\npath="out.ndjson"\nevents=["*.Click"]\nfilters=["mask"]\n{mask}',
    )
    await daemon.start()
    connector = aiohttp.UnixConnector(str(daemon.state / "admin.sock"))
    async with aiohttp.ClientSession(connector=connector, read_bufsize=1024) as session:

        async def tap(query: str) -> aiohttp.ClientResponse:
            answer = await session.get(f"http://relay/tail{query}")
            assert answer.status == 200
            return answer

        never_read, clicks, behind = await tap(""), await tap("?events=*.Click"), await tap("?at=archive")
        await send(daemon, make_event(OPEN, pad="a"), make_event(CLICK, pad="b"))
        for answer, pad in ((clicks, "b"), (behind, "[REDACTED]")):
            async with asyncio.timeout(30):
                line = json.loads(await answer.content.readline())
            assert (line["offset"], line["type"], line["event"]["properties"]["pad"]) == (1, CLICK, pad)
        many = [make_event(OPEN, pad="x" * 1000, n=n) for n in range(500)]
        for _ in range(20):
            await send(daemon, *many)
        await daemon.settled("archive", 10_002)
        lines = b""
        async with asyncio.timeout(20):
            while b'"dropped"' not in lines:
                lines += await never_read.content.readany()
        shown = lines.count(b'"offset"')
        dropped = sum(int(number) for number in re.findall(rb'\{"dropped":(\d+)\}', lines))
        assert 1000 < shown + dropped <= 10_002
        assert dropped > 1000
        for answer in (never_read, clicks, behind):
            answer.close()
    assert await daemon.stop() == 0


async def test_relay_tail_says_what_matches_nothing(daemon: Daemon) -> None:
    for entries, told in (
        (["emial"], ['warning: "emial" matches no known event type (did you mean email?)']),
        (["email", "!user*", "cohort.*", "cohort.Change"], []),
    ):
        _, out = relay(daemon, "tail", *(word for entry in entries for word in ("--events", entry)))
        assert [line for line in out.splitlines() if line.startswith("warning")] == told


@pytest.mark.parametrize("how", [[], ["--json"]])
async def test_relay_tail_prints_events_until_it_has_enough(daemon: Daemon, how: list[str]) -> None:
    daemon.configure("10-source", SOURCE)
    await daemon.start()
    assert relay(daemon, "tail", "--at", "hoop")[0] == 1
    printing = asyncio.get_running_loop().create_task(
        asyncio.to_thread(relay, daemon, "tail", "--events", CLICK, "--limit", 2, *how), name="relay tail"
    )
    while not printing.done():
        await send(daemon, make_event(OPEN), make_event(CLICK))
        await asyncio.sleep(0.02)
    code, out = printing.result()
    assert code == 0
    assert len(out.splitlines()) == 2
    for line in out.splitlines():
        if how:
            assert json.loads(line)["type"] == CLICK
        else:
            assert re.fullmatch(rf'\d{{4}}-\S+Z  \d+  braze  {re.escape(CLICK)}  {{"event_type":.*}}', line)
    assert await daemon.stop() == 0


async def test_a_file_that_cannot_be_written_is_no_matter_of_the_network(daemon: Daemon) -> None:
    daemon.configure("20-braze", SOURCE)
    daemon.configure("80-out", '[connector.out]\ntype="file"\npath="/proc/nope/x.ndjson"\n')
    await daemon.start()
    await send(daemon, make_event())
    _, told = await daemon.until(lambda: relay(daemon, "status"), lambda seen: "failing since" in seen[1])
    assert "see path in 80-out.toml, the rights and the room there, and ReadWritePaths= in the unit" in told
    await daemon.stop()


async def test_a_database_that_cannot_be_written_is_told_by_status(daemon: Daemon) -> None:
    """Whoever holds its write lock, or a full disk: senders still get their 202, so nothing else would tell."""
    daemon.before = "import relay.state.database as it; it.LOCKED_S = 0.2"  # a wait for a lock, which is in vain here
    daemon.configure("10-source", SOURCE)
    daemon.configure("20-archive", '[connector.archive]\ntype="file"\npath="out.ndjson"')
    await daemon.start()
    with closing(sqlite3.connect(daemon.state / "relay.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        await send(daemon, make_event())
        said = "the database cannot be written: database is locked"
        code, _ = await daemon.until(lambda: relay(daemon, "status"), lambda told: said in told[1], 60)
        assert code == 1
        db.execute("ROLLBACK")
    await daemon.settled("archive", 1)
    await daemon.until(lambda: relay(daemon, "status")[1], lambda out: "cannot be written" not in out, 60)
