"""A real relay on a real file system that somebody else fills."""

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.state.parked import FolderParked
from relay.store import ParkedQuery
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.parked import drop_parked
from tests.process.small_disk import mount_small_disk

MIB = 1 << 20
TABLES = """
[source.braze]
type = "currents"
path = "/currents"

[journal]
max_size = "16MiB"
%s

[connector.hook]
type = "http"
url = "%s"
retry = { first = "5ms", max = "20ms" }
"""


def relay(*arguments: object) -> tuple[int, str, str]:
    """Run a command in this process, which is not the daemon's."""
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    with mount_small_disk(tmp_path / "disk", "24m") as folder:
        yield folder


@pytest.fixture
async def small(disk: Path, daemon: Daemon) -> AsyncIterator[Daemon]:
    """A relay whose state folder is on the small file system; it ends before that is unmounted."""
    daemon.state = disk / "state"
    yield daemon
    if daemon.is_running:
        await daemon.kill()


def use_up_inodes(disk: Path) -> list[Path]:
    """Make strangers' files until no further one can be made."""
    made = list[Path]()
    try:
        while True:
            path = disk / f"strange-{len(made)}"
            path.touch()
            made.append(path)
    except OSError:
        return made


async def test_inodes_that_are_used_up_are_named(small: Daemon, disk: Path) -> None:
    """The 503 of senders, /readyz, the log and relay doctor; room alone is not what is lacking."""
    remount = ["mount", "-o", "remount,size=200m,nr_inodes=60", str(disk)]
    subprocess.run(remount, check=True, capture_output=True, timeout=10)
    async with Destination() as hook:
        small.configure("10-all", TABLES.replace("16MiB", "64MiB") % ("min_free = 0", hook.url))
        await small.start()
        assert (await small.post(b'{"events":[%s]}' % make_event()))[0] == 202
        strangers = use_up_inodes(disk)
        body = b'{"events":[%s]}' % b",".join(make_events(1, events=500))
        answers = [await small.post(body) for _ in range(5)]
        refused = [said for status, said in answers if status != 202]
        assert "no inodes left" in str(refused[-1])
        async with aiohttp.request("GET", small.url + "/readyz") as answer:
            assert (answer.status, "no inodes left" in await answer.text()) == (503, True)
        code, said, _ = relay("doctor", "--conf", small.conf, "--state", small.state)
        assert (code, "no new file can be made" in said) == (1, True)
        for path in strangers:
            path.unlink()
        assert (await small.post(body))[0] == 202
        assert "no inodes left" in small.logged("the journal takes no events")[0]["reason"]


def fill(disk: Path) -> Path:
    """Write a stranger's file until the disk is full to the last byte."""
    path = disk / "strange"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return path
    raise AssertionError("the disk did not fill up")


def make_events(number: int, events: int = 50) -> list[bytes]:
    return [make_event(number=number * events + n, filling="x" * 4000) for n in range(events)]


async def post_until_refused(daemon: Daemon, acknowledged: list[bytes]) -> None:
    """Send and remember what is acknowledged; the refusal has to ask for another try."""
    async with aiohttp.ClientSession() as session:
        for number in range(1000):
            events = make_events(number)
            body = b'{"events":[%s]}' % b",".join(events)
            async with session.post(daemon.url + "/currents", data=body) as answer:
                if answer.status == 202:
                    acknowledged += events
                    continue
                assert (answer.status, answer.headers["Retry-After"]) == (503, "30"), await answer.text()
                return
    raise AssertionError("never refused")


async def ready(daemon: Daemon) -> int:
    async with aiohttp.request("GET", daemon.url + "/readyz") as answer:
        return answer.status


def ids(bodies: list[bytes]) -> set[str]:
    return {orjson.loads(body)["id"] for body in bodies}


@pytest.mark.parametrize("min_free", ["0", '"6MiB"'])
async def test_a_full_disk_refuses_senders_and_loses_nothing(small: Daemon, disk: Path, min_free: str) -> None:
    acknowledged: list[bytes] = []
    async with Destination() as hook:
        hook.behaviour = 500
        small.configure("10-all", TABLES % (f"min_free = {min_free}", hook.url))
        await small.start()
        assert await ready(small) == 200
        assert (await small.post(b'{"events":[%s]}' % make_event()))[0] == 202
        stranger = fill(disk)
        await post_until_refused(small, acknowledged)
        assert await ready(small) == 503
        stranger.unlink()
        more = make_events(2000)
        assert (await small.post(b'{"events":[%s]}' % b",".join(more)))[0] == 202
        assert await ready(small) == 200
        hook.behaviour = 200
        await small.settled("hook", len(acknowledged) + len(more) + 1)
        assert await small.stop() == 0
        assert ids(acknowledged + more) <= ids(hook.bodies())
    assert len(small.logged("the journal takes events again")) == 1
    told = small.logged("the journal takes no events")
    assert ("No space left" if min_free == "0" else "7 MiB needed") in told[0]["reason"]


async def test_a_full_disk_refuses_parking_but_not_cursors_or_dropping(small: Daemon, disk: Path) -> None:
    async with Destination() as hook:
        small.configure("10-all", TABLES % ("min_free = 0", hook.url))
        await small.start()
        assert (await small.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await small.settled("hook", 1)
        stranger = fill(disk)
        unreadable = b'{"events":[%s]}' % b",".join([b'"%s"' % (b"z" * 100_000)] * 10)
        answers = [(await small.post(unreadable))[0] for _ in range(10)]
        assert answers[-1] == 503, answers
        for number in range(3):
            assert (await small.post(b'{"events":[%s]}' % b",".join(make_events(number, 10))))[0] == 202
        await small.settled("hook", 31)
        assert not small.logged("saving the cursors failed, will be tried again")
        assert drop_parked(small.state, ParkedQuery(source="braze")) == 10 * answers.count(202) > 0
        stranger.unlink()
        assert (await small.post(unreadable))[0] == 202
        assert len(small.parked()) == 10
        assert await small.stop() == 0


async def test_relay_stops_cleanly_while_the_disk_is_full(small: Daemon, disk: Path) -> None:
    async with Destination() as hook:
        small.configure("10-all", TABLES % ("min_free = 0", hook.url))
        await small.start()
        assert (await small.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await small.settled("hook", 1)
        stranger = fill(disk)
        for number in range(3):
            assert (await small.post(b'{"events":[%s]}' % b",".join(make_events(number, 10))))[0] == 202
        assert await small.stop() == 0
        assert "Traceback" not in "".join(small.stderr)
        stranger.unlink()
        await small.start()
        await small.settled("hook", 31)


@pytest.mark.promise(2)
async def test_junk_of_one_source_leaves_room_for_others_and_the_audit_balances(small: Daemon, disk: Path) -> None:
    """Looked at as well: what lanes park (it waits), the file after a drop, status, metrics and audit."""
    async with Destination() as hook:
        tables = TABLES % ('min_free = "4MiB"', hook.url)
        small.configure("10-all", tables + '[source.junk]\ntype = "json"\npath = "/junk"\n')
        await small.start()
        junk = b"[%s]" % b",".join([b'{"x":"%s"}' % (b"y" * 3700)] * 250)
        for _ in range(30):
            assert (await small.post(junk, path="/junk"))[0] == 202
        about = os.statvfs(disk)
        assert about.f_bavail * about.f_frsize > 4 * MIB
        for number in range(4):
            assert (await small.post(b'{"events":[%s]}' % b",".join(make_events(number))))[0] == 202
        await small.settled("hook", 200)
        (told, *_) = await small.until(lambda: small.logged("parked events removed"), bool)
        assert "journal.min_free" in told["reason"]
        assert [*told["counts"]] == ["source junk"]
        (total,) = FolderParked(small.state).read_totals()
        assert total.events + total.removed["journal.min_free"] == 7_500
        code, out, _ = relay("audit", "--state", small.state)
        assert code == 0, out
        assert "removed so far" in out
        code, out, _ = relay("status", "--state", small.state)
        assert "parked removed so far, as there was no room" in out
        code, out, _ = relay("parked", "drop", "--source", "junk", "--yes", "--state", small.state)
        assert code == 0
        await small.until((small.state / "relay.db").stat, lambda found: found.st_size < 6 * MIB)
        assert await small.stop() == 0


async def test_expire_oldest_keeps_accepting_and_the_lane_counts_expired_events(small: Daemon) -> None:
    async with Destination() as hook:
        hook.behaviour = 500
        small.configure("10-all", TABLES % ('min_free = "4MiB"\non_full = "expire_oldest"\nmemory = "1MiB"', hook.url))
        await small.start()
        accepted = 0
        while accepted < 8000:
            events = make_events(accepted)
            assert (await small.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202
            accepted += len(events)
        hook.behaviour = 200
        books = await small.settled("hook", accepted)
        assert await small.stop() == 0
        assert books.counts.expired + books.counts.delivered == accepted
        assert books.counts.expired > 0
        removed = small.logged("journal segments removed")
        (lost,) = small.logged("events removed that were still needed")
        assert (lost["level"], lost["events"]) == ("error", removed[0]["events"])
        assert small.logged("events expired")


async def test_a_file_waits_for_disk_space_and_a_start_names_what_fills_the_disk(small: Daemon, disk: Path) -> None:
    """What the lane says of it, and then, on the same disk, what /readyz, the log, the status and relay doctor do."""
    tables = TABLES % ('min_free = "4MiB"\nretention = "1ms"', "http://127.0.0.1:9/") + "enabled = false\n"
    small.configure("10-all", tables)
    small.configure("50-archive", '[connector.archive]\ntype = "file"\npath = "archive/{date}.ndjson"\n')
    await small.start()
    sent = 0
    while not (waits := small.logged("delivery failed, will be tried again")):
        assert (await small.post(b'{"events":[%s]}' % b",".join(make_events(sent))))[0] == 202
        sent += 50
        assert sent < 10_000
        await small.until(
            lambda: small.ledger()["archive"].counts.delivered,
            lambda done, sent=sent: done == sent or bool(small.logged("delivery failed, will be tried again")),
        )
    assert any("connector.archive.path: grows without limit" in line["message"] for line in small.logs)
    reason = waits[0]["reason"]
    assert (reason[:26], "8 MiB, twice journal.min_free, are kept for the journal" in reason) == (
        "its file system is full: /",
        True,
    )
    about = os.statvfs(disk)
    assert about.f_bavail * about.f_frsize > 4 * MIB
    for _ in range(3):
        assert (await small.post(b'{"events":[%s]}' % b",".join(make_events(sent))))[0] == 202
        sent += 50
    code, said, _ = relay("status", "--state", small.state)
    assert (code, "archive: failing since" in said) == (1, True), said
    assert await small.stop() == 0

    stranger = fill(disk)
    with stranger.open("r+b") as file:
        file.truncate(stranger.stat().st_size - 2 * MIB)  # for relay.db
    await small.start()
    assert await ready(small) == 503
    (told,) = small.logged("the journal takes no events")
    messages = [line["message"] for line in small.logs]
    assert messages.index("the journal takes no events") < messages.index("relay runs", messages.index("relay stopped"))
    holds = r"it holds files that are not relay's [\d.]+ MiB, archive "
    assert re.search(rf"; {holds}", told["reason"]), told
    code, said, _ = relay("status", "--state", small.state)
    assert (code, "journal: takes no events: the journal's file system is full" in said) == (1, True), said
    status, refused = await small.post(b'{"events":[%s]}' % make_event())
    assert (status, bool(re.search(holds, str(refused)))) == (503, True)
    code, said, _ = relay("doctor", "--conf", small.conf, "--state", small.state)
    assert (code, "it is full; the disk holds files that are not relay's " in said) == (1, True), said
    stranger.unlink()
    for path in (small.state / "archive").iterdir():
        path.unlink()
    await small.settled("archive", sent)
    await small.until(lambda: small.logged("the journal has room again"), bool)
    assert await ready(small) == 200
    assert await small.stop() == 0


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_a_start_on_a_disk_without_any_room_says_what_fills_it(small: Daemon, disk: Path, workers: int) -> None:
    small.configure("10-all", TABLES % ('min_free = "4MiB"', "http://127.0.0.1:9/"))
    small.configure("20-workers", f"[runtime]\nworkers = {workers}\n")
    (small.state / "workers" / "3").mkdir(parents=True)
    (small.state / "workers" / "3" / "relay.db").write_bytes(bytes(2 * MIB))
    fill(disk)
    await small.launch()
    assert await small.ended() == 1
    said = "\n".join(small.stderr)
    assert re.search(
        r"its file system is full \(it holds files that .* workers/3, which runs no more, 2.0 MiB\): free some space",
        said,
    ), said


async def test_a_backup_that_fills_its_disk_says_so_and_continues_later(daemon: Daemon, disk: Path) -> None:
    """Siblings: a restore; the disk is full at the database, and at a segment."""
    daemon.configure("10-all", '[source.braze]\ntype = "currents"\npath = "/currents"\n[journal]\nmax_size = "16MiB"')
    await daemon.start()
    events = [make_event(filling="x" * 2000) for _ in range(100)]
    for _ in range(20):
        assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202
    assert await daemon.stop() == 0
    where, filling = ("--state", daemon.state, "--conf", daemon.conf), disk / "filling"
    for room in (0, 2 << 20):
        filling.write_bytes(bytes(shutil.disk_usage(disk).free - room - (1 << 16)))
        code, _, error = relay("backup", disk / "backup", *where)
        assert (code, "no space left: " in error, "goes on where it is" in error) == (1, True, True), error
        filling.unlink()
    code, out, error = relay("backup", disk / "backup", *where)
    assert (code, "were there" in out) == (0, True), (out, error)
    filling.write_bytes(bytes(shutil.disk_usage(disk).free - (2 << 20)))
    code, _, error = relay("restore", disk / "backup", "--state", disk / "restored", "--conf", daemon.conf)
    assert (code, "no space left: " in error, "begins anew" in error) == (1, True, True), error
    filling.unlink()
    code, _, error = relay("restore", disk / "backup", "--state", disk / "restored", "--conf", daemon.conf)
    assert code == 0, error
