"""A real relay whose journal lacks what relay.db knows: an admin sees which events are lost, for which connectors, and
ends that by a command. No offset is given twice, and no connector begins again."""

import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from relay.state.erasure.table import FolderErasures
from relay.state.journal_state import read_acknowledged
from relay.state.open_folder import view_journal
from relay.state.replays import FolderReplays
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.test_lost_state import HOOK, SOURCE, post, run, start, taken, until_status

HEAP = HOOK.replace("hook", "heap")
METRICS = '[metrics]\nlisten = "127.0.0.1:0"'
DELETION = "users.UserDeleteRequest"
LATE = 5
"""Events that relay acknowledges in the last moment, of which relay.db knows nothing."""


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Keep relay from saving anything in relay.db."""
    with closing(sqlite3.connect(state / "relay.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


async def send(daemon: Daemon, number: int) -> list[bytes]:
    """Send so many events; return them."""
    events = [make_event(n=n) for n in range(number)]
    assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202
    return events


async def run_into_loss(daemon: Daemon, hook: Destination, heap: Destination, end: str, copy: Path) -> list[bytes]:
    """End a relay with offsets 0 to 19 in relay.db. hook lacks all, heap lacks none.

    `copy` has offsets 0 to 9 of the journal: return their events. After `kill -9`, the journal has held more events
    than relay.db knows.
    """
    hook.behaviour = 503
    daemon.configure("10-all", SOURCE + HOOK % hook.url + HEAP % heap.url)
    daemon.configure("15-metrics", METRICS)
    await daemon.start()
    kept = await send(daemon, 10)
    await daemon.settled("heap", 10)
    assert await daemon.stop() == 0
    shutil.copytree(daemon.state / "journal", copy)
    await daemon.start()
    await send(daemon, 10)
    await daemon.settled("heap", 20)
    await taken(daemon, daemon.state, 20)
    if end == "stop":
        assert await daemon.stop() == 0
    else:
        with locked(daemon.state):
            await send(daemon, LATE)
            await daemon.kill()
    hook.behaviour = 200
    return kept


async def assert_told(daemon: Daemon, *said: str) -> None:
    """See the loss wherever an admin looks."""
    for command in ("status", "audit", "doctor", "history"):
        told = await run(daemon, command)
        assert told.exit_code == (0 if command == "history" else 1), told
        for one in said:
            assert one in told.stdout, told
    assert (await daemon.metrics())['relay_runtime_doubtful{what="journal"}'] == 1


async def assert_goes_on(
    daemon: Daemon, hook: Destination, heap: Destination, end: str, kept: Sequence[bytes] = ()
) -> None:
    """See that relay goes on behind all offsets that were given. hook gets the `kept` events and later events, heap
    gets later events only, each once."""
    before = Counter(heap.bodies())
    new = await send(daemon, 1)
    journal = view_journal(daemon.state, daemon.state / "journal")
    offset = max(event.offset for _, block in journal.read() for event in block)
    assert offset == 20 if end == "stop" else offset >= 20 + LATE
    for connector, got in (("hook", len(kept) + 1), ("heap", 21)):
        ledger = await daemon.settled(connector, offset + 1)
        assert ledger.accepted == ledger.counts.delivered + ledger.counts.damaged
        assert ledger.counts.delivered == got
    assert Counter(hook.bodies()) == Counter([*kept, *new])
    assert Counter(heap.bodies()) - before == Counter(new)


async def assert_ended_by_accepting(daemon: Daemon) -> None:
    accepted = await run(daemon, "accept", "journal", "--yes")
    assert (accepted.exit_code, "what is lost stays lost\nthe journal is accepted" in accepted.output) == (0, True)
    for _ in range(2):  # also after a restart
        for command in ("status", "audit"):
            told = await run(daemon, command)
            assert told.exit_code == 0, told
        assert await daemon.stop() == 0
        await daemon.start()
    assert await daemon.stop() == 0


@pytest.mark.promise(2)
@pytest.mark.parametrize(
    ("how", "end"), [("older copy", "kill"), pytest.param("last segment removed", "stop", marks=pytest.mark.long)]
)
async def test_a_journal_without_its_end_goes_on_behind_it(daemon: Daemon, tmp_path: Path, how: str, end: str) -> None:
    async with Destination() as hook, Destination() as heap:
        kept = await run_into_loss(daemon, hook, heap, end, tmp_path / "copy")
        journal = daemon.state / "journal"
        if how == "older copy":
            shutil.rmtree(journal)
            shutil.copytree(tmp_path / "copy", journal)
        else:
            max(journal.glob("*.log")).unlink()
        lost = "of these, hook had not got 10 (10-19), heap had got all"
        before = await run(daemon, "doctor")
        assert f"offsets 10 to 19 are missing: the journal ends before them; {lost}" in before.stdout, before
        await daemon.start()
        await assert_goes_on(daemon, hook, heap, end, kept)
        await assert_told(daemon, "offsets 10 to 19 are missing", lost)
        await assert_ended_by_accepting(daemon)


@pytest.mark.parametrize(
    ("how", "end"),
    [
        pytest.param("segments removed", "kill", marks=pytest.mark.long),
        pytest.param("emptied", "stop", marks=pytest.mark.long),
        ("removed", "kill"),
    ],
)
async def test_a_lost_journal_goes_on_behind_all_offsets(daemon: Daemon, tmp_path: Path, how: str, end: str) -> None:
    """relay starts by itself only if the file `identity` is left."""
    async with Destination() as hook, Destination() as heap:
        await run_into_loss(daemon, hook, heap, end, tmp_path / "copy")
        journal = daemon.state / "journal"
        for path in journal.glob("*.log" if how == "segments removed" else "*"):
            path.unlink()
        if how == "removed":
            journal.rmdir()
        if how != "segments removed":
            await accept_empty_journal(daemon)
        await daemon.start()
        await assert_goes_on(daemon, hook, heap, end)
        lost = "of these, hook had not got 20 (0-19), heap had got all"
        await assert_told(daemon, "offsets 0 to 19 are missing", lost)
        await assert_ended_by_accepting(daemon)


async def accept_empty_journal(daemon: Daemon) -> None:
    """Start in vain, and accept that the journal is gone."""
    await daemon.launch()
    assert await daemon.ended() == 1
    assert "holds no journal, but relay.db belongs to one that has taken 20 events" in daemon.stderr[-1]
    accepted = await run(daemon, "accept", "journal", "--yes")
    assert accepted.exit_code == 0, accepted
    assert "of these, hook had not got 20 (0-19), heap had got all" in accepted.stdout
    assert "accepting makes an empty journal in " in accepted.stdout
    assert "is an empty journal now; once relay runs, relay status says what is lost" in accepted.stdout


async def test_an_older_copy_without_its_identity_goes_on_after_a_command(daemon: Daemon, tmp_path: Path) -> None:
    async with Destination() as hook, Destination() as heap:
        kept = await run_into_loss(daemon, hook, heap, "kill", tmp_path / "copy")
        journal = daemon.state / "journal"
        shutil.rmtree(journal)
        shutil.copytree(tmp_path / "copy", journal)
        (journal / "identity").unlink()
        await daemon.launch()
        assert await daemon.ended() == 1
        (_, _, command) = daemon.stderr[-1].partition("have connectors go on in it: echo ")
        identity, _, file = command.partition(";")[0].partition(" > ")
        Path(file).write_text(identity)
        await daemon.start()
        await assert_goes_on(daemon, hook, heap, "kill", kept)
        await assert_told(daemon, "at least offsets 10 to 19 are missing")
        assert await daemon.stop() == 0


async def test_an_older_copy_shows_even_if_nothing_was_saved_since(daemon: Daemon, tmp_path: Path) -> None:
    """relay.db knows of no event that the copy lacks."""
    async with Destination() as hook:
        daemon.configure("10-all", SOURCE + HOOK % hook.url)
        daemon.configure("15-metrics", METRICS)
        await daemon.start()
        await send(daemon, 10)
        await daemon.settled("hook", 10)
        assert await daemon.stop() == 0
        shutil.copytree(daemon.state / "journal", tmp_path / "copy")
        await daemon.start()
        with locked(daemon.state):
            await send(daemon, LATE)
            await daemon.kill()
        shutil.rmtree(daemon.state / "journal")
        shutil.copytree(tmp_path / "copy", daemon.state / "journal")
        await daemon.start()
        assert read_acknowledged(daemon.state) >= 10 + LATE
        await assert_told(daemon, "the journal is an older copy, and events from offset 10 on may be missing")
        await assert_ended_by_accepting(daemon)


async def test_a_worker_without_its_journal_goes_on_beside_the_others(daemon: Daemon) -> None:
    async with Destination() as hook:
        daemon.configure("10-all", SOURCE + HOOK % hook.url)
        daemon.configure("20-workers", "[runtime]\nworkers = 2")
        await start(daemon)
        mine = daemon.state / "workers" / "1"
        number = 0
        while not any(path.stat().st_size for path in mine.glob("journal/*.log")):
            await post(daemon, number)
            number += 1
        await daemon.settled("hook", number)
        await daemon.kill()
        shutil.rmtree(mine / "journal")
        accepted = await run(daemon, "accept", "journal", "--yes")
        assert (accepted.exit_code, f"{mine}/journal is an empty journal now" in accepted.stdout) == (0, True), accepted
        got = len(hook.bodies())
        await start(daemon)
        told = await until_status(daemon, 1, "are missing")
        assert re.search(r"journal of worker 1: (at least )?offsets 0 to ", told.stdout), told
        for later in range(number, number + 20):
            await post(daemon, later)
        await daemon.until(lambda: len(hook.bodies()), lambda now: now >= got + 20)
        assert len(hook.bodies()) == len(set(hook.bodies())) == got + 20
        assert (await run(daemon, "accept", "journal", "--yes")).exit_code == 0
        await until_status(daemon, 0)
        assert await daemon.stop() == 0
        assert (await run(daemon, "audit")).exit_code == 0


async def test_all_that_points_behind_the_end_goes_on(daemon: Daemon, tmp_path: Path) -> None:
    """Siblings: parked events, a replay with attempts, ids of duplicates, the search for erasures, a range settled
    ahead."""
    async with Destination() as hook, Destination() as heap:
        daemon.configure("10-all", SOURCE + 'dedupe = "1h"\n' + HOOK % hook.url + HEAP % heap.url)
        daemon.configure("20-erasure", f'[erasure]\non = ["{DELETION}"]\nafter = "300ms"')
        daemon.configure("15-metrics", METRICS)
        await daemon.start()
        kept = await send(daemon, 10)
        await daemon.settled("hook", 10)
        await daemon.settled("heap", 10)
        assert await daemon.stop() == 0
        shutil.copytree(daemon.state / "journal", tmp_path / "copy")
        await daemon.start()
        lost = await park_and_replay(daemon, hook, heap)
        await daemon.kill()
        with closing(sqlite3.connect(daemon.state / "relay.db")) as db, db:
            db.execute("UPDATE cursor SET position = 5, ahead = '[[12, 20]]', delivered = 13 WHERE connector = 'heap'")
        shutil.rmtree(daemon.state / "journal")
        shutil.copytree(tmp_path / "copy", daemon.state / "journal")
        hook.behaviour = heap.behaviour = 200
        await daemon.start()
        head = read_acknowledged(daemon.state)
        (done,) = await daemon.until(lambda: daemon.logged("replay is done"), bool)
        assert (done["delivered"], done["damaged"]) == (10, 10)
        await assert_told(daemon, "of these, heap had not got 2 (10-11), hook had got all")
        assert (await daemon.run("parked", "replay", "--connector", "hook")).returncode == 0
        await daemon.until(lambda: Counter(hook.bodies()), lambda got: got == Counter([*kept, *lost]))
        body = b'{"events":[%s]}' % b",".join([*lost, make_event(DELETION)])
        assert await daemon.post(body) == (202, {"accepted": 11, "parked": 0, "duplicates": 0})
        await daemon.until(
            lambda: FolderErasures(daemon.state).read(), lambda found: bool(found and found[0].compacted)
        )
        for connector in ("hook", "heap"):
            await daemon.settled(connector, head + 11)
        assert "The counts of all connectors balance." in (await run(daemon, "audit")).stdout
        assert await daemon.stop() == 0


async def park_and_replay(daemon: Daemon, hook: Destination, heap: Destination) -> list[bytes]:
    """Send ten events that hook refuses, and begin a replay that heap does not take; return the events."""
    hook.behaviour = 400
    events = await send(daemon, 10)
    await daemon.settled("hook", 20)
    await daemon.settled("heap", 20)
    heap.behaviour = 503
    assert (await run(daemon, "replay", "--connector", "heap", "--detach", "--yes")).exit_code == 0
    await daemon.until(lambda: FolderReplays(daemon.state).read(), lambda found: found[0].status == "running")
    return events
