"""A machine's clock that jumps: nothing that goes by age is gone for it, and nothing waits for ever."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.api import Kind
from relay.config.model import ErasureSettings
from relay.deliver.fleet import Fleet
from relay.erasure.eraser import Eraser
from relay.journal.journal import Journal
from relay.journal.retention import choose_expendable
from relay.journal.seen_ids import Seen
from relay.journal.segment import Segment
from relay.state.database import StateDatabase
from relay.state.erasure.table import FolderErasures
from relay.state.journal_state import FolderDoubts
from relay.state.open_folder import open_both
from relay.store import Cursor, Parked, ParkedLimits
from relay.store.clock import DAY_S, Clock
from relay.store.log import JournalLimits

YEAR_S = 365 * DAY_S
NOON = 1_800_000_000.0
KIND = Kind("braze", "users.messages.email.Open")


class Machine:
    """A machine that was started an hour ago, at noon by its clock."""

    def __init__(self) -> None:
        self.wall, self.up = NOON, 3600.0

    def passes(self, seconds: float) -> None:
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def clock(self, newest: float | None = None) -> Clock:
        return Clock(newest, lambda: self.wall, lambda: self.up)


def test_the_clock_is_the_machines_time_while_it_agrees_with_the_uptime() -> None:
    machine = Machine()
    clock = machine.clock(NOON - 60)
    for seconds in (1, DAY_S * 30, 0.5):
        machine.passes(seconds)
        assert (clock.now(), clock.read_steady(), clock.ahead) == (machine.wall, machine.wall, 0)


@pytest.mark.parametrize("jump", [2 * DAY_S, YEAR_S, 300 * YEAR_S])
def test_a_jump_ahead_does_not_count_and_is_told_once(jump: float) -> None:
    machine = Machine()
    clock = machine.clock(NOON - 60)
    machine.wall += jump
    with capture_logs() as lines:
        for _ in range(3):
            machine.passes(10)
            assert (clock.now(), clock.ahead) == (machine.wall - jump, jump)
        machine.wall -= jump
        assert (clock.now(), clock.ahead) == (machine.wall, 0)
    assert [line["event"] for line in lines] == ["the clock is ahead", "the clock is right again"]


def test_a_clock_that_goes_back_and_comes_right_again_is_followed() -> None:
    machine = Machine()
    clock = machine.clock(NOON - 60)
    machine.wall -= YEAR_S
    assert (clock.now(), clock.read_steady()) == (NOON - YEAR_S, NOON)
    machine.wall += YEAR_S
    machine.passes(5)
    assert (clock.now(), clock.ahead) == (NOON + 5, 0)


@pytest.mark.parametrize(
    ("away", "up", "ahead"),
    [
        (DAY_S / 2, 60, 0),  # stopped for half a day, the machine was off
        (3 * DAY_S, 4 * DAY_S, 0),  # stopped for three days, the machine was on
        (3 * DAY_S, 60, 3 * DAY_S),  # the machine was off for three days, or its clock is three days ahead
        (YEAR_S, 3600, YEAR_S),
        (-YEAR_S, 3600, 0),  # a battery that is dead
    ],
)
def test_at_a_start_it_is_compared_with_the_newest_time_that_is_known(away: float, up: float, ahead: float) -> None:
    machine = Machine()
    machine.up = up
    clock = machine.clock(NOON - away)
    assert (clock.now(), clock.ahead) == (NOON - ahead, ahead)


def test_an_admin_says_that_it_is_right() -> None:
    machine = Machine()
    clock = machine.clock(NOON - YEAR_S)
    assert clock.ahead
    clock.accept(NOON)
    assert (clock.now(), clock.ahead) == (NOON, 0)


def test_a_segment_from_the_future_does_not_keep_the_segments_behind_it(tmp_path: Path) -> None:
    times = [NOON, NOON + YEAR_S, NOON + 20, NOON + 30]
    old = [Segment(tmp_path / str(n), n, n + 1, 100, at) for n, at in enumerate(times)]
    found = choose_expendable(old, JournalLimits(1000, 60.0), keep=4, replay_floor=4, now=NOON + 100, lacking=0)
    assert [one.base for one in found] == [0, 1, 2]


async def test_segments_outlive_a_jump_and_leave_by_the_uptime(tmp_path: Path) -> None:
    """Looked at as well: ids and erasures (below), parked events (test_retention.py); room is no age."""
    machine = Machine()
    machine.wall = time.time()
    journal = Journal(tmp_path, JournalLimits(16 << 20, 60.0), 1 << 20, clock=machine.clock(machine.wall))
    for _ in range(3):
        await journal.append([KIND], [b'{"x":"%s"}' % (b"y" * 700_000)])
    machine.wall += YEAR_S
    await journal.keep(journal.head)
    assert journal.oldest == 0
    machine.wall -= YEAR_S
    machine.passes(3600)
    await journal.keep(journal.head)
    assert journal.oldest == 2
    await journal.close()


async def test_ids_of_events_outlive_a_jump_and_back(tmp_path: Path) -> None:
    machine = Machine()
    seen = Seen(tmp_path / "seen", "braze", 3600.0, machine.clock(NOON).read_steady)
    await seen.note(["before"])
    for jump in (YEAR_S, -YEAR_S, -YEAR_S, YEAR_S):
        machine.wall += jump
        machine.passes(1)
        await seen.note([f"{jump}"])
    assert "before" in await seen.find(["before", "other"])
    await seen.close()


async def test_an_erasure_waits_its_time_whatever_the_clock_says(tmp_path: Path) -> None:
    """Siblings: a clock that jumps ahead after the request, and a request while the clock was ahead."""
    machine = Machine()
    journal = Journal(tmp_path / "journal", JournalLimits(1 << 30, 3600), 0, clock=machine.clock(NOON))
    state = StateDatabase(tmp_path)
    eraser = Eraser(Fleet(journal, state, tmp_path), journal, state, ErasureSettings.model_validate({"after": "1h"}))
    await state.run(lambda db: ask_at(db, NOON))
    machine.wall += YEAR_S
    await eraser.erase_due([])
    assert FolderErasures(tmp_path).read()[0].compacted is None
    machine.wall -= YEAR_S
    await state.run(lambda db: ask_at(db, NOON + YEAR_S))
    await eraser.erase_due([])
    assert [one.asked for one in FolderErasures(tmp_path).read()] == [NOON, NOON]
    machine.passes(3601)
    await eraser.erase_due([])
    assert all(one.compacted for one in FolderErasures(tmp_path).read())
    await journal.close()
    state.close()


def ask_at(db: sqlite3.Connection, at: float) -> None:
    db.execute("INSERT INTO erasure (asked, user_id, external_ids, digests) VALUES (?, 'u', '[]', '[]')", (at,))


async def test_a_doubt_outlives_a_restart_and_ends_when_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written meanwhile, with the wrong time, makes the clock no more credible at the next start."""
    limits = JournalLimits(1 << 30, 3600)
    machine = Machine()
    monkeypatch.setattr("relay.store.clock.read_uptime", lambda: machine.up)
    monkeypatch.setattr("time.time", lambda: machine.wall)
    monkeypatch.setattr("time.time_ns", lambda: int(machine.wall * 1e9))

    async def run() -> float:
        journal, state = open_both(tmp_path, tmp_path / "journal", 0, limits, 0)
        await journal.append([KIND], [b"{}"])
        await state.save({"it": Cursor(0, 1)}, journal.head)
        await journal.close()
        state.close()
        return journal.clock.ahead

    assert await run() == 0
    machine.wall += YEAR_S
    for _ in range(2):
        machine.passes(60)
        assert await run() == pytest.approx(YEAR_S, abs=1000)
        assert [one.what for one in FolderDoubts(tmp_path, Path("journal")).find()] == ["clock"]
    FolderDoubts(tmp_path, Path("journal")).accept("clock")
    assert FolderDoubts(tmp_path, Path("journal")).find() == []
    assert await run() == 0
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        assert db.execute("SELECT time FROM journal_state").fetchone() == (machine.wall,)


async def test_what_a_distrusted_clock_has_stamped_ages_from_the_acceptance_on(tmp_path: Path) -> None:
    """A machine whose clock was in 1970 until it was right, and accepted. Siblings: parked events, segments."""
    machine = Machine()
    now, machine.wall = machine.wall, 1000.0
    clock = machine.clock()
    old = machine.wall
    machine.wall = now
    assert clock.now(DAY_S) < now
    clock.accept(now, now)
    assert (clock.now(), clock.ahead) == (now, 0)
    segments = [Segment(tmp_path, n, n + 1, 1, old) for n in range(3)]
    for passed, going in ((0, 0), (DAY_S - 10, 0), (20, 2)):
        machine.passes(passed)
        assert len(choose_expendable(segments, JournalLimits(1 << 30, DAY_S), 9, 9, clock.now(DAY_S), 0)) == going


async def test_accepting_the_clock_removes_no_parked_events_at_once(tmp_path: Path) -> None:
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, JournalLimits(1 << 30, 3600), 0)
    state.parked_limits = ParkedLimits(retention=DAY_S)
    await state.park([Parked("in", "hook", 0, "a.b", "refused", "HTTP 422", 1, b"{}")])
    await state.run(lambda db: db.execute("UPDATE parked SET first = 1000, last = 1000").close())
    FolderDoubts(tmp_path, Path("journal")).accept("clock")
    await state.read_accepted()
    assert not await state.remove_parked()
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db, db:
        db.execute("UPDATE journal_state SET accepted = accepted - ?", (DAY_S + 60,))
    await state.read_accepted()
    assert await state.remove_parked()
    await journal.close()
    state.close()
