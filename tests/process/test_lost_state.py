"""A real relay whose database or journal is not what it was: relay says so everywhere, and loses nothing for it."""

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from relay.cli.main import relay
from relay.state.journal_state import FolderDoubts, read_acknowledged
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.unit.journal.outside.test_repair import flip, logs

SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"\n'
HOOK = '[connector.hook]\ntype = "http"\nurl = "%s"\nretry = { first = "10ms", max = "50ms" }\n'


async def run(daemon: Daemon, *command: str) -> Result:
    """The command as an admin gives it; in a thread, as it may want an answer of what runs here."""
    where = ["--state", str(daemon.state)]
    where += [] if command[0] in ("status", "history") else ["--conf", str(daemon.conf)]
    return await asyncio.to_thread(CliRunner().invoke, relay, [*command, *where])


async def start(daemon: Daemon) -> None:
    """Several processes take their time where others have work to do as well."""
    before = len(daemon.logged("relay runs"))
    await daemon.launch()
    runs = await daemon.until(lambda: daemon.logged("relay runs")[before:], bool, within=90)
    daemon.url = runs[0]["listen"][0]


async def until_status(daemon: Daemon, code: int, said: str = "") -> Result:
    """Ask until the status ends with this code and says this."""
    async with asyncio.timeout(60):
        while (told := await run(daemon, "status")).exit_code != code or said not in told.stdout:
            await asyncio.sleep(0.2)
    return told


async def post(daemon: Daemon, *numbers: int) -> None:
    body = b'{"events":[%s]}' % b",".join(make_event(n=n) for n in numbers)
    assert (await daemon.post(body))[0] == 202


async def taken(daemon: Daemon, folder: Path, number: int) -> None:
    """Wait until the database in a folder knows of so many events."""
    await daemon.until(lambda: read_acknowledged(folder), lambda head: head == number)


async def left_pending(daemon: Daemon, hook: Destination, events: int = 20) -> None:
    """A relay that has died with events that its connector has not got."""
    hook.behaviour = 503
    daemon.configure("10-all", SOURCE + HOOK % hook.url)
    await daemon.start()
    await post(daemon, *range(events))
    await taken(daemon, daemon.state, events)
    await daemon.kill()
    hook.behaviour = 200


@pytest.mark.parametrize("how", ["empty", pytest.param("without its -wal", marks=pytest.mark.long)])
async def test_a_lost_database_costs_duplicates_and_is_told_until_it_is_accepted(daemon: Daemon, how: str) -> None:
    """Siblings: copied without its write-ahead log; log, status, audit and doctor, before and after. A worker's is gone
    in the test below."""
    async with Destination() as hook:
        await left_pending(daemon, hook)
        for path in daemon.state.glob("relay.db-*"):
            path.unlink()
        if how == "empty":
            (daemon.state / "relay.db").write_bytes(b"")
        before = await run(daemon, "audit")
        assert (before.exit_code, "gone or empty" in before.output) == (1, True), before
        await daemon.start()
        (line,) = daemon.logged("relay.db does not know the journal")
        assert (line["level"], line["events"]) == ("error", 20)
        assert (await daemon.settled("hook", 20)).counts.delivered == 20
        for command in ("status", "audit", "doctor"):
            told = await run(daemon, command)
            assert (told.exit_code, "did not know the 20 events" in told.stdout) == (1, True), told
        assert (await run(daemon, "accept", "journal", "--yes")).exit_code == 0
        for command in ("status", "audit"):
            assert (await run(daemon, command)).exit_code == 0
        assert await daemon.stop() == 0


async def test_a_database_that_is_garbage_stops_the_start_with_a_way_out(daemon: Daemon) -> None:
    async with Destination() as hook:
        await left_pending(daemon, hook)
        for path in daemon.state.glob("relay.db-*"):
            path.unlink()
        (daemon.state / "relay.db").write_bytes(b"\xde\xad\xbe\xef" * 4096)
        await daemon.launch()
        assert await daemon.ended() == 1
        assert "move relay.db, relay.db-wal and relay.db-shm away" in daemon.stderr[-1]
        told = await run(daemon, "doctor")
        assert (told.exit_code, "move relay.db" in told.stdout) == (1, True), told
        (daemon.state / "relay.db").rename(daemon.state / "bad")
        await daemon.start()
        assert (await daemon.settled("hook", 20)).counts.delivered == 20
        assert await daemon.stop() == 0


async def test_a_missing_journal_stops_the_start_and_is_delivered_once_back(daemon: Daemon) -> None:
    """Siblings: no folder, an empty one; log, audit, doctor; back again, and given up for good."""
    async with Destination() as hook:
        await left_pending(daemon, hook)
        away = daemon.state / "away"
        (daemon.state / "journal").rename(away)
        await daemon.launch()
        assert await daemon.ended() == 1
        assert "holds no journal, but relay.db belongs to one that has taken 20 events" in daemon.stderr[-1]
        assert not (daemon.state / "journal").exists()
        assert "holds no journal" in (await run(daemon, "doctor")).stdout
        away.rename(daemon.state / "journal")
        await daemon.start()
        assert (await daemon.settled("hook", 20)).counts.delivered == 20
        assert await daemon.stop() == 0
        (daemon.state / "journal").rename(away)
        assert (await run(daemon, "accept", "journal", "--yes")).exit_code == 0
        await daemon.start()
        await post(daemon, 21)
        assert (await daemon.settled("hook", 21)).counts.delivered == 21
        assert (await run(daemon, "audit")).exit_code == 1
        assert (await run(daemon, "accept", "journal", "--yes")).exit_code == 0
        assert (await run(daemon, "audit")).exit_code == 0
        assert await daemon.stop() == 0


async def test_damage_in_the_newest_segment_shows_and_lost_events_may_come_again(daemon: Daemon) -> None:
    """Siblings: the connector, the ids by which a source drops duplicates, status, audit, journal check, doctor."""
    async with Destination() as hook:
        hook.behaviour = 503
        daemon.configure("10-all", SOURCE + 'dedupe = "1h"\n' + HOOK % hook.url)
        await daemon.start()
        bodies = [b'{"events":[%s]}' % b",".join(make_event(n=n) for n in range(10)) for _ in range(5)]
        for body in bodies:
            await daemon.post(body)
        await taken(daemon, daemon.state, 50)
        assert await daemon.stop() == 0
        (path,) = (daemon.state / "journal").glob("*.log")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        hook.behaviour = 200
        await daemon.start()
        books = await daemon.settled("hook", 50)
        assert (books.counts.delivered, books.counts.damaged) == (40, 10)
        for command, told in (("status", "10 events lost"), ("audit", "damaged"), ("doctor", "10 events lost")):
            found = await run(daemon, command)
            assert (found.exit_code, told in found.stdout) == (1, True), found
        assert (await run(daemon, "journal", "check")).exit_code == 1
        for body in bodies:
            assert await daemon.post(body) == (202, {"accepted": 10, "parked": 0, "duplicates": 0})
        await daemon.settled("hook", 100)
        assert await daemon.stop() == 0
        assert (await run(daemon, "journal", "repair", "--yes")).exit_code == 0
        assert (await run(daemon, "accept", "journal", "--yes")).exit_code == 0
        assert (await run(daemon, "audit")).exit_code == 0


async def test_damage_in_a_sealed_segment_is_skipped_and_shows_until_repaired(daemon: Daemon) -> None:
    """Siblings: a second connector that is added later; a replay over it; log, status, doctor, audit, metrics, journal
    check; accepted, put back, and repaired."""
    daemon.configure("15-metrics", '[metrics]\nlisten = "127.0.0.1:0"')
    async with Destination() as hook:
        hook.behaviour = 503
        daemon.configure("10-all", SOURCE + HOOK % hook.url)
        sent = await fill_two_segments(daemon)
        path = min((daemon.state / "journal").glob("*.log"))
        whole = path.read_bytes()
        damaged = whole[:-3] + b"???"
        path.write_bytes(damaged)
        hook.behaviour = 200
        await daemon.start()
        await assert_the_rest_is_delivered_once(daemon, hook, sent[:10] + sent[20:])
        assert_damage_is_logged(daemon, path.name)
        said = f"10 events cannot be read: offsets 10-19 in {path.name} (bad record at byte "
        await assert_damage_shows(daemon, said)
        await assert_replay_skips_damage(daemon, path.name)
        await assert_accepted_damage_is_quiet(daemon)
        assert await daemon.stop() == 0

        path.write_bytes(whole)
        trace = await run(daemon, "trace", orjson.loads(sent[12])["id"])
        assert "damaged: it could not be read when its turn came" in trace.stdout, trace.output
        path.write_bytes(damaged)
        await assert_repair_saves_what_can_be_read(daemon, said)
        await daemon.start()
        await assert_repaired_journal_is_well(daemon, path.name)
        assert await daemon.stop() == 0


async def fill_two_segments(daemon: Daemon) -> list[bytes]:
    """Accept 40 events, half of them in each segment, ten in a record; return the events."""
    sent = [make_event(n=n) for n in range(40)]
    for part in (sent[:20], sent[20:]):  # each run begins a segment
        await daemon.start()
        for group in (part[:10], part[10:]):
            assert (await daemon.post(b'{"events":[%s]}' % b",".join(group)))[0] == 202
        assert await daemon.stop() == 0
    return sent


async def assert_the_rest_is_delivered_once(daemon: Daemon, hook: Destination, rest: list[bytes]) -> None:
    ledger = await daemon.settled("hook", 40)
    assert (ledger.counts.delivered, ledger.counts.damaged) == (30, 10)
    assert Counter(hook.bodies()) == Counter(rest)


def assert_damage_is_logged(daemon: Daemon, file: str) -> None:
    (told,) = daemon.logged("events of the journal cannot be read")
    assert (told["level"], told["file"], told["repair_saves"]) == ("error", file, 10)
    assert (told["events"], told["offset"], told["up_to_offset"]) == (10, 10, 20)
    (told,) = daemon.logged("events are damaged")
    assert (told["connector"], told["events"], told["offset"], told["up_to_offset"]) == ("hook", 10, 10, 20)
    assert not daemon.logged("lane failed, starts again")


async def assert_damage_shows(daemon: Daemon, said: str) -> None:
    """See the damage in each command that looks at the journal, and in the metrics."""
    for command in ("status", "doctor", "audit"):
        found = await run(daemon, command)
        assert (found.exit_code, said in found.stdout) == (1, True), found
        assert "(offset 10); the file's 10 other events can be read and are delivered)" in found.stdout
    told = await daemon.metrics()
    assert told['relay_deliver_events_total{connector="hook",outcome="damaged"}'] == 10
    assert told['relay_deliver_events_total{connector="hook",outcome="expired"}'] == 0
    assert (told["relay_journal_lost_events_total"], told['relay_runtime_doubtful{what="journal"}']) == (10, 1)


async def assert_replay_skips_damage(daemon: Daemon, file: str) -> None:
    again = await replay_all(daemon)
    assert f"{file}: damaged" in again.stderr
    assert len(daemon.logged("events of the journal cannot be read")) == 1
    assert daemon.logged("replay is done")[0]["damaged"] == 10


async def replay_all(daemon: Daemon) -> Result:
    again = await run(daemon, "replay", "--connector", "hook", "--rate", "0", "--yes")
    assert (again.exit_code, "delivered 30, damaged 10" in again.stdout) == (0, True), again.output
    return again


async def assert_accepted_damage_is_quiet(daemon: Daemon) -> None:
    assert (await run(daemon, "accept", "journal", "--yes")).exit_code == 0
    assert (await run(daemon, "status")).exit_code == 0
    assert "cannot be read" not in (await run(daemon, "doctor")).stdout


async def assert_repair_saves_what_can_be_read(daemon: Daemon, said: str) -> None:
    """Repair a journal whose damage nobody has accepted."""
    with closing(sqlite3.connect(daemon.state / "relay.db")) as db, db:
        db.execute("UPDATE damage SET accepted = NULL")
    assert said in (await run(daemon, "doctor")).stdout
    repaired = await run(daemon, "journal", "repair", "--yes")
    assert (repaired.exit_code, "10 events saved, 10 lost: offsets 10-19" in repaired.stdout) == (0, True), repaired
    assert (await run(daemon, "audit")).exit_code == 0


async def assert_repaired_journal_is_well(daemon: Daemon, file: str) -> None:
    assert f"the journal was repaired: {file}" in (await run(daemon, "history")).stdout
    await replay_all(daemon)
    assert (await run(daemon, "status")).exit_code == 0


@pytest.mark.long  # quicker: the other tests, and test_lost_journal
async def test_each_worker_tells_of_its_own_database_and_journal(daemon: Daemon) -> None:
    """Siblings: a worker that runs, and one that is no longer wanted; its relay.db gone, its journal elsewhere."""
    async with Destination() as hook:
        daemon.configure("10-all", SOURCE + HOOK % hook.url)
        daemon.configure("20-workers", "[runtime]\nworkers = 2")
        await start(daemon)
        mine = daemon.state / "workers" / "1"
        for number in range(200):
            await post(daemon, number)
            if any(path.stat().st_size for path in mine.glob("journal/*.log")):
                break
        assert await daemon.stop() == 0
        for path in mine.glob("relay.db*"):
            path.unlink()
        assert (await run(daemon, "audit")).exit_code == 1
        told = await run(daemon, "accept", "journal", "--yes")
        assert (told.exit_code, f"{mine}/relay.db cannot note that: start relay" in told.stderr) == (1, True), told
        daemon.configure("20-workers", "[runtime]\nworkers = 1")
        await start(daemon)
        told = await until_status(daemon, 1, "did not know")  # relay runs before a worker that only drains is there
        assert "journal of worker 1" in told.stdout, told
        accepted = await run(daemon, "accept", "journal", "--yes")
        assert accepted.exit_code == 0, accepted.output
        await until_status(daemon, 0)
        assert await daemon.stop() == 0
        (mine / "journal").rename(mine / "away")
        daemon.configure("20-workers", "[runtime]\nworkers = 2")
        await daemon.launch()
        assert await daemon.ended() != 0
        assert any("workers/1/journal holds no journal" in line for line in daemon.stderr)
        assert sum(line["message"].startswith("relay cannot start: ") for line in daemon.logs) == 1
        assert not daemon.logged("relay ends by a bug of its own")
        assert "workers/1/journal holds no journal" in (await run(daemon, "doctor")).stdout


CLOCK = """
import os, time
from pathlib import Path
_time, _ns, _file = time.time, time.time_ns, Path(%r)
def _off():
    return float(_file.read_text() or 0)
time.time = lambda: _time() + _off()
time.time_ns = lambda: _ns() + int(_off() * 1e9)
"""


async def test_a_clock_years_ahead_removes_nothing_and_shows_until_accepted(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Siblings: a jump while relay runs, and one at a start; log, status, doctor; parked events and erasures."""
    off = tmp_path / "off"
    off.write_text("0")
    (daemon.plugins / "clock.py").write_text(CLOCK % str(off))
    async with Destination() as hook:
        hook.behaviour = 400
        daemon.configure("10-all", SOURCE + HOOK % hook.url + '[parked]\nretention = "1d"\n')
        await daemon.start()
        await post(daemon, *range(5))
        await daemon.until(daemon.parked, lambda found: len(found) == 5)
        off.write_text(str(100 * 365 * 86400))
        await daemon.until(lambda: daemon.logged("the clock is ahead"), bool)
        await until_status(daemon, 1, "relay accept clock")  # parked events are a problem, too
        doctor = await daemon.run("doctor", "--conf", str(daemon.conf))  # it loads the plugin, which changes the clock
        assert b"ahead of what can be right" in doctor.stdout
        await daemon.kill()
        await daemon.start()
        await post(daemon, 6)
        await daemon.until(daemon.parked, lambda found: len(found) == 6)
        assert (await run(daemon, "status")).exit_code == 1
        assert await daemon.stop() == 0
        off.write_text("0")
        await daemon.start()
        await until_status(daemon, 0)
        assert len(daemon.parked()) == 6
        off.write_text(str(100 * 365 * 86400))
        await until_status(daemon, 1)
        now = time.time() + 100 * 365 * 86400
        with monkeypatch.context() as ahead:
            ahead.setattr("relay.state.journal_state.time.time", lambda: now)
            FolderDoubts(daemon.state, Path("journal")).accept("clock")
        await until_status(daemon, 0)
        await daemon.until(lambda: daemon.logged("the clock is right again"), lambda lines: len(lines) == 1)
        assert await daemon.stop() == 0


async def test_a_relay_continues_after_a_repair_and_the_audit_balances(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    async with Destination() as hook:
        hook.behaviour = 503
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\nretry={{first="1ms",max="9ms"}}')
        await daemon.start()
        for _ in range(5):
            await daemon.post(b'{"events":[%s]}' % b",".join(make_event(n=n) for n in range(10)))
        await daemon.until(lambda: daemon.ledger()["hook"].accepted, lambda accepted: accepted == 50)
        await daemon.stop()
        flip(logs(daemon.state / "journal")[0], 3000)
        where = ("--state", str(daemon.state), "--conf", str(daemon.conf))
        assert CliRunner().invoke(relay, ["journal", "repair", "--dry-run", *where]).exit_code == 1
        result = CliRunner().invoke(relay, ["journal", "repair", "--yes", *where])
        assert (result.exit_code, "10 lost: offsets" in result.output) == (0, True), result.output
        hook.behaviour = 200
        await daemon.start()
        books = await daemon.settled("hook", 50)
        assert (books.counts.delivered, books.counts.damaged) == (40, 10)
        assert await daemon.stop() == 0
        assert CliRunner().invoke(relay, ["audit", *where]).exit_code == 0
        assert CliRunner().invoke(relay, ["journal", "check", *where]).exit_code == 0
