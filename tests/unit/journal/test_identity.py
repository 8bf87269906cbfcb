"""Which journal belongs to which database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.api import Kind, User
from relay.cli.main import relay as command
from relay.journal.identity import ANY, FILE_NAME, KnownJournal, OtherJournal
from relay.journal.journal import Journal
from relay.state.attempts import find_attempts_at
from relay.state.damage import was_damaged
from relay.state.database import StateDatabase
from relay.state.erasure.table import FolderErasures, add_counts, read_watch_position, save_watch
from relay.state.journal_state import FolderDoubts
from relay.state.open_folder import open_both
from relay.state.replays import FolderReplays
from relay.store import Attempts, Counts, Cursor, Damage, Parked, Replay
from relay.store.log import JournalLimits
from tests.parked import list_parked
from tests.unit.state.older import AS_VERSION_9

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(1 << 30, 3600)
PATH = Path("journal")


async def run(state: Path, events: int, path: Path = PATH) -> tuple[KnownJournal | None, int | None]:
    """Start, take events, stop; return what the database knew at the start, and where "now" was."""
    journal, base = open_both(state, state / path, 0, LIMITS, 1 << 20)
    try:
        for _ in range(events):
            await journal.append([KIND], [b"{}"])
        await base.save({"it": Cursor(0, 1, [], Counts(delivered=1))}, journal.head)
    finally:
        await journal.close()
        base.close()
    return base.known, base.now


async def test_a_database_knows_its_journal_from_the_first_start_on(tmp_path: Path) -> None:
    assert (await run(tmp_path, 5))[0] is None
    known, now = await run(tmp_path, 0)
    assert known is not None
    assert (known.identity, known.head, now) == ((tmp_path / "journal" / FILE_NAME).read_text().strip(), 5, 5)
    assert FolderDoubts(tmp_path, PATH).find() == []


@pytest.mark.parametrize("place", ["nothing", "an empty folder", "another journal"])
async def test_a_journal_that_is_elsewhere_for_a_while_is_refused_and_untouched(tmp_path: Path, place: str) -> None:
    """Siblings: journal.path leads to nothing, to an empty folder (an unmounted disk), to another journal; and back."""
    state = tmp_path / "state"
    await run(state, 5)
    (state / "journal").rename(tmp_path / "away")
    if place == "an empty folder":
        (state / "journal").mkdir()
    if place == "another journal":
        other = Journal(state / "journal", LIMITS, 0)
        await other.append([KIND], [b"{}"])
        await other.close()
    before = sorted(path.name for path in (state / "journal").glob("*"))
    with pytest.raises(OtherJournal, match="relay accept journal"):
        await run(state, 1)
    assert {*before} <= {path.name for path in (state / "journal").glob("*")} <= {*before, "lock"}
    assert [one.what for one in FolderDoubts(state, PATH).find()] == ["journal"]
    for path in (state / "journal").glob("*"):
        path.unlink()
    if place != "nothing":
        (state / "journal").rmdir()
    (tmp_path / "away").rename(state / "journal")
    known, now = await run(state, 1)
    assert known is not None
    assert (known.head, now) == (5, 5)


async def test_all_events_of_an_accepted_journal_count_as_new(tmp_path: Path) -> None:
    await run(tmp_path, 5)
    (tmp_path / "journal").rename(tmp_path / "away")
    await run(tmp_path / "beside", 3)
    (tmp_path / "beside" / "journal").rename(tmp_path / "journal")
    answer = CliRunner().invoke(command, ["accept", "journal", "--state", str(tmp_path)], "n\n")
    assert answer.exit_code == 1
    assert "accepting this journal has every connector get all events of it\nAccept the journal? [y/N]" in answer.output
    FolderDoubts(tmp_path, PATH).accept("journal")
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, LIMITS, 0)
    assert await journal.append([KIND], [b"{}"]) > 5  # no offset is given twice, even if relay.db is a moment old
    assert await state.load_cursor("it") is None
    assert state.now == 0  # every connector gets all of it
    await journal.close()
    state.close()


async def test_an_accepted_journal_inherits_nothing_from_the_one_before(tmp_path: Path) -> None:
    """Siblings: parked events, a replay, attempts, damage, the count of an erasure, the place of the erasure watch."""
    await run(tmp_path, 5)
    FolderErasures(tmp_path).ask(User("anna"))
    FolderReplays(tmp_path).ask(Replay("it", Cursor(0, 0), 5))
    state = StateDatabase(tmp_path)
    tried = Attempts("it", 0, [(0, 5)], 3, "delivered", "busy", 1.0, 2.0)
    await state.save({}, 5, attempts=[tried], damage=[Damage(0, 5, "1.log", "bad record", 9)])
    await state.park([Parked("braze", "it", 3, KIND.type, "rejected", "no", 1, b"{}")])
    await state.run(lambda db: (save_watch(db, 5, (), ()), add_counts(db, {"events": {1: 2}}, until=5)))
    state.close()
    (tmp_path / "journal").rename(tmp_path / "away")
    await run(tmp_path / "beside", 3)
    (tmp_path / "beside" / "journal").rename(tmp_path / "journal")
    FolderDoubts(tmp_path, PATH).accept("journal")
    assert [(one.offset, one.body) for one in list_parked(tmp_path)] == [(-1, b"{}")]  # no offset of the new journal
    assert [one.status for one in FolderReplays(tmp_path).read()] == ["cancelled"]
    assert (find_attempts_at(tmp_path, 0), was_damaged(tmp_path, 0)) == ([], False)
    assert [one.counted for one in FolderErasures(tmp_path).read()] == [0]
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        assert read_watch_position(db) == 0


async def test_a_removed_journal_id_is_written_again_if_the_database_agrees(
    tmp_path: Path,
) -> None:
    await run(tmp_path, 5)
    file = tmp_path / "journal" / FILE_NAME
    identity = file.read_text()
    file.unlink()
    await run(tmp_path, 1)
    assert file.read_text() == identity
    file.unlink()
    next((tmp_path / "journal").glob("*5.log")).unlink()
    with pytest.raises(OtherJournal, match="up to 5"):
        await run(tmp_path, 1)


@pytest.mark.parametrize("how", ["gone", "empty", "without a row"])
async def test_a_database_without_the_journal_is_a_doubt_until_accepted(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await run(tmp_path, 5)
    database = tmp_path / "relay.db"
    if how == "without a row":
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("DELETE FROM journal_state")
    else:
        database.unlink()
    if how == "empty":
        database.touch()
    assert [one.what for one in FolderDoubts(tmp_path, PATH).find()] == ["journal"]
    with pytest.raises(OSError, match=r"relay\.db cannot note that: start relay"):
        FolderDoubts(tmp_path, PATH).accept("journal")
    assert [one.what for one in FolderDoubts(tmp_path, PATH).find()] == ["journal"]
    for _ in range(2):
        known, now = await run(tmp_path, 0)
        assert [one.what for one in FolderDoubts(tmp_path, PATH).find()] == ["journal"]
    assert capsys.readouterr().out.count("relay.db does not know the journal") == 1
    assert (known is not None, now) == (True, 0)
    assert (
        "parked events, pauses and replays of the old relay.db are not in the new one; no event of the journal is"
        in FolderDoubts(tmp_path, PATH).find()[0].said
    )
    assert (
        FolderDoubts(tmp_path, PATH).describe_accepting("journal").startswith("accepting the journal ends this warning")
    )
    FolderDoubts(tmp_path, PATH).accept("journal")
    assert FolderDoubts(tmp_path, PATH).find() == []


async def test_a_database_that_knows_no_journal_forgets_positions_in_another(tmp_path: Path) -> None:
    await run(tmp_path, 5)
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db, db:
        db.execute("DELETE FROM journal_state")
        db.execute("UPDATE cursor SET position = 900, head = 900")
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, LIMITS, 0)
    assert await state.load_cursor("it") is None
    await journal.close()
    state.close()


async def test_a_failure_of_one_worker_stops_no_acceptance_by_the_others(tmp_path: Path) -> None:
    """Siblings: the first worker's database is gone, another's knows nothing; a worker that has only its lock; the
    clock."""
    for folder in (tmp_path, tmp_path / "workers" / "1"):
        await run(folder, 5)
        (folder / "relay.db").unlink()
    (tmp_path / "workers" / "2").mkdir()
    (tmp_path / "workers" / "2" / "lock").touch()
    await run(tmp_path / "workers" / "1", 0)
    assert [one.worker for one in FolderDoubts(tmp_path, PATH).find()] == [0, 1]
    with pytest.raises(OSError, match=r"relay\.db cannot note that"):
        FolderDoubts(tmp_path, PATH).accept("journal")
    assert [one.worker for one in FolderDoubts(tmp_path, PATH).find()] == [0]
    FolderDoubts(tmp_path, PATH).accept("clock")
    await run(tmp_path, 0)
    FolderDoubts(tmp_path, PATH).accept("journal")
    assert FolderDoubts(tmp_path, PATH).find() == []


async def test_a_new_connector_begins_with_events_unknown_to_an_older_database(tmp_path: Path) -> None:
    """Siblings: a database that is gone (0), one copied without its -wal or from a backup (what it knew)."""
    await run(tmp_path, 5)
    older = (tmp_path / "relay.db").read_bytes()
    await run(tmp_path, 5)
    (tmp_path / "relay.db").write_bytes(older)
    assert (await run(tmp_path, 0))[1] == 5
    (tmp_path / "relay.db").unlink()
    assert (await run(tmp_path, 0))[1] == 0


async def test_a_state_folder_of_an_older_relay_opens_and_is_no_doubt(tmp_path: Path) -> None:
    await run(tmp_path, 5)
    (tmp_path / "journal" / FILE_NAME).unlink()
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db, db:
        db.executescript(f"{AS_VERSION_9} DROP TABLE journal_state; DROP TABLE pause; PRAGMA user_version = 5;")
    known, now = await run(tmp_path, 1)
    assert known is not None
    assert (known.identity, known.head, now) == (ANY, 5, 5)
    assert FolderDoubts(tmp_path, PATH).find() == []
    known, _ = await run(tmp_path, 1)
    assert known is not None
    assert known.identity == (tmp_path / "journal" / FILE_NAME).read_text().strip()


async def test_a_state_folder_that_only_had_tables_is_known(tmp_path: Path) -> None:
    """An older relay without connectors has saved no head."""
    journal = Journal(tmp_path / "journal", LIMITS, 0)
    await journal.append([KIND], [b"{}"])
    await journal.close()
    StateDatabase(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db, db:
        db.executescript(f"{AS_VERSION_9} DROP TABLE journal_state; DROP TABLE pause; PRAGMA user_version = 5;")
    assert (await run(tmp_path, 0))[1] == 1
    assert FolderDoubts(tmp_path, PATH).find() == []


async def test_a_lost_database_has_connectors_begin_at_the_oldest_event(
    tmp_path: Path,
) -> None:
    """Siblings: at that start, at a later one, by a reload; after the acceptance "now" is now again."""
    await run(tmp_path, 5)
    (tmp_path / "relay.db").unlink()
    for _ in range(3):
        assert (await run(tmp_path, 1))[1] == 0
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, LIMITS, 0)
    await state.read_accepted()
    assert state.now == 0
    FolderDoubts(tmp_path, PATH).accept("journal")
    await state.read_accepted()
    assert state.now is None
    await journal.close()
    state.close()
    assert (await run(tmp_path, 0))[1] == 8


@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_a_database_older_than_its_journal_is_a_doubt_until_accepted(
    tmp_path: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Siblings: an old copy put back after a clean stop, and after a crash, where the last second is no news."""
    await run(tmp_path, 5)
    older = (tmp_path / "relay.db").read_bytes()
    await run(tmp_path, 5)
    (tmp_path / "relay.db").write_bytes(older)
    if end == "crash":
        (tmp_path / "journal" / "end").unlink()
        with closing(sqlite3.connect(tmp_path / "relay.db")) as db, db:
            db.execute("UPDATE journal_state SET time = time - 100")
    else:
        assert [one.what for one in FolderDoubts(tmp_path, PATH).find()] == ["journal"]
    for _ in range(2):
        assert (await run(tmp_path, 0))[1] == 5
        (doubt,) = FolderDoubts(tmp_path, PATH).find()
        assert "has not heard of the last 5 events" in doubt.said
    assert capsys.readouterr().out.count("relay.db is older than the journal advice") == 1
    FolderDoubts(tmp_path, PATH).accept("journal")
    assert ((await run(tmp_path, 0))[1], FolderDoubts(tmp_path, PATH).find()) == (10, [])


async def test_a_crash_before_the_last_save_is_no_old_copy(tmp_path: Path) -> None:
    await run(tmp_path, 5)
    older = (tmp_path / "relay.db").read_bytes()
    await run(tmp_path, 5)
    (tmp_path / "relay.db").write_bytes(older)
    (tmp_path / "journal" / "end").unlink()
    await run(tmp_path, 0)
    assert FolderDoubts(tmp_path, PATH).find() == []


async def lose_journal(state: Path) -> None:
    """Take five events, and lose the journal."""
    await run(state, 5)
    (state / "journal").rename(state / "away")


async def test_an_accepted_empty_journal_keeps_positions_and_repeats_no_offset(tmp_path: Path) -> None:
    await lose_journal(tmp_path)
    assert FolderDoubts(tmp_path, PATH).describe_accepting("journal").startswith("accepting makes an empty journal in ")
    (said,) = FolderDoubts(tmp_path, PATH).accept("journal")
    assert said.startswith(f"{tmp_path / 'journal'} is an empty journal now")
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, LIMITS, 0)
    assert await journal.append([KIND], [b"{}"]) > 5  # relay.db may be a moment old
    assert await state.load_cursor("it") == Cursor(0, 1, [], Counts(delivered=1))
    assert state.now == journal.head - 1  # a new connector has lost nothing
    await journal.close()
    state.close()


async def test_another_journal_is_refused_in_place_of_an_accepted_empty_one(tmp_path: Path) -> None:
    await lose_journal(tmp_path)
    FolderDoubts(tmp_path, PATH).accept("journal")
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    (tmp_path / "journal").rmdir()
    await run(tmp_path / "beside", 9)
    (tmp_path / "beside" / "journal").rename(tmp_path / "journal")
    with pytest.raises(OtherJournal, match="another journal, with offsets from 0 up to 9"):
        await run(tmp_path, 1)


async def test_a_lost_journal_that_is_found_again_goes_on_without_loss(tmp_path: Path) -> None:
    await lose_journal(tmp_path)
    FolderDoubts(tmp_path, PATH).accept("journal")
    (tmp_path / "journal" / FILE_NAME).unlink()
    (tmp_path / "journal").rmdir()
    (tmp_path / "away").rename(tmp_path / "journal")
    known, now = await run(tmp_path, 1)
    assert known is not None
    assert (known.head, now, FolderDoubts(tmp_path, PATH).find()) == (5, 5, [])


async def test_another_journal_cannot_be_accepted_while_relay_runs(tmp_path: Path) -> None:
    await run(tmp_path, 5)
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, LIMITS, 0)
    (tmp_path / "journal").rename(tmp_path / "away")
    with pytest.raises(OSError, match="not the journal with which relay runs: stop relay"):
        FolderDoubts(tmp_path, PATH).accept("journal")
    assert not (tmp_path / "journal").exists()
    await journal.close()
    state.close()


async def start_and_die(state: Path) -> int:
    """Open a state folder as after `kill -9`, and die again before any event; return the head."""
    (state / "journal" / "end").unlink(missing_ok=True)
    journal, base = open_both(state, state / "journal", 0, LIMITS, 0)
    await journal.close()
    base.close()
    (state / "journal" / "end").unlink()
    return journal.head


async def test_a_loss_is_in_the_database_before_the_journal_hides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """relay dies between the two: the loss is told, and the next start gives no offset twice."""
    await lose_journal(tmp_path)
    FolderDoubts(tmp_path, PATH).accept("journal")
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "fill_hole", lambda _: None)
        head = await start_and_die(tmp_path)
    assert not [*(tmp_path / "journal").glob("*.log")]
    (doubt, damage) = FolderDoubts(tmp_path, PATH).find()
    assert ("offsets 0 to 4 are missing" in doubt.said, damage.is_damage) == (True, True)
    assert await start_and_die(tmp_path) >= head


async def test_a_lost_end_is_told_once_and_later_starts_know_the_head(tmp_path: Path) -> None:
    await lose_journal(tmp_path)
    FolderDoubts(tmp_path, PATH).accept("journal")
    head = await start_and_die(tmp_path)
    assert [one.is_damage for one in FolderDoubts(tmp_path, PATH).find()] == [False, True]
    FolderDoubts(tmp_path, PATH).accept("journal")
    assert await start_and_die(tmp_path) == head
    assert FolderDoubts(tmp_path, PATH).find() == []
