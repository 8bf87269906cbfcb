"""`relay parked` beside a real daemon: look, export, replay, drop."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.state.layout import list_worker_folders
from relay.store import Counts
from relay.testing import Answer, Destination, make_event
from tests.conftest import LONG
from tests.daemon import Daemon

POISON = make_event("users.messages.pushnotification.IosForeground", name="gift")


def relay(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
    """Run a command in this process, which is not the daemon's."""
    result = CliRunner().invoke(cli, [*map(str, arguments)], input=stdin)
    return result.exit_code, result.stdout, result.stderr


async def run_with_poison(daemon: Daemon, hook: Destination) -> None:
    """Three good events and a poisonous one are sent; one entry of the body is no event at all."""
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\nbody="single"')
    hook.behaviour = 400
    await daemon.start()
    assert (await daemon.post(b'{"events":[%s]}' % POISON))[0] == 202
    await daemon.settled("hook", 1)
    hook.behaviour = 200
    good = b",".join(make_event(n=n) for n in range(3))
    assert (await daemon.post(b'{"events":[%s, 7]}' % good))[1] == {"accepted": 3, "parked": 1, "duplicates": 0}
    await daemon.settled("hook", 4)


def times_taken(hook: Destination) -> int:
    return [request.body for request in hook.requests].count(POISON)


async def test_a_parked_event_is_shown_exported_replayed_and_the_audit_balances(daemon: Daemon, tmp_path: Path) -> None:
    state = ("--state", daemon.state)
    async with Destination() as hook:
        await run_with_poison(daemon, hook)
        refused = times_taken(hook)

        code, out, _ = relay("parked", "list", *state)
        header, first, second = out.splitlines()
        assert code == 0
        assert header.index("reason") == first.index("HTTP 400") == second.index("entry 4"), out
        assert all(word in first for word in ("hook", "refused", "pushnotification.IosForeground", "400"))
        assert all(word in second for word in ("source braze", "unreadable"))
        _, out, _ = relay("parked", "list", "--json", "--connector", "hook", "--since", "1h", *state)
        (listed,) = json.loads(out)
        assert (listed["number"], listed["attempts"], listed["offset"], listed["status"]) == (1, 1, 0, 400)
        code, out, _ = relay("parked", "show", 1, *state)
        assert code == 0
        assert '    "name": "gift"' in out
        _, out, _ = relay("parked", "show", 1, "--json", *state)
        assert json.loads(out) == listed | {"body": json.loads(POISON)}
        code, _, err = relay("parked", "export", "--cause", "refused", *state, tmp_path / "mended")
        assert (code, err) == (0, "1 exported\n")
        assert (tmp_path / "mended").read_bytes() == POISON + b"\n"

        code, out, err = relay("parked", "replay", 1, 2, 99, *state)
        assert (code, out) == (0, "1 to be replayed\n")
        assert "there is no such parked event: " in err
        assert "1 cannot be replayed" in err
        books = await daemon.until(lambda: daemon.ledger()["hook"], lambda books: not books.counts.parked)
        assert (books.accepted, books.counts, books.pending) == (4, Counts(delivered=4), 0)
        assert [one.cause for one in daemon.parked()] == ["unreadable"]
        assert times_taken(hook) == refused + 1
        assert await daemon.stop() == 0


async def test_dropped_events_leave_and_still_count_as_parked_in_the_ledger(daemon: Daemon) -> None:
    state = ("--state", daemon.state)
    async with Destination() as hook:
        await run_with_poison(daemon, hook)
        code, _, err = relay("parked", "drop", "--connector", "hook", *state, stdin="n\n")
        assert (code, len(daemon.parked())) == (1, 2), err
        code, out, _ = relay("parked", "drop", "--connector", "hook", "--yes", *state)
        assert (code, out) == (0, "1 dropped\n")
        assert relay("parked", "drop", 2, *state)[:2] == (0, "1 dropped\n")
        for command in (["list"], ["export"], ["replay", 1], ["drop", 1], ["show", 1]):
            code, out, _ = relay("parked", *command, *state)
            assert (code, out) == (1, ""), command
        assert await daemon.stop() == 0
        books = daemon.ledger()["hook"]
        assert (books.counts, books.pending) == (Counts(delivered=3, parked=1), 0)


async def test_a_replay_that_is_killed_is_made_after_the_next_start(daemon: Daemon) -> None:
    async with Destination() as hook:
        await run_with_poison(daemon, hook)
        hook.behaviour = 503
        asked = len(hook.requests)
        assert relay("parked", "replay", "--connector", "hook", "--state", daemon.state)[0] == 0
        await daemon.until(lambda: len(hook.requests), lambda requests: requests > asked)
        await daemon.kill()
        assert len(daemon.parked()) == 2
        hook.behaviour = 200
        await daemon.start()
        await daemon.until(lambda: daemon.ledger()["hook"].counts, lambda counts: counts == Counts(delivered=4))
        assert await daemon.stop() == 0
    assert [one.cause for one in daemon.parked()] == ["unreadable"]


@pytest.mark.parametrize("body", ["events", "single"])
async def test_the_last_answer_is_shown_and_a_token_that_it_repeats_is_nowhere(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "s3cr3t/token+1")
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    async with Destination() as hook:
        settings = f'type="http"\nurl="{hook.url}"\nbody="{body}"\ntoken={{ env = "HOOK_TOKEN" }}'
        daemon.configure("20-hook", f"[connector.hook]\n{settings}")
        echo = b'{"error": "no field gift",\n "url": "/?t=s3cr3t%2Ftoken%2B1", "sent": "Bearer s3cr3t/token+1"'
        hook.behaviour = Answer(status=422, body=echo + b" " * (191 - len(echo)) + b"s3cr3t/token+1")
        await daemon.start()
        assert (await daemon.post(b'{"events":[%s]}' % POISON))[0] == 202
        await daemon.settled("hook", 1)
        assert hook.requests[0].headers["Authorization"] == "Bearer s3cr3t/token+1"
        _, out, _ = relay("parked", "list", "--json", "--reason", "refused", "--state", daemon.state)
        (listed,) = json.loads(out)
        said = '{"error": "no field gift", "url": "/?t=...", "sent": "Bearer ..."…'
        assert (listed["status"], listed["answer"], listed["reason"]) == (422, said, f"HTTP 422: {said}")
        _, out, _ = relay("parked", "show", 1, "--state", daemon.state)
        assert f"status:     422\nanswer:     {said}\n" in out
        assert await daemon.stop() == 0
    assert "s3cr3t" not in "\n".join(daemon.stderr)
    assert all(b"s3cr3t" not in path.read_bytes() for path in daemon.state.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("retention", "left"),
    [pytest.param("", [2], marks=pytest.mark.long), ('"1d"', []), pytest.param("0", [1, 2], marks=pytest.mark.long)],
)
async def test_parked_events_leave_after_retention_and_still_count_in_the_ledger(
    daemon: Daemon, retention: str, left: list[int]
) -> None:
    async with Destination() as hook:
        await run_with_poison(daemon, hook)
        assert await daemon.stop() == 0
        with closing(sqlite3.connect(daemon.state / "relay.db")) as db, db:
            db.execute("UPDATE parked SET last = last - 86400 * CASE connector WHEN 'hook' THEN 90 ELSE 89 END")
        if retention:
            daemon.configure("00-parked", f"[parked]\nretention = {retention}")
        await daemon.start()
        await daemon.until(daemon.parked, lambda found: len(found) == len(left))
        assert [one.number for one in daemon.parked()] == left
        code, out, _ = relay("audit", "--json", "--state", daemon.state)
        assert code == 0, out
        assert await daemon.stop() == 0
    assert daemon.ledger()["hook"].counts == Counts(delivered=3, parked=1)
    removed = daemon.logged("parked events removed")
    assert [line["events"] for line in removed] == ([2 - len(left)] if len(left) < 2 else [])
    if left == [2]:
        assert removed[0]["counts"] == {"hook": 1}


PARK = """
    INSERT INTO parked (source, connector, offset, type, cause, reason, attempts, first, last, id_field, time_field,
                        received, body)
    VALUES ('braze', 'hook', ?, 'users.canvas.Entry', 'refused', 'HTTP 422', 1, 1e9, 2e9, 'id', 'time', 1e9, ?)
"""
MANY = 1200
"""Parked events of 40 kB: more in all than a command may hold in RAM."""
PEAK = r"""
import re, sys
from relay.cli.main import relay
try:
    relay(sys.argv[1:])
except SystemExit as ended:
    print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
    raise
"""


async def peak_of(*command: object) -> int:
    """Run a command in a process of its own; the MB that it had in RAM at most."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PEAK, *map(str, command),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 0, said
    return int(said.split()[-1]) // 1024


@pytest.mark.parametrize("workers", [1, 2] if LONG else [2])
@pytest.mark.long
async def test_commands_on_many_parked_events_take_little_memory(daemon: Daemon, workers: int) -> None:
    """Of the relay that runs and of the command; with two workers, each reads what one would read alone. Export and
    `forget` go the same way."""
    async with Destination() as hook:
        daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
        daemon.configure("15-runtime", f"[runtime]\nworkers = {workers}\n[parked]\nmax_size = 0")
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"')
        hook.behaviour = 503
        await daemon.start()
        folders = list_worker_folders(daemon.state)
        assert len(folders) == workers
        for folder in folders.values():
            with closing(sqlite3.connect(folder / "relay.db", timeout=10)) as db, db:
                db.executemany(PARK, ((10**9 + n, b'{"pad":"%s"}' % (b"x" * 40_000)) for n in range(MANY // workers)))
        before, state = daemon.memory_kib(), ("--state", daemon.state)
        peaks = [await peak_of("parked", *command, *state) for command in (["list"], ["list", "--json"], ["export"])]
        assert relay("parked", "replay", "--connector", "hook", "--limit", 1_000, *state)[1] == "1000 to be replayed\n"
        assert relay("parked", "drop", "--connector", "hook", "--yes", *state)[1] == f"{MANY} dropped\n"
        assert max(peaks) < 120, peaks
        assert daemon.memory_kib() - before < 40_000
        sizes = [(folder / "relay.db").stat().st_size for folder in folders.values()]
        assert max(sizes) < 10_000_000
        assert await daemon.stop() == 0


@pytest.mark.parametrize("option", ["--cause", "--reason"])
def test_an_unknown_cause_is_refused_with_those_there_are(tmp_path: Path, option: str) -> None:
    code, _, err = relay("parked", "list", option, "gaveup", "--state", tmp_path)
    assert code == 2
    assert "'gaveup' is not one of 'unreadable', 'filter', 'refused', 'too_large', 'gave_up', 'bug'" in err


@pytest.mark.parametrize("command", [["replay"], ["drop", "--yes"], ["list", "--since", "soon"]])
def test_a_command_that_does_not_say_which_is_refused(tmp_path: Path, command: list[str]) -> None:
    assert relay("parked", *command, "--state", tmp_path)[0] == 2


def test_a_folder_without_state_is_named(tmp_path: Path) -> None:
    code, _, err = relay("parked", "list", "--state", tmp_path)
    assert code == 1
    assert err.startswith(f"Error: {tmp_path}/relay.db: no relay has run with this state folder (--conf DIR names")


async def test_nobody_waits_long_while_somebody_has_the_database_locked(daemon: Daemon) -> None:
    """Looked at: requests that wait at the same time, those that come later, good requests, pages of segments, which a
    source remembers; afterwards nothing lies there twice."""
    daemon.configure(
        "10-source",
        '[source.braze]\ntype="currents"\npath="/currents"\n[source.heap]\ntype="heap_segments"\npath="/heap"',
    )
    daemon.configure("20-out", '[connector.out]\ntype="stdout"')
    await daemon.start()
    mixed = b'{"events":[%s, 7]}' % make_event(n=1)
    page = json.dumps(
        {
            "action_type": "segment.users.sync",
            "data": {
                "segment": {"id": 1, "name": "n"},
                "sync_info": {"sync_task_id": "t", "page_number": 1, "total_pages": 1},
                "add": [{"id": "u1", "email": "a@b.c"}],
                "remove": [],
            },
        }
    )
    with closing(sqlite3.connect(daemon.state / "relay.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(25):  # a third of them would take 30 s behind each other
            answers = await asyncio.gather(*[daemon.post(mixed) for _ in range(4)])
            assert (await daemon.post(b'{"events":[%s]}' % make_event(n=2)))[0] == 202
        assert {status for status, _ in answers} == {503}
        assert all("unreadable events cannot be parked" in answer["detail"] for _, answer in answers)
        async with asyncio.timeout(30):
            assert {(await daemon.post(mixed))[0] for _ in range(20)} == {503}
            for _ in range(5):
                assert (await daemon.post(page.encode(), "/heap"))[0] == 200
        db.execute("ROLLBACK")
    async with asyncio.timeout(30):
        while (await daemon.post(mixed))[0] == 503:
            await asyncio.sleep(0.1)
    assert len(daemon.parked()) == 1
    assert daemon.logged("unreadable events cannot be parked")[0]["source"] == "braze"
    assert not daemon.logged("the journal takes no events")
    assert await daemon.stop() == 0
