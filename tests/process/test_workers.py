"""Several workers share the work: one that dies costs nothing, and what one process has to see, one process sees."""

import asyncio
import os
import re
import shutil
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from relay.testing import Answer, Destination, make_event
from tests.daemon import Daemon
from tests.process.tables import CHAT
from tests.process.test_admin import seen

SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"\n'
EMAIL, PURCHASE = "users.messages.email.Open", "users.behaviors.Purchase"


def workers(daemon: Daemon, number: int) -> None:
    daemon.configure("05-runtime", f"[runtime]\nworkers = {number}\ndrain = '5s'")
    daemon.configure("10-source", SOURCE)


def hook(daemon: Daemon, url: str, more: str = "") -> None:
    daemon.configure("20-hook", f'[connector.hook]\ntype = "http"\nurl = "{url}"\nretry = {{ max = "1s" }}\n{more}')


def batch_of(*numbers: int, type: str = EMAIL, key: str = "") -> list[dict[str, Any]]:
    return [
        orjson.loads(make_event(type)) | {"id": f"id-{number}", "properties": {"number": number, "key": key}}
        for number in numbers
    ]


async def send(daemon: Daemon, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Over connections of their own, which the kernel gives to any worker; again after a 503, as senders do: who is
    slow to start on a busy machine is stood in for."""
    body = orjson.dumps({"events": events})
    async with asyncio.timeout(90):
        while (said := await daemon.post(body))[0] == 503:
            await asyncio.sleep(0.1)
    status, answer = said
    assert status == 202, answer
    return answer


def numbers_at(destination: Destination) -> list[int]:
    taken = [body for request in destination.requests if request.taken for body in request.bodies()]
    return [orjson.loads(body)["properties"]["number"] for body in taken]


def children(daemon: Daemon) -> dict[int, int]:
    """The processes of a daemon's workers, by their numbers."""
    found = {}
    for of_thread in Path(f"/proc/{daemon.pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread or a child that is gone by now
            for pid in map(int, of_thread.read_text().split()):
                if number := re.search(rb'"number": (\d+),', Path(f"/proc/{pid}/cmdline").read_bytes()):
                    found[int(number[1])] = pid
    return found


def is_running(pid: int) -> bool:
    """Whether it is neither gone nor only waiting to be buried."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_they_share_the_connections_and_everything_arrives_once(daemon: Daemon) -> None:
    workers(daemon, 2)
    async with Destination() as destination:
        hook(daemon, destination.url)
        await daemon.start()
        for number in range(60):
            await send(daemon, batch_of(number))
        await daemon.settled("hook", 60)
        assert sorted(numbers_at(destination)) == [*range(60)]
        assert await daemon.stop() == 0
    assert [line["worker"] for line in daemon.logged("worker runs")] in ([0, 1], [1, 0])
    segments = [path for path in daemon.state.rglob("*.log") if path.stat().st_size > 100]
    assert len({path.parent for path in segments}) == 2, "the kernel gives both of them connections"


async def test_a_worker_that_is_killed_comes_back_and_nothing_accepted_is_lost(daemon: Daemon) -> None:
    workers(daemon, 2)
    async with Destination() as destination:
        hook(daemon, destination.url)
        await daemon.start()
        accepted: set[int] = set()
        before = children(daemon)

        async def load(first: int) -> None:
            for number in range(first, first + 150):
                while number not in accepted:
                    try:
                        await send(daemon, batch_of(number))
                        accepted.add(number)
                    except (aiohttp.ClientError, ConnectionError):
                        await asyncio.sleep(0.05)  # its worker died before it could answer

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(load(1000 * n), name=f"load {n}") for n in range(4)]
            for victim in (1, 0):
                while len(accepted) < 100 * (2 - victim):
                    await asyncio.sleep(0.01)
                os.kill(children(daemon)[victim], signal.SIGKILL)
                await daemon.until(lambda: children(daemon).keys(), lambda alive: alive == {0, 1}, 90)
            await asyncio.wait(tasks)
        assert len(accepted) == 600
        # More events than 600 may be accepted: a worker may die after it took an event and before its answer.
        await daemon.until(lambda: accepted - set(numbers_at(destination)), lambda missing: not missing)
        assert children(daemon).keys() == before.keys()
        assert not set(children(daemon).values()) & set(before.values())
        assert len(daemon.logged("worker died, starts again")) == 2
        assert await daemon.stop() == 0


async def test_order_by_key_holds_across_them_through_retries(daemon: Daemon) -> None:
    workers(daemon, 2)
    async with Destination(*[Answer(status=503)] * 3) as destination:
        hook(daemon, destination.url, 'order_by = "properties.key"\nevents = ["email"]\nbatch = { events = 3 }')
        await daemon.start()
        for number in range(40):
            await send(daemon, batch_of(number, key="one") + batch_of(1000 + number, type=PURCHASE))
        await daemon.until(lambda: len(numbers_at(destination)), lambda arrived: arrived >= 40)
        await daemon.until(lambda: daemon.ledger()["hook"], lambda books: books.accepted == 80 and not books.pending)
        assert numbers_at(destination) == [*range(40)]
        assert daemon.ledger()["hook"].counts.unselected == 40
        assert await daemon.stop() == 0


async def test_duplicates_are_told_whichever_worker_they_reach(daemon: Daemon) -> None:
    workers(daemon, 2)
    daemon.configure("10-source", SOURCE + 'dedupe = "1h"\n')
    async with Destination() as destination:
        hook(daemon, destination.url)
        await daemon.start()
        answers = [await send(daemon, batch_of(number % 5)) for number in range(30)]
        assert [answer["duplicates"] for answer in answers] == [0] * 5 + [1] * 25
        await daemon.settled("hook", 5)
        assert sorted(numbers_at(destination)) == [*range(5)]
        assert await daemon.stop() == 0


async def test_a_rate_holds_for_all_of_them_together(daemon: Daemon) -> None:
    workers(daemon, 2)
    async with Destination() as destination:
        hook(daemon, destination.url, "rate = 20")
        await daemon.start()
        began = time.monotonic()
        for number in range(60):
            await send(daemon, batch_of(number))
        await destination.received(60)
        assert time.monotonic() - began > 0.9, "a burst of a second's worth, and the rest at the rate"
        assert await daemon.stop() == 0


async def test_fewer_workers_deliver_what_the_others_have_left(daemon: Daemon) -> None:
    workers(daemon, 3)
    async with Destination() as destination:
        destination.behaviour = 503
        hook(daemon, destination.url)
        await daemon.start()
        for number in range(60):
            await send(daemon, batch_of(number))
        assert await daemon.stop() == 0
    workers(daemon, 1)
    async with Destination() as destination:
        hook(daemon, destination.url)
        await daemon.start()
        await daemon.settled("hook", 60)
        assert sorted(numbers_at(destination)) == [*range(60)]
        await daemon.until(lambda: children(daemon).keys(), lambda alive: alive == {0})
        await send(daemon, batch_of(60))
        assert await daemon.stop() == 0
    daemon.logs.clear()
    await daemon.start()
    assert not daemon.logged("worker runs"), "with nothing left over one process is enough"
    assert await daemon.stop() == 0


async def test_when_the_supervisor_is_killed_they_stop(daemon: Daemon) -> None:
    workers(daemon, 2)
    async with Destination() as destination:
        hook(daemon, destination.url)
        await daemon.start()
        await send(daemon, batch_of(1))
        pids = set(children(daemon).values())
        daemon.signal(signal.SIGKILL)
        await daemon.until(lambda: [pid for pid in pids if is_running(pid)], lambda left: not left)
        await daemon.ended()
        await daemon.start()
        await daemon.settled("hook", 1)
        assert await daemon.stop() == 0


async def test_a_port_that_another_program_has_is_not_shared_with_it(daemon: Daemon) -> None:
    workers(daemon, 2)
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon.configure("00-ingest", f'[ingest]\nlisten = "{address}"')
        await daemon.launch()
        assert await daemon.ended() == 1
    assert any(f"{address}: Address already in use" in line for line in daemon.stderr), daemon.stderr


async def test_they_need_no_temporary_folder_and_no_short_path(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at: TMPDIR that is missing, a state folder beyond the length of a socket's address, the folder of the
    workers' sockets that somebody removes; one process and several, and the commands."""
    monkeypatch.setenv("TMPDIR", "/not/there")
    daemon.state = daemon.state / ("pvc-0a1b2c3d-0000-4444-8888-999999999999-" * 2) / "state"
    workers(daemon, 2)
    daemon.configure("10-source", SOURCE + 'dedupe = "1h"\n')
    await daemon.start()
    assert daemon.logged("relay runs")[-1]["admin"] == [f"unix:{daemon.state}/admin.sock"]
    before = children(daemon)
    shutil.rmtree(daemon.state / "rendezvous")
    os.kill(before[0], signal.SIGKILL)
    os.kill(before[1], signal.SIGKILL)
    await daemon.until(lambda: daemon.logged("worker runs"), lambda lines: len(lines) == 4, 90)
    for number in range(6):
        await send(daemon, batch_of(number))
    status = await command(daemon, "status", "--json")
    assert [one["away"] for one in status["workers"]] == [False, False]
    assert await daemon.stop() == 0
    workers(daemon, 1)
    await daemon.start()
    assert (await command(daemon, "status", "--json"))["journal"]["head"] == 6
    assert await daemon.stop() == 0
    assert [line for line in daemon.stderr if "Traceback" in line] == []


async def command(daemon: Daemon, *arguments: str) -> Any:
    return orjson.loads((await daemon.run(*arguments)).stdout)


async def answers_within(daemon: Daemon, seconds: float) -> set[int]:
    """What eight senders are answered, each over a connection of its own, none of which waits for longer."""

    async def ask(number: int) -> int:
        async with asyncio.timeout(seconds):
            return int((await daemon.post(orjson.dumps({"events": batch_of(number)})))[0])

    return {*await asyncio.gather(*map(ask, range(8)))}


async def test_senders_of_a_worker_that_cannot_start_are_answered(daemon: Daemon) -> None:
    """Looked at: the supervisor goes on, nobody waits in the socket, the status says so, and it comes back."""
    workers(daemon, 2)
    await daemon.start()
    daemon.logs.clear()
    journal = daemon.state / "workers" / "1" / "journal"
    os.kill(children(daemon)[1], signal.SIGKILL)
    journal.rename(journal.with_name("elsewhere"))
    journal.write_text("in the way")
    await daemon.until(lambda: daemon.logged("worker is away, its senders are answered 503"), bool)
    for _ in range(3):
        assert await answers_within(daemon, 30) <= {202, 503}
    assert daemon.logged("worker died, starts again")
    journal.unlink()
    journal.with_name("elsewhere").rename(journal)
    await daemon.until(lambda: daemon.logged("worker is back at its socket"), bool, 90)
    await send(daemon, batch_of(1))
    assert await daemon.stop() == 0


async def begun_again(daemon: Daemon, number: int) -> None:
    """Kill a worker, and wait until it is back."""
    daemon.logs.clear()
    os.kill(children(daemon)[number], signal.SIGKILL)
    await daemon.until(lambda: [one["worker"] for one in daemon.logged("worker runs")], lambda told: told == [number])


async def paths_taken(daemon: Daemon, destination: Destination) -> set[str]:
    """Where the events go that are sent now, by both workers."""
    destination.requests.clear()
    for number in range(24):
        await send(daemon, batch_of(number))
    await destination.received(24)
    return {request.target for request in destination.requests}


async def test_a_worker_that_is_started_again_takes_the_configuration_in_force(daemon: Daemon) -> None:
    """Whatever lies on disk. Looked at: a refused edit, a valid one that nobody reloaded, a file that is no TOML, a
    setting that takes a restart, and overrides of single keys."""
    workers(daemon, 2)
    (daemon.conf / "20-hook.toml.d").mkdir()
    async with Destination() as destination:
        hook(daemon, destination.url)
        override = daemon.conf / "20-hook.toml.d" / "10-path.toml"
        override.write_text(f'[connector.hook]\nurl = "{destination.url}?first"\n')
        await daemon.start()
        daemon.configure("30-wrong", "[connector.hook]\nnonsense = 1")
        assert (await daemon.run("reload")).returncode == 78
        assert seen(daemon).refused_reload is not None
        await begun_again(daemon, 1)
        assert await paths_taken(daemon, destination) == {"/?first"}
        (daemon.conf / "30-wrong.toml").unlink()
        override.write_text(f'[connector.hook]\nurl = "{destination.url}?second"\n')
        daemon.configure("40-journal", "[journal]\npath = 'elsewhere'")
        await begun_again(daemon, 1)
        assert await paths_taken(daemon, destination) == {"/?first"}
        assert (await daemon.run("reload")).returncode == 0
        assert await paths_taken(daemon, destination) == {"/?second"}
        override.write_text("[[[")
        await begun_again(daemon, 1)
        assert await paths_taken(daemon, destination) == {"/?second"}
        assert await daemon.stop() == 0
    assert not [*daemon.state.rglob("elsewhere")]


async def test_a_worker_restarted_with_newer_plugin_code_is_reported(daemon: Daemon) -> None:
    """A process cannot load what is not there any more. Looked at: code that works, code that is broken, and the file
    as it was, with which the worker runs what the others run."""
    path = daemon.plugins / "chat.py"
    path.write_text(CHAT)
    workers(daemon, 2)
    daemon.configure("20-chat", '[connector.chat]\ntype = "chat"')
    await daemon.start()

    async def waiting() -> Any:
        return (await command(daemon, "status", "--json"))["restart"]

    path.write_text(CHAT + "\n")
    await begun_again(daemon, 1)
    assert await waiting() == [f"the new code of plugin chat ({path}), which worker 1 runs already"]
    (told,) = daemon.logged("worker begins with newer code of plugins than relay did")
    assert (told["worker"], told["plugins"]) == (1, [f"chat ({path})"])
    path.write_text("import nothing_here")
    os.kill(children(daemon)[1], signal.SIGKILL)
    reason = f"ended with exit code 78, see above; it ran new code of plugin chat ({path})"
    await daemon.until(
        lambda: [line["reason"] for line in daemon.logged("worker died, starts again")], lambda told: reason in told
    )
    daemon.logs.clear()
    path.write_text(CHAT)
    await daemon.until(lambda: daemon.logged("worker runs"), bool, 90)
    assert await waiting() == []
    assert await daemon.stop() == 0


async def test_while_a_worker_hangs_its_senders_are_answered(daemon: Daemon) -> None:
    """Looked at: connections that wait in its socket, and events for the first worker while that is the one."""
    workers(daemon, 2)
    daemon.configure("10-source", SOURCE + 'dedupe = "1h"\n')
    await daemon.start()
    daemon.logs.clear()
    first = children(daemon)[0]
    os.kill(first, signal.SIGSTOP)
    try:
        await daemon.until(lambda: daemon.logged("worker is away, its senders are answered 503"), bool)
        assert await answers_within(daemon, 30) == {503}
    finally:
        os.kill(first, signal.SIGCONT)
    await daemon.until(lambda: daemon.logged("worker is back at its socket"), bool, 90)
    await send(daemon, batch_of(1))
    assert children(daemon)[0] == first
    assert await daemon.stop() == 0


async def test_a_damaged_folder_of_a_removed_worker_stops_no_start(daemon: Daemon) -> None:
    (daemon.state / "workers" / "1").mkdir(parents=True)
    (daemon.state / "workers" / "1" / "relay.db").write_bytes(b"no database" * 1000)
    workers(daemon, 1)
    await daemon.start()
    await send(daemon, batch_of(1))
    (line,) = daemon.logged("a worker that is no longer wanted is left out")
    assert line["folder"] == str(daemon.state / "workers" / "1")
    assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "worker",
            "the state folder {state}/workers/1 cannot be used: {state}/workers/1: Not a directory",
        ),
        (
            "restore",
            "the state folder {state} is not complete: a restore was broken off there: "
            "run relay restore /backup --state {state} again",
        ),
        ("address", "30-metrics.toml:2: metrics.listen: 127.0.0.1:{port}: Address already in use: another program"),
        ("host", "30-metrics.toml:2: metrics.listen: {host}:80: this host is not known"),
    ],
)
async def test_a_start_that_fails_is_one_sentence(daemon: Daemon, what: str, said: str) -> None:
    workers(daemon, 2)
    hook(daemon, "http://127.0.0.1:1/")
    host = "h" * 70
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if what == "worker":
            daemon.state.mkdir()
            (daemon.state / "workers").write_text("in the way")
        elif what == "restore":
            daemon.state.mkdir()
            (daemon.state / "unfinished-restore").write_text(f"/backup\n{daemon.state}/journal\n")
        else:
            listen = f"127.0.0.1:{port}" if what == "address" else f"{host}:80"
            daemon.configure("30-metrics", f'[metrics]\nlisten = "{listen}"')
        await daemon.launch()
        assert await daemon.ended() == 1
    (line,) = [line["message"] for line in daemon.logs if line["level"] == "error"]
    assert line.startswith("relay cannot start: " + said.format(state=daemon.state, port=port, host=host))
    assert all(line.startswith("{") for line in daemon.stderr)
    assert what == "worker" or not (daemon.state / "relay.db").exists(), "no worker has begun"


async def test_removed_sockets_of_running_workers_are_made_again(daemon: Daemon) -> None:
    """Looked at: the sockets at which workers are heard, asked and handed events; the admin API's, of one process and
    of several."""
    workers(daemon, 2)
    daemon.configure("10-source", SOURCE + 'dedupe = "1h"\n')
    await daemon.start()
    before, folder = children(daemon), daemon.state / "rendezvous"
    shutil.rmtree(folder)
    (daemon.state / "admin.sock").unlink()
    names = ["admin-0.sock", "admin-1.sock", "first.sock", "notify-0.sock", "notify-1.sock"]
    await daemon.until(lambda: sorted(one.name for one in folder.glob("*.sock")), lambda found: found == names)
    told = daemon.logged("the socket of a worker was removed, is made anew")
    assert {line["socket"] for line in told} == {str(folder / "notify-0.sock"), str(folder / "notify-1.sock")}
    await daemon.until((daemon.state / "admin.sock").exists, bool)
    status = await command(daemon, "status", "--json")
    assert [one["away"] for one in status["workers"]] == [False, False]
    os.kill(before[0], signal.SIGKILL)
    await daemon.until(lambda: daemon.logged("worker runs"), lambda lines: len(lines) == 3, 90)
    for number in range(6):
        await send(daemon, batch_of(number))
    assert children(daemon)[1] == before[1]
    assert await daemon.stop() == 0
    workers(daemon, 1)
    await daemon.start()
    (daemon.state / "admin.sock").unlink()
    await daemon.until((daemon.state / "admin.sock").exists, bool)
    assert (await command(daemon, "status", "--json"))["journal"]["head"] == 6
    assert await daemon.stop() == 0
