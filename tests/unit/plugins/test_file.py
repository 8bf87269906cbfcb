import asyncio
import errno
import gzip
import io
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.api import DELIVERED, Batch, Block, Kind, Retry, Skipped, User, load_zstd
from relay_plugins.file import File
from relay_plugins.file import writer as appending
from relay_plugins.file.connector import clean_name
from relay_plugins.file.retention import FileLimits, WrittenFile, find_removable

NOON = 1795348800.0  # 2026-11-22 12:00 UTC


def unpacked(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        with load_zstd().ZstdFile(io.BytesIO(data)) as file:
            return file.read()
    return data


def ids(path):
    return [orjson.loads(line)["id"] for line in unpacked(path).splitlines()]


@pytest.mark.promise(4)
async def test_events_are_lines_with_the_bytes_that_came(connect, make_batch, make_event, tmp_path):
    file = connect(File, path="out/events.ndjson")
    pretty = b'{\n  "id" : "1",\r\n "n":1e999 }'
    assert await file.deliver(make_batch(make_event(pretty), make_event(b'{"id":2}'))) is None
    assert (tmp_path / "out/events.ndjson").read_bytes() == b'{   "id" : "1",   "n":1e999 }\n{"id":2}\n'


async def test_the_receipt_of_an_erasure_says_where_the_user_may_still_be(connect, tmp_path):
    answers = await connect(File, path="out/{date}.ndjson").erase([User("1"), User("2")])
    assert answers == [Skipped(f"files are yours: {tmp_path}/out/{{date}}.ndjson may still have the user")] * 2


async def test_real_events_are_one_line_each(connect, make_batch, make_event, tmp_path, samples):
    await connect(File, path="x.ndjson").deliver(make_batch(*(make_event(body) for body in samples.values())))
    lines = (tmp_path / "x.ndjson").read_bytes().splitlines()
    assert [orjson.loads(line) for line in lines] == [orjson.loads(body) for body in samples.values()]


async def test_the_path_says_when_what_and_from_where(connect, make_batch, make_event, tmp_path):
    file = connect(File, path="{source}/{date}/{hour}-{type}.ndjson")
    web, open_ = Kind("web", "Visit"), Kind("braze", "users.messages.email.Open")
    one = [make_event({"id": 1}, web, NOON), make_event({"id": 2}, open_, NOON), make_event({"id": 3}, web, NOON)]
    late = Block.of([make_event({"id": 4}, web, NOON + 12 * 3600)])
    assert await file.deliver(Batch([Block.of(one).slice(0, 1), Block.of(one).slice(1, 3), late])) is None
    assert {str(path.relative_to(tmp_path)): ids(path) for path in tmp_path.rglob("*.ndjson")} == {
        "web/2026-11-22/12-Visit.ndjson": [1, 3],
        "braze/2026-11-22/12-users.messages.email.Open.ndjson": [2],
        "web/2026-11-23/00-Visit.ndjson": [4],
    }


async def test_dates_are_utc_wherever_the_machine_is(connect, make_batch, make_event, tmp_path):
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        await connect(File, path="{date}T{hour}").deliver(make_batch(make_event({"id": 1}, received=NOON)))
    time.tzset()
    assert ids(tmp_path / "2026-11-22T12") == [1]


async def test_hostile_types_do_not_leave_the_folder(connect, make_batch, make_event, tmp_path):
    file = connect(File, path="in/{type}/{type}")
    types = ["../../etc/passwd", "..", ".", "/abs", "a\0b", "x" * 256, "é\n", "-rf", "{date}"]
    events = [make_event({"id": hostile}, Kind("s", hostile)) for hostile in types]
    assert await file.deliver(make_batch(*events)) is None
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(
        path.relative_to(tmp_path).parts[0] == "in" and len(path.relative_to(tmp_path).parts) == 3 for path in paths
    )
    assert sorted(found for path in paths for found in ids(path)) == sorted(types)


@given(st.text(min_size=1, max_size=256))
def test_a_file_name_is_one_plain_visible_step(text):
    name = clean_name(text)
    assert name.isascii()
    assert "/" not in name
    assert not name.startswith(".")
    assert 0 < len(name) <= 128


async def test_files_and_folders_are_not_for_everybody(connect, make_batch, tmp_path):
    await connect(File, path="a/b.ndjson").deliver(make_batch(1))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o027 == 0
    assert stat.S_IMODE((tmp_path / "a/b.ndjson").stat().st_mode) & 0o137 == 0


@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
async def test_a_full_file_is_set_aside_and_none_is_overwritten(connect, make_batch, tmp_path, compress):
    ending = {"none": "", "gzip": ".gz", "zstd": ".zst"}[compress]
    (tmp_path / f"2026-11-22.1.ndjson{ending}").write_bytes(b"mine")
    file = connect(File, path="2026-11-22.ndjson", max_size="1B", compress=compress)
    for number in (1, 2, 3):
        await file.deliver(make_batch(number))
    assert (tmp_path / f"2026-11-22.1.ndjson{ending}").read_bytes() == b"mine"
    assert [ids(tmp_path / f"2026-11-22{n}.ndjson{ending}") for n in (".2", ".3", "")] == [["id-1"], ["id-2"], ["id-3"]]


async def test_a_file_continues_after_a_restart_while_below_its_size(connect, make_batch, tmp_path):
    for number in (1, 2, 3):
        await connect(File, path="x.ndjson", max_size="120B").deliver(make_batch(number))
    assert (ids(tmp_path / "x.1.ndjson"), ids(tmp_path / "x.ndjson")) == (["id-1", "id-2"], ["id-3"])


async def test_an_old_file_is_set_aside(connect, make_batch, tmp_path):
    file = connect(File, path="x", max_age="0.000001ms")
    await file.deliver(make_batch(1))
    await file.deliver(make_batch(2))
    assert (ids(tmp_path / "x.1"), ids(tmp_path / "x")) == (["id-1"], ["id-2"])


@pytest.mark.parametrize("compress", ["gzip", "zstd"])
async def test_a_compressed_file_continues_after_a_clean_stop_but_not_a_crash(
    connect, make_batch, tmp_path, compress, monkeypatch
):
    ending = {"gzip": ".gz", "zstd": ".zst"}[compress]
    for number in (1, 2):
        file = connect(File, path="x.ndjson", compress=compress)
        await file.deliver(make_batch(number))
        await file.close()
    assert ids(tmp_path / f"x.ndjson{ending}") == ["id-1", "id-2"]
    await connect(File, path="x.ndjson", compress=compress).deliver(make_batch(3))  # and it is never closed
    monkeypatch.setattr(appending, "TURNS", appending.Turns())  # as in another process
    await connect(File, path="x.ndjson", compress=compress).deliver(make_batch(4))
    assert ids(tmp_path / f"x.1.ndjson{ending}") == ["id-1", "id-2", "id-3"]
    assert ids(tmp_path / f"x.ndjson{ending}") == ["id-4"]


async def test_compressed_files_of_several_partitions_continue_after_a_stop(connect, make_batch, tmp_path):
    for number in (1, 2):
        files = [connect(File, path="{worker}.ndjson", compress="gzip") for _ in range(3)]
        for partition, file in enumerate(files):
            file.worker = partition
            await file.deliver(make_batch(number))
        for file in files:
            await file.close()
    for partition in range(3):
        assert ids(tmp_path / f"{partition}.ndjson.gz") == ["id-1", "id-2"]


async def test_more_compressed_files_than_may_be_open_are_not_set_aside(
    connect, make_batch, make_event, tmp_path, monkeypatch
):
    monkeypatch.setattr(appending, "OPEN_FILES", 1)
    file = connect(File, path="{type}.ndjson", compress="gzip")
    for _ in range(3):
        for kind in ("a.b", "c.d"):
            await file.deliver(make_batch(make_event({}, Kind("s", kind, "id", "time"))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.ndjson.gz", "c.d.ndjson.gz"]


def age(path, days):
    path.write_bytes(path.read_bytes() if path.exists() else b"x" * 100)
    os.utime(path, (time.time() - days * 86400,) * 2)


async def test_files_that_are_too_old_are_removed_and_strangers_stay(connect, make_batch, tmp_path):
    old = ["2026-01-01.ndjson", "2026-01-02.ndjson.gz", "2026-01-01.17.ndjson"]
    others = ["2026-01-01.ndjson.bak", "2026-1-1.ndjson", "report-2026-01-01.ndjson", "2026-01-01.csv"]
    for name in (*old, *others):
        age(tmp_path / name, 31)
    age(tmp_path / "2026-02-01.ndjson", 29)
    file = connect(File, path="{date}.ndjson", keep="30d")
    with structlog.testing.capture_logs() as logs:
        await file.deliver(make_batch(1))
        age(tmp_path / "2026-01-03.ndjson", 31)
        await file.deliver(make_batch(2))  # looked for again within a minute
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & {*old}
    assert {*others, "2026-01-03.ndjson", "2026-02-01.ndjson"} <= left
    (told,) = [line for line in logs if line["event"] == "old files removed"]
    assert (told["files"], told["bytes"], told["log_level"]) == (3, 300, "info")


async def test_an_old_file_that_cannot_be_removed_costs_no_delivery(connect, make_batch, tmp_path, monkeypatch):
    age(tmp_path / "2026-01-01.ndjson", 31)

    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with structlog.testing.capture_logs() as logs:
        assert await connect(File, path="{date}.ndjson", keep="30d").deliver(make_batch(1)) is None
    (told,) = logs
    assert (told["event"], told["reason"]) == ("old files cannot be removed", "Permission denied")


async def test_files_are_bounded_together_and_the_highest_number_is_the_newest(connect, make_batch, tmp_path):
    file = connect(File, path="archive/x.ndjson", max_total="1KiB", max_size="150B")
    for number in range(40):
        await file.deliver(make_batch(number))
    found = {path.name: path for path in (tmp_path / "archive").iterdir()}
    assert sum(path.stat().st_size for path in found.values()) <= 1024
    assert ids(found.pop("x.ndjson"))[-1] == "id-39"
    numbers = sorted(int(name.split(".")[1]) for name in found)
    assert numbers[0] > 10
    assert [*range(numbers[0], numbers[-1] + 1)] == numbers
    kept = [int(one.removeprefix("id-")) for number in numbers for one in ids(found[f"x.{number}.ndjson"])]
    assert kept == sorted(kept)


def test_an_open_file_stays_whatever_its_age():
    files = [WrittenFile(Path(name), last, 10) for name, last in (("open", 1.0), ("new", 99.0), ("old", 50.0))]
    cases = [
        (FileLimits(), []),
        (FileLimits(keep=40), ["old"]),
        (FileLimits(max_total=25), ["old"]),
        (FileLimits(max_total=5), ["old", "new"]),
    ]
    for limits, names in cases:
        found = find_removable(files, limits, 100.0, lambda path: path.name == "open")
        assert [file.path.name for file in found] == names


async def test_the_room_of_the_journal_is_left_free(connect, make_batch, tmp_path, monkeypatch):
    file = connect(File, path="x.ndjson")
    free = shutil.disk_usage(tmp_path).free
    file.min_free = free
    (answer,) = await file.deliver(make_batch(1))
    assert isinstance(answer, Retry)
    assert answer.reason.startswith("its file system is full: /")
    assert "twice journal.min_free, are kept for the journal): free some space" in answer.reason
    assert file.settings.retry.max == 5, "room that is made is seen soon"
    assert not (tmp_path / "x.ndjson").exists()
    file.min_free = 1
    assert await file.deliver(make_batch(1)) is None


@pytest.mark.parametrize(("compress", "tool"), [("gzip", "zcat"), ("zstd", "zstdcat")])
async def test_batches_make_one_file_for_the_usual_tools(connect, make_batch, tmp_path, compress, tool):
    file = connect(File, path="x.ndjson", compress=compress)
    await file.deliver(make_batch(1))
    await file.deliver(make_batch(2, 3))
    (path,) = tmp_path.iterdir()
    assert ids(path) == ["id-1", "id-2", "id-3"]
    try:
        shown = subprocess.run([tool, path], check=True, capture_output=True).stdout
    except FileNotFoundError:
        pytest.skip(f"{tool} is not installed")
    assert shown == unpacked(path)


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b'{"id":0}\n{"id":"to', [0]),
        (b'{"id":"to', []),
        (b'{"id":0}\n' + b"x" * 200_000, [0]),
        (b"x" * 200_000, []),
        (b'{"id":0}\n' * 20_000 + b"x" * 70_000, [0] * 20_000),
    ],
)
async def test_a_torn_line_is_cut_off_when_the_file_is_opened(connect, make_batch, tmp_path, left, kept):
    (tmp_path / "x.ndjson").write_bytes(left)
    with structlog.testing.capture_logs() as logs:
        await connect(File, path="x.ndjson").deliver(make_batch(1))
    assert ids(tmp_path / "x.ndjson") == [*kept, "id-1"]
    assert [(line["log_level"], line["path"]) for line in logs] == [("warning", str(tmp_path / "x.ndjson"))]


async def test_a_torn_member_hides_nothing_that_comes_later(connect, make_batch, tmp_path):
    before = connect(File, path="x.ndjson", compress="gzip")
    await before.deliver(make_batch(1))
    await before.close()
    with (tmp_path / "x.ndjson.gz").open("ab") as torn:
        torn.write(gzip.compress(b"torn")[:12])
    await connect(File, path="x.ndjson", compress="gzip").deliver(make_batch(2))
    assert ids(tmp_path / "x.ndjson.gz") == ["id-2"]
    with gzip.open(tmp_path / "x.1.ndjson.gz") as readable:
        assert orjson.loads(readable.readline())["id"] == "id-1"


def fill_disk(monkeypatch):
    """From now on the disk takes 10 bytes and then nothing, as a full one does: a short write first, then the error."""
    real, taken = os.write, []

    def write(fd, data):
        if taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken.append(fd)
        return real(fd, bytes(data[:10]))

    monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("compress", ["none", "gzip"])
async def test_a_full_disk_leaves_nothing_torn_and_the_next_attempt_succeeds(connect, make_batch, tmp_path, compress):
    file = connect(File, path="x.ndjson", compress=compress)
    await file.deliver(make_batch(1))
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patched:
        fill_disk(patched)
        outcomes = await file.deliver(make_batch(2, 3))
    assert [type(outcome) for outcome in outcomes] == [Retry, Retry]
    assert outcomes[0].reason == f"{path}: No space left on device"
    assert path.read_bytes() == before
    assert await file.deliver(make_batch(2, 3)) is None
    assert sorted(found for part in tmp_path.iterdir() for found in ids(part)) == ["id-1", "id-2", "id-3"]


async def test_a_failed_sync_is_not_trusted(connect, make_batch, tmp_path):
    file = connect(File, path="x.ndjson")

    def fdatasync(fd):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fdatasync", fdatasync)
        (outcome,) = await file.deliver(make_batch(1))
    assert isinstance(outcome, Retry)
    await file.deliver(make_batch(1))
    assert ids(tmp_path / "x.ndjson") == ["id-1"]


async def test_everything_is_synced_before_it_counts_as_delivered(connect, make_batch, tmp_path, monkeypatch):
    synced = []

    def recorded(name):
        real = getattr(os, name)

        def sync(fd):
            synced.append((name, Path(f"/proc/self/fd/{fd}").readlink().relative_to(tmp_path), os.fstat(fd).st_size))
            real(fd)

        monkeypatch.setattr(os, name, sync)

    recorded("fsync")
    recorded("fdatasync")
    await connect(File, path="a/b/x.ndjson").deliver(make_batch(1))
    assert [(name, str(path)) for name, path, _ in synced] == [
        ("fsync", "."),
        ("fsync", "a"),
        ("fsync", "a/b"),
        ("fdatasync", "a/b/x.ndjson"),
    ]
    assert synced[-1][2] == (tmp_path / "a/b/x.ndjson").stat().st_size


async def test_one_file_that_cannot_be_written_holds_up_only_its_own_events(connect, make_batch, make_event, tmp_path):
    (tmp_path / "b").mkdir()
    file = connect(File, path="{type}")
    good, bad = (make_event({"id": name}, Kind("s", name)) for name in "ab")
    outcomes = await file.deliver(Batch([Block.of([good, bad]), Block.of([good]), Block.of([bad, good])]))
    assert [isinstance(outcome, Retry) for outcome in outcomes] == [False, True, False, True, False]
    assert "is no regular file" in outcomes[1].reason
    assert ids(tmp_path / "a") == ["a", "a", "a"]


@pytest.mark.parametrize("take_away", [lambda path: path.rename(path.with_name("old")), lambda path: path.unlink()])
async def test_a_file_that_was_moved_or_deleted_is_created_again(connect, make_batch, tmp_path, take_away):
    file = connect(File, path="x.ndjson")
    await file.deliver(make_batch(1))
    take_away(tmp_path / "x.ndjson")
    await file.deliver(make_batch(2))
    assert ids(tmp_path / "x.ndjson") == ["id-2"]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_number_of_open_files_is_bounded(connect, make_batch, make_event, tmp_path, monkeypatch):
    monkeypatch.setattr(appending, "OPEN_FILES", 3)
    file = connect(File, path="{type}")
    before = open_files()
    for _ in range(2):
        await file.deliver(make_batch(*(make_event({"id": n}, Kind("s", str(n))) for n in range(20))))
    assert open_files() - before <= 3
    assert all(ids(tmp_path / str(n)) == [n, n] for n in range(20))


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"path": "{campaign}.ndjson"}, r"\{campaign\} is none of \{date\}, \{hour\}, \{type\}, \{source\}"),
        ({"path": "{date:%Y}"}, "is none of"),
        ({"path": "{"}, "Single '{' encountered"),
        ({"path": "folder/"}, "the path of a file"),
        ({"path": ""}, "the path of a file"),
        ({"concurrency": 2}, "less than or equal to 1"),
        ({"keep": "30d"}, "keep removes nothing: no file ever ends without max_size, max_age or"),
        ({"compress": "lz4"}, "'none', 'gzip' or 'zstd'"),
    ],
)
def test_mistakes_in_the_settings(settings, mistake):
    with pytest.raises(ValidationError, match=mistake):
        File.Settings(**{"type": "file", "path": "x", **settings})


def test_zstd_that_is_not_installed_says_what_to_install(monkeypatch):
    for name in ("backports", "compression"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValidationError, match=r"install currents-relay\[zstd\]"):
        File.Settings(type="file", path="x", compress="zstd")


def test_batches_stay_large_when_one_of_their_settings_is_given():
    settings = File.Settings(type="file", path="x", batch={"age": "1s"})
    assert (settings.batch.events, settings.batch.size, settings.batch.age) == (10_000, 8 << 20, 1)


async def test_more_files_than_there_is_time_for_are_settled_one_by_one(connect, make_batch, make_event, tmp_path):
    """Beside it: `http` with body = "single", `braze_cohorts` and `stdout` settle what is done in the same way."""
    file = connect(File, path="{type}", timeout="0.1ms")
    events = [make_event({"id": n}, Kind("s", f"type-{n}"), offset=n) for n in range(50)]
    attempts = 0
    while events:
        outcomes = await file.deliver(make_batch(*events)) or [DELIVERED] * len(events)
        again = [event for event, outcome in zip(events, outcomes, strict=True) if outcome != DELIVERED]
        assert len(again) < len(events)
        assert all((one.hold_lane, one.after) == (False, 0) for one in outcomes if one != DELIVERED)
        events, attempts = again, attempts + 1
    assert attempts > 1
    assert all(ids(tmp_path / f"type-{n}") == [n] for n in range(50))


@pytest.mark.parametrize("compress", ["none", "gzip"])
async def test_connectors_that_name_one_file_lose_nothing_there(connect, make_batch, tmp_path, monkeypatch, compress):
    files = [connect(File, path="x.ndjson", compress=compress, max_age="1h") for _ in range(2)]
    await files[0].deliver(make_batch(0))
    async with asyncio.TaskGroup() as group:
        for n in range(1, 51):
            for file in files:
                group.create_task(file.deliver(make_batch(n)))
    (path,) = tmp_path.iterdir()
    assert Counter(ids(path)) == {"id-0": 1} | {f"id-{n}": 2 for n in range(1, 51)}


async def test_a_write_that_fails_cuts_nothing_of_another_connector(connect, make_batch, tmp_path, monkeypatch):
    one, other = (connect(File, path="x.ndjson") for _ in range(2))
    await one.deliver(make_batch(1))
    failing, go_on, real = threading.Event(), threading.Event(), os.fdatasync

    def fdatasync(fd):
        if not failing.is_set():
            failing.set()
            go_on.wait(5)
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    async with asyncio.TaskGroup() as group:
        fails = group.create_task(one.deliver(make_batch(2)))
        while not failing.is_set():
            await asyncio.sleep(0.001)
        works = group.create_task(other.deliver(make_batch(3)))
        await asyncio.sleep(0.05)  # it waits for its turn, or else has written by now
        go_on.set()
    assert (len(fails.result()), works.result()) == (1, None)
    assert ids(tmp_path / "x.ndjson") == ["id-1", "id-3"]


@pytest.mark.parametrize("compress", ["none", "gzip"])
async def test_what_is_no_regular_file_gets_nothing(connect, make_batch, tmp_path, compress):
    """Looked at as well: a link to a device, the path's parent, the probe, `relay check`."""
    ending = "" if compress == "none" else ".gz"
    places = {kind: tmp_path / f"{kind}{ending}" for kind in ("pipe", "folder", "socket", "device")}
    os.mkfifo(places["pipe"])
    reader = os.open(places["pipe"], os.O_RDONLY | os.O_NONBLOCK)
    places["folder"].mkdir()
    places["device"].symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(places["socket"]))
        for kind, path in places.items():
            file = connect(File, path=kind, compress=compress)
            (retry, *_) = await file.deliver(make_batch(1))
            assert isinstance(retry, Retry)
            assert str(retry) == f"{path}: is no regular file"
            with pytest.raises(Retry, match="is no regular file"):
                await file.probe()
    assert os.read(reader, 100) == b""
    os.close(reader)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(path.name for path in places.values())


@pytest.mark.parametrize(
    ("path", "more", "warned"),
    [
        ("archive/{date}.ndjson", {}, True),
        ("archive/{date}.ndjson", {"keep": "30d"}, False),
        ("archive/{date}.ndjson", {"max_total": "20GB"}, False),
        ("BESIDE/not-there/{date}.ndjson", {}, True),
        ("/proc/{date}.ndjson", {}, False),
    ],
)
def test_an_archive_without_limit_beside_the_journal_is_warned_of(monkeypatch, tmp_path, path, more, warned):
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    settings = File.Settings(type="file", path=path.replace("BESIDE", str(tmp_path)), **more)
    assert [about for about, _ in settings.warnings()] == (["path"] if warned else [])
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "gone"))
    assert bool([*settings.warnings()]) is (warned and not path.startswith("BESIDE"))


async def test_a_full_disk_removes_old_files_on_its_own_file_system_only(connect, make_batch, tmp_path):
    age(tmp_path / "2026-01-01.ndjson", 31)
    file = connect(File, path="{date}.ndjson", keep="30d")
    file.min_free = 1 << 60
    (answer,) = await file.deliver(make_batch(1))
    assert (isinstance(answer, Retry), [*tmp_path.iterdir()]) == (True, [])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if Path(elsewhere).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own")
        other = connect(File, path=f"{elsewhere}/x.ndjson")
        other.min_free = 1 << 60
        assert await other.deliver(make_batch(1)) is None


async def test_files_that_are_bounded_together_end_at_a_tenth_of_that(connect, make_batch, tmp_path):
    file = connect(File, path="x.ndjson", max_total="2KiB")
    for number in range(60):
        await file.deliver(make_batch(number))
    assert 5 < len([*tmp_path.iterdir()]) <= 12
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2048


async def test_links_and_files_of_other_workers_are_not_removed(connect, make_batch, tmp_path):
    age(tmp_path / "2026-01-01.0.ndjson", 31)
    age(tmp_path / "2026-01-01.1.ndjson", 31)
    (tmp_path / "2026-01-02.1.ndjson").symlink_to(tmp_path / "2026-01-01.0.ndjson")
    file = connect(File, path="{date}.{worker}.ndjson", keep="30d")
    file.worker = 1
    await file.deliver(make_batch(1))
    left = {path.name for path in tmp_path.iterdir()}
    assert {"2026-01-01.0.ndjson", "2026-01-02.1.ndjson"} <= left
    assert "2026-01-01.1.ndjson" not in left
