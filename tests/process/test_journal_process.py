"""What is asked of a whole journal: the relay that runs has it read, by a process that it starts and ends."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from click.testing import CliRunner

from relay.admin.question_process import NICE
from relay.cli.commands.state.erasures import KEPT
from relay.cli.main import relay as cli
from relay.testing import make_event
from tests.daemon import Daemon

OPEN = "users.messages.email.Open"
USER = "57a4b9e0c2d1f3a4b5c6d7e8"


def relay(daemon: Daemon, *arguments: object, conf: bool = True) -> tuple[int, str, str]:
    """Run a command in this process, which is not the daemon's: exit code, output, errors."""
    folders = ["--state", str(daemon.state), *(["--conf", str(daemon.conf)] if conf else [])]
    result = CliRunner().invoke(cli, [*map(str, arguments), *folders])
    return result.exit_code, result.stdout, result.stderr


HOLDS = """
import os, signal, time
from pathlib import Path
from relay.admin import question_process

start = question_process.Popen

def start_held(command, **streams):
    process = start(command, **streams)
    if Path(%r).exists():
        while b"relay.inspect" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGSTOP)
    return process

question_process.Popen = start_held
"""
"""A plugin: while a file is there, each process that reads the journal stops before the process has its question."""


@asynccontextmanager
async def holding(
    daemon: Daemon, events: int, size: int = 10, *, seen: bool = False, held: bool = False, nicely: bool = False
) -> AsyncIterator[aiohttp.ClientSession]:
    """A daemon with so many events, and a session with its socket. `seen`: the process that reads is an interpreter of
    its own, and so lasts long enough to be found. `held`: that process stops as soon as it runs, while `hold` says so.
    Without `nicely` it gets CPU on a busy machine as well."""
    if seen:
        daemon.wrapper = ["env"]  # relay starts an interpreter to read the journal
    if held:
        (daemon.plugins / "holds.py").write_text(HOLDS % str(daemon.state / "hold"))
    if not nicely:
        at_once = "from relay.admin import question_process\nquestion_process.NICE = 0\n"
        (daemon.plugins / "at_once.py").write_text(at_once)
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    daemon.configure("20-archive", '[connector.archive]\ntype="file"\npath="out.ndjson"\nevents=["email"]')
    daemon.configure("30-erasure", '[erasure]\nafter = "0s"')
    await daemon.start()
    bodies = [make_event(OPEN, user={"user_id": USER}, n=n, pad="x" * size) for n in range(events)]
    assert (await daemon.post(b'{"events":[%s]}' % b",".join(bodies)))[0] == 202
    await daemon.settled("archive", events)
    connector = aiohttp.UnixConnector(str(daemon.state / "admin.sock"))
    async with asyncio.timeout(220), aiohttp.ClientSession("http://relay", connector=connector) as session:
        yield session


def readers(daemon: Daemon) -> list[int]:
    """The processes that read for a daemon."""
    found = []
    for pid in map(int, Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()):
        with suppress(OSError):
            if b"relay.inspect" in Path(f"/proc/{pid}/cmdline").read_bytes() and runs(pid):
                found.append(pid)
    return found


def runs(pid: int) -> bool:
    """Whether it is neither gone nor only waiting to be buried."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def reader(daemon: Daemon, *, stopped: bool = True) -> int:
    """Wait for the process that reads; hold it where it is."""
    (pid,) = await daemon.until(lambda: readers(daemon), bool)
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    return int(pid)


@contextmanager
def hold(daemon: Daemon) -> Iterator[None]:
    """Have each process that is to read the journal stop first, until the body ends."""
    flag = daemon.state / "hold"
    flag.touch()
    yield
    flag.unlink()


async def asked(session: aiohttp.ClientSession, path: str, body: object = None) -> tuple[int, Any]:
    async with session.request("GET" if body is None else "POST", path, json=body) as answer:
        return answer.status, await answer.json()


async def test_commands_need_nothing_but_the_socket_of_a_relay_that_runs(daemon: Daemon, tmp_path: Path) -> None:
    async with holding(daemon, 5) as session:
        for _ in range(2):
            status, found = await asked(session, "/journal/types")
            assert (status, [(one["type"], one["events"]) for one in found["types"]]) == (200, [(OPEN, 5)])
            assert found["complete_since"] == found["since"]
        daemon.conf, daemon.state, conf, state = tmp_path / "none", tmp_path / "only", daemon.conf, daemon.state
        daemon.state.mkdir()
        (daemon.state / "admin.sock").symlink_to(state / "admin.sock")
        assert relay(daemon, "audit")[0] == 0
        code, out, _ = relay(daemon, "journal", "check")
        assert (code, out.endswith("good\n")) == (0, True)
        code, out, _ = relay(daemon, "journal", "dump", "--from", 1, "--until", 4, "--events", "email", "--limit", 2)
        lines = [json.loads(line) for line in out.splitlines()]
        assert (code, [one["offset"] for one in lines]) == (0, [1, 2])
        code, out, _ = relay(daemon, "trace", lines[0]["event"]["id"])
        assert (code, 'archive: wanted by "email"; delivered at the first attempt' in out) == (0, True)
        code, out, _ = relay(daemon, "replay", "--connector", "archive", "--dry-run")
        assert (code, "offsets 0-4: 5 events, of which archive gets 5 before its filters" in out) == (0, True)
        code, _, errors = relay(daemon, "replay", "--connector", "hoop", "--dry-run")
        assert (code, errors) == (1, "Error: no connector hoop is configured; there are: archive\n")
        assert relay(daemon, "trace", "nothing") == (
            1,
            "nothing: not found in the journal, nor parked: it never came, is too old, or is damaged\n",
            "",
        )
        code, out, _ = await asyncio.to_thread(relay, daemon, "replay", "--connector", "archive", "--yes")
        assert (code, "done; delivered 5" in out, "does not run" in out) == (0, True, False)
        assert "done; delivered 5" in relay(daemon, "replay", "list", conf=False)[1]
        assert relay(daemon, "erasures", "check", "--user-id", USER)[0] == 1
        code, out, _ = relay(daemon, "erasures", "request", "--user-id", USER, conf=False)
        assert (code, out) == (0, "erasure 1 asked for; relay erasures show 1 tells how far it is\n")
        await daemon.until(lambda: relay(daemon, "erasures", "show", 1, conf=False)[1], lambda out: "forgotten" in out)
        code, out, _ = relay(daemon, "erasures", "check", "--user-id", USER)
        assert (code, out) == (0, f"no events in the journal, none parked\nerasures: 1\nnot looked at: {KEPT}\n")
        assert " 5 events" in relay(daemon, "erasures", "list", conf=False)[1]
        daemon.conf, daemon.state = conf, state
    assert await daemon.stop() == 0


async def test_the_configuration_is_the_one_in_force_and_not_the_one_on_disk(daemon: Daemon) -> None:
    async with holding(daemon, 1) as session:
        daemon.configure("20-archive", '[connector.archive]\ntype="file"\npath="out.ndjson"\nevents=["sms"]')
        daemon.configure("30-journal", '[journal]\npath="elsewhere"')
        event = json.loads(relay(daemon, "journal", "dump")[1])["event"]
        assert '"email"' in relay(daemon, "trace", event["id"])[1]
        async with session.post("/reload") as answer:
            assert (await answer.json())["ok"]
        assert "archive: not wanted: no entry matches" in relay(daemon, "trace", event["id"])[1]
    assert await daemon.stop() == 0


async def test_one_reads_at_a_time_at_low_priority_and_the_relay_goes_on(daemon: Daemon) -> None:
    async with holding(daemon, 5, held=True, nicely=True) as session, asyncio.TaskGroup() as group:
        with hold(daemon):
            first = group.create_task(asked(session, "/audit"))
            pid = await reader(daemon)
        await daemon.until(lambda: os.getpriority(os.PRIO_PROCESS, pid), lambda nice: nice == NICE)
        others = [group.create_task(asked(session, path)) for path in ("/journal", "/trace?id=1", "/audit")]
        others.append(group.create_task(asked(session, "/erasures/check", {"user_id": USER})))
        for _ in range(20):
            assert (await asked(session, "/status"))[0] == 200
        assert (await daemon.post(b'{"events":[%s]}' % make_event(OPEN)))[0] == 202
        assert (readers(daemon), [task.done() for task in (first, *others)]) == ([pid], [False] * 5)
        os.kill(pid, signal.SIGCONT)
        answers = [await task for task in (first, *others)]
        assert [status for status, _ in answers] == [200] * 5
        assert (answers[0][1]["balances"], answers[1][1]["ok"], answers[3][1]["balances"]) == (True, True, True)
        assert answers[4][1]["events"] == 5
    assert await daemon.stop() == 0


async def test_who_goes_away_ends_the_reading(daemon: Daemon) -> None:
    async with holding(daemon, 5, seen=True) as session:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(asked(session, "/journal"))
            await reader(daemon)
            asking.cancel()
        await daemon.until(lambda: readers(daemon), lambda pids: not pids)
        assert (await asked(session, "/audit"))[0] == 200
    assert await daemon.stop() == 0


async def test_a_stop_ends_the_reading(daemon: Daemon) -> None:
    async with holding(daemon, 5, seen=True) as session, asyncio.TaskGroup() as group:
        group.create_task(gone(session, "/audit"))
        pid = await reader(daemon)
        assert await daemon.stop() == 0
        await daemon.until(lambda: runs(pid), lambda going: not going)


async def gone(session: aiohttp.ClientSession, path: str) -> None:
    try:
        await asked(session, path)
    except aiohttp.ClientError:
        return
    raise AssertionError("relay has answered")


async def test_an_answer_that_cannot_be_read_says_why(daemon: Daemon) -> None:
    async with holding(daemon, 5, held=True) as session, asyncio.TaskGroup() as group:
        with hold(daemon):
            asking = group.create_task(asked(session, "/audit"))
            os.kill(await reader(daemon), signal.SIGKILL)
        status, said = await asking
        assert (status, said["detail"]) == (503, "the process that was to answer ended with -9")
        (daemon.state / "journal").rename(daemon.state / "away")
        for path in ("/journal", "/journal/events", "/trace?id=1"):
            status, said = await asked(session, path)
            assert (status, said["detail"]) == (503, f"{daemon.state / 'journal'}: there is no journal")
        assert relay(daemon, "journal", "dump")[0] == 1
        (daemon.state / "away").rename(daemon.state / "journal")
    assert await daemon.stop() == 0


@pytest.mark.long
async def test_a_tail_goes_at_the_rate_of_the_client_and_says_what_is_missing(daemon: Daemon) -> None:
    async with holding(daemon, 400, size=20_000, seen=True) as session:
        slow = [await session.get("/journal/events") for _ in range(2)]
        status, said = await asked(session, "/journal/events")
        assert (status, said["detail"]) == (503, "2 others are sent the journal already")
        assert (await asked(session, "/audit"))[1]["balances"]
        whole, cut = slow
        offsets = [orjson.loads(line)["offset"] async for line in whole.content]
        assert offsets == [*range(400)]
        os.kill(await reader(daemon), signal.SIGKILL)
        *_, last = (await cut.content.read()).splitlines()
        assert orjson.loads(last) == {"problem": "the process that was to answer ended with -9"}
        left = await session.get("/journal/events")
        await reader(daemon, stopped=False)
        left.close()
        await daemon.until(lambda: readers(daemon), lambda pids: not pids)
    assert await daemon.stop() == 0
