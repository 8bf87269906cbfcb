"""What is copied into a backup, and again; what is refused; what a restored one is."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.api import Kind
from relay.cli.main import relay
from relay.config.model import Config, JournalSettings
from relay.engine import open_store
from relay.inspect import backup
from relay.inspect.backup import Backup, back_up, read_backup
from relay.inspect.restore import restore
from relay.journal.end_marker import End, read_end
from relay.journal.identity import OtherJournal, read_identity
from relay.journal.journal import Journal
from relay.journal.lock import lock
from relay.journal.outside.inspected import inspect_all
from relay.journal.segment import find_end
from relay.runtime.partitions import Partitions
from relay.runtime.process import StartError
from relay.state.journal_state import FolderDoubts
from relay.state.layout import advise_on_restore
from relay.state.open_folder import open_both
from relay.store import Counts, Cursor, Unavailable
from relay.store.log import JournalLimits

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(1 << 30, 3600)
PATH = Path("journal")


async def run(state: Path, events: int = 5, settled: int = 0) -> tuple[int, Cursor | None]:
    """Start, take events, stop: that makes a segment. Return the head and the cursor there were at the start."""
    journal, base = open_both(state, state / PATH, 0, LIMITS, 1 << 20)
    head, cursor = journal.head, await base.load_cursor("it")
    for number in range(events):
        await journal.append([KIND], [b'{"n":%d}' % number])
    await base.save({"it": Cursor(0, settled, [], Counts(delivered=settled))}, journal.head)
    await journal.close()
    base.close()
    return head, cursor


class Files:
    """Hears which files are copied."""

    def __init__(self, work: Callable[[Path], object] = lambda path: None) -> None:
        self.copied: list[str] = []
        self.there: list[str] = []
        self._work = work

    def __call__(self, path: Path, is_copied: bool) -> None:
        (self.copied if is_copied else self.there).append(path.name)
        self._work(path)


def back(state: Path, target: Path, files: Files | None = None) -> tuple[Backup, list[str]]:
    return back_up(state, PATH, target, files or Files())


def name(base: int) -> str:
    return f"{base:020d}.log"


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """Three segments of five events."""
    for _ in range(3):
        await run(tmp_path / "state", settled=2)
    return tmp_path / "state"


async def test_a_backup_copies_new_segments_and_removes_expired_segments(state: Path, tmp_path: Path) -> None:
    """Siblings: an open segment with a record that is not whole; a database of a connector; ids by which duplicates are
    told; a segment that was written anew (an erasure); one that is gone; what a killed try has left."""
    (state / "cohorts").mkdir()
    (state / "seen").mkdir()
    for place in ("cohorts/vip.db", "seen/braze.1.db", "mine.db"):
        with closing(sqlite3.connect(state / place)) as db, db:
            db.execute("CREATE TABLE member (id)")
    (state / "cohorts" / "notes.db").write_text("no database")
    target, files = tmp_path / "backup", Files()
    found, problems = back(state, target, files)
    assert (found.complete, found.events, problems, files.there) == (True, 15, [], [])
    assert files.copied == [name(0), name(5), name(10), "mine.db", "vip.db"]
    assert not (target / "seen").exists()

    journal, base = open_both(state, state / PATH, 0, LIMITS, 1 << 20)
    await journal.append([KIND], [b"{}"])
    torn = state / PATH / name(15)
    with torn.open("r+b") as file:
        file.seek(find_end(torn).used)
        file.write(b"half a record")
    (state / PATH / name(0)).unlink()
    anew = state / PATH / name(5)
    data = anew.read_bytes()
    anew.unlink()
    anew.write_bytes(data)
    (target / PATH / f"{name(0)}.fresh").write_bytes(b"left")
    found, problems = back(state, target, files := Files())
    assert files.copied == [
        name(5),
        name(10),
        name(15),
        "mine.db",
        "vip.db",
    ]  # the start has cut what was the newest segment
    assert (found.workers[0].oldest, found.workers[0].head, problems) == (5, 16, [])
    assert sorted(path.name for path in (target / PATH).glob("*.log*")) == [name(5), name(10), name(15)]
    assert all(one.condition in ("good", "open") for one in inspect_all(target / PATH, 16))
    (state / "mine.db").unlink()
    back(state, target, files := Files())
    assert not (target / "mine.db").exists()
    assert (files.copied, files.there) == (["vip.db"], [name(5), name(10), name(15)])
    await journal.close()
    base.close()


@pytest.mark.parametrize(("settled", "passes"), [(7, 2), (12, 1)])
async def test_needed_events_that_expire_during_a_backup_cause_another_pass(
    state: Path, tmp_path: Path, settled: int, passes: int
) -> None:
    """Else the copy's database needs events that the copy lacks."""
    await run(state, 0, settled)

    def remove(path: Path) -> None:
        for base in (0, 5):
            (state / PATH / name(base)).unlink(missing_ok=True)

    found, problems = back(state, tmp_path / "backup", files := Files(remove))
    assert [*files.copied, *files.there] == [name(0), *[name(10)] * passes]
    assert (found.workers[0].oldest, found.workers[0].head, problems) == (10, 15, [])


async def test_a_wrong_copy_is_removed_and_copied_again_by_the_next_backup(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    back(state, target)
    copy = target / PATH / name(5)
    about = copy.stat()
    copy.write_bytes(copy.read_bytes()[:-1] + b"?")
    os.utime(copy, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(OSError, match="is not what was copied"):
        back(state, target)
    assert not read_backup(target).complete
    with pytest.raises(OSError, match="is not complete"):
        restore(target, tmp_path / "restored", PATH, Files())
    found, problems = back(state, target, files := Files())
    assert (found.complete, problems, files.copied) == (True, [], [name(5)])


async def test_damage_in_the_journal_itself_is_copied_and_told(state: Path, tmp_path: Path) -> None:
    path = state / PATH / name(5)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    found, (problem,) = back(state, tmp_path / "backup")
    assert (found.complete, problem.startswith(f"{path}: damaged at byte")) == (True, True)
    _, (problem,) = restore(tmp_path / "backup", tmp_path / "restored", PATH, Files())
    assert problem.startswith(f"{tmp_path / 'restored' / PATH / name(5)}: damaged at byte")
    assert (tmp_path / "restored" / PATH / name(5)).read_bytes() == path.read_bytes()


async def test_what_is_no_place_for_a_backup_is_refused_and_stays_as_it_is(state: Path, tmp_path: Path) -> None:
    """Siblings: inside the state folder; around it; something else is there; another journal's; a journal that is away;
    no state folder."""
    for target in (state / "backup", tmp_path):
        with pytest.raises(OSError, match="lie in one another"):
            back(state, target)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(OSError, match="holds no backup"):
        back(state, tmp_path / "mine")
    await run(tmp_path / "other")
    back(tmp_path / "other", tmp_path / "backup")
    with pytest.raises(OSError, match="holds the backup of another journal"):
        back(state, tmp_path / "backup")
    shutil.rmtree(tmp_path / "other" / PATH)
    with pytest.raises(OSError, match="there is no journal"):
        back(tmp_path / "other", tmp_path / "backup")
    (tmp_path / "other" / PATH).mkdir()
    with pytest.raises(OSError, match=r"holds no journal, but relay\.db belongs to one"):
        back(tmp_path / "other", tmp_path / "backup")
    with pytest.raises(Unavailable, match="no relay has run"):
        back(tmp_path / "nowhere", tmp_path / "fresh")
    assert read_backup(tmp_path / "backup").events == 5
    assert not (tmp_path / "fresh").exists()


async def test_a_restored_backup_is_a_new_journal_and_starts_without_doubts(state: Path, tmp_path: Path) -> None:
    """Siblings: cursors, cuts, databases of connectors; a backup that is old; `journal.path` elsewhere; the original's
    database beside the restored journal."""
    identity = read_identity(state / PATH)
    (state / "cuts").mkdir()
    (state / "cuts" / "it").write_text(f"relay cuts 1 {identity}\nline\n")
    (state / "cohorts").mkdir()
    with closing(sqlite3.connect(state / "cohorts" / "vip.db")) as db, db:
        db.execute("CREATE TABLE member (id)")
    back(state, tmp_path / "backup")
    with closing(sqlite3.connect(tmp_path / "backup" / "relay.db")) as db, db:
        db.execute("UPDATE journal_state SET time = 1e9")
    for path in (tmp_path / "backup" / PATH).glob("*.log"):
        os.utime(path, (1e9, 1e9))
    restored, elsewhere = tmp_path / "restored", tmp_path / "disk" / "journal"
    restore(tmp_path / "backup", restored, elsewhere, Files())
    fresh = read_identity(elsewhere)
    assert fresh not in (None, identity)
    assert (restored / "cuts" / "it").read_text() == f"relay cuts 1 {fresh}\nline\n"
    assert (restored / "cohorts" / "vip.db").exists()
    assert FolderDoubts(restored, elsewhere).find() == []
    journal, base = open_both(restored, elsewhere, 0, LIMITS, 1 << 20)
    assert (journal.head, journal.problem, journal.clock.ahead, base.clock.ahead) == (15, "", 0, 0)
    await base.read_accepted()
    assert base.clock.now(86400) < time.time()  # what was stamped before ages from now on
    assert await base.load_cursor("it") == Cursor(0, 2, [], Counts(delivered=2))
    await journal.close()
    base.close()
    shutil.copy(state / "relay.db", restored / "relay.db")
    with pytest.raises(OtherJournal):
        open_both(restored, elsewhere, 0, LIMITS, 1 << 20)


async def test_a_restore_that_was_broken_off_is_not_started_with(state: Path, tmp_path: Path) -> None:
    back(state, tmp_path / "backup")

    def fail(path: Path) -> None:
        if path.name == name(5):
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        restore(tmp_path / "backup", tmp_path / "restored", PATH, Files(fail))
    with pytest.raises(OtherJournal):
        await run(tmp_path / "restored")
    assert advise_on_restore(tmp_path / "restored").endswith(
        f"run relay restore {tmp_path / 'backup'} --state {tmp_path / 'restored'} again"
    )
    accepted = CliRunner().invoke(relay, ["accept", "journal", "--yes", "--state", str(tmp_path / "restored")])
    assert (accepted.exit_code, "is not complete: a restore was broken off" in accepted.output) == (1, True)
    (tmp_path / "restored" / "mine.txt").write_text("nobody else's")
    shutil.copytree(tmp_path / "backup", tmp_path / "other")
    for source, path in (("other", PATH), ("backup", tmp_path / "disk")):
        with pytest.raises(OSError, match=r"restored: a restore was broken off there: run relay restore .*/backup "):
            restore(tmp_path / source, tmp_path / "restored", path, Files())
    assert (tmp_path / "restored" / PATH / name(0)).exists()
    (tmp_path / "restored" / PATH / name(99)).write_bytes(b"left over")
    restore(tmp_path / "backup", tmp_path / "restored", PATH, Files())
    assert (tmp_path / "restored" / "mine.txt").exists()
    assert advise_on_restore(tmp_path / "restored") == ""
    assert (await run(tmp_path / "restored"))[0] == 15
    with pytest.raises(OSError, match=r"relay\.db is there"):
        restore(tmp_path / "backup", tmp_path / "restored", PATH, Files())


async def test_what_cannot_be_restored_is_refused(state: Path, tmp_path: Path) -> None:
    """Siblings: no backup; one of a newer relay; a journal that is there; a relay that runs."""
    with pytest.raises(Unavailable, match="is no backup"):
        restore(tmp_path / "nowhere", tmp_path / "restored", PATH, Files())
    back(state, tmp_path / "backup")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / name(3)).touch()
    with pytest.raises(OSError, match="nothing that relay keeps"):
        restore(tmp_path / "backup", tmp_path / "restored", tmp_path / "disk", Files())
    with closing(sqlite3.connect(tmp_path / "backup" / "relay.db")) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(OSError, match="is of a newer relay"):
        restore(tmp_path / "backup", tmp_path / "restored", PATH, Files())
    assert not (tmp_path / "restored").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_what_root_restores_belongs_to_whom_the_state_folder_belongs(state: Path, tmp_path: Path) -> None:
    back(state, tmp_path / "backup")
    (tmp_path / "restored").mkdir()
    os.chown(tmp_path / "restored", 12345, 54321)
    restore(tmp_path / "backup", tmp_path / "restored", PATH, Files())
    found = [
        path
        for path in (tmp_path / "restored").rglob("*")
        if (path.stat().st_uid, path.stat().st_gid) != (12345, 54321)
    ]
    assert found == []


async def test_a_journal_alone_cannot_be_backed_up(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / PATH, LIMITS, 0)
    await journal.append([KIND], [b"{}"])
    await journal.close()
    with pytest.raises(Unavailable, match=r"relay\.db: no relay has run"):
        back(tmp_path / "state", tmp_path / "backup")


async def test_a_backup_has_the_database_of_one_moment_before_the_journal(state: Path, tmp_path: Path) -> None:
    """Siblings: what only the write-ahead log has; what the database hears of while segments are copied."""

    def hear(head: int) -> None:
        with closing(sqlite3.connect(state / "relay.db")) as db, db:
            db.execute("UPDATE journal_state SET head = ?", (head,))

    with closing(sqlite3.connect(state / "relay.db")) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("UPDATE cursor SET position = 7")
        db.commit()
        found, _ = back(state, tmp_path / "backup", Files(lambda path: hear(99)))
    with closing(sqlite3.connect(tmp_path / "backup" / "relay.db")) as copy:
        assert copy.execute("SELECT position FROM cursor").fetchone() == (7,)
    assert found.workers[0].head == 15
    assert read_end(tmp_path / "backup" / PATH) == End(15)


async def test_a_backup_repeats_until_a_pass_is_quick_and_complete(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PASSES", 3)
    monkeypatch.setattr(backup, "QUICK_S", -1.0)
    back(state, tmp_path / "slow", files := Files())
    assert len(files.copied + files.there) == 3 * 3
    monkeypatch.setattr(backup, "PASSES", 1)
    await run(state, 0, settled=7)

    def remove(path: Path) -> None:
        for base in (0, 5):
            (state / PATH / name(base)).unlink(missing_ok=True)

    with pytest.raises(OSError, match="faster than they can be copied"):
        back(state, tmp_path / "busy", Files(remove))
    assert not read_backup(tmp_path / "busy").complete


async def test_a_backup_refuses_a_second_one_beside_it_and_a_damaged_database(state: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="backup"):
        back(state, tmp_path / "backup", Files(lambda path: back(state, tmp_path / "backup")))
    with closing(sqlite3.connect(state / "mine.db")) as db, db:
        db.execute("CREATE TABLE member (id)")
        db.executemany("INSERT INTO member VALUES (?)", [(f"{n:01000d}",) for n in range(50)])
    with (state / "mine.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(Unavailable):
        back(state, tmp_path / "backup")
    assert not read_backup(tmp_path / "backup").complete


async def test_a_restore_reads_what_it_has_made(state: Path, tmp_path: Path) -> None:
    """Siblings: a segment, and a database of a connector, that did not get there as they should."""
    with closing(sqlite3.connect(state / "mine.db")) as db, db:
        db.execute("CREATE TABLE member (id)")
    back(state, tmp_path / "backup")

    def spoil(path: Path) -> None:
        if path.name == spoilt:
            path.write_bytes(
                path.read_bytes()[:-1] + b"?" if path.suffix == ".log" else path.read_bytes()[:100] + b"?" * 9000
            )

    spoilt = name(5)
    with pytest.raises(OSError, match="is not what was copied"):
        restore(tmp_path / "backup", tmp_path / "first", PATH, Files(spoil))
    spoilt = "mine.db"
    with pytest.raises(Unavailable):
        restore(tmp_path / "backup", tmp_path / "second", PATH, Files(spoil))


async def test_a_restore_waits_for_no_relay_and_a_broken_one_starts_none(state: Path, tmp_path: Path) -> None:
    """Siblings: a state folder that a relay holds; a start after a restore that was broken off."""
    back(state, tmp_path / "backup")
    (restored := tmp_path / "restored").mkdir()
    held = lock(restored)
    with pytest.raises(OSError, match=str(restored)):
        restore(tmp_path / "backup", restored, PATH, Files())
    os.close(held)

    def fail(path: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        restore(tmp_path / "backup", restored, PATH, Files(fail))
    with pytest.raises(StartError, match="is not complete: a restore was broken off there: run relay restore"):
        await Partitions(Config(), open_store(restored, JournalSettings()), restored, 0).open()


@pytest.mark.parametrize("place", ["relay.db", "mine.db", "cohorts/vip.db"])
async def test_a_restore_names_a_database_with_a_destroyed_header(state: Path, tmp_path: Path, place: str) -> None:
    (state / "cohorts").mkdir()
    for one in ("mine.db", "cohorts/vip.db"):
        with closing(sqlite3.connect(state / one)) as db, db:
            db.execute("CREATE TABLE member (id)")
    back(state, tmp_path / "backup")
    with (tmp_path / "backup" / place).open("r+b") as file:
        file.write(bytes(100))
    with pytest.raises(Unavailable, match=rf"{place}: file is not a database"):
        restore(tmp_path / "backup", tmp_path / "restored", PATH, Files())
    assert not (tmp_path / "restored").exists()
    (state / "mine.db").unlink()
    back(state, tmp_path / "backup")
    assert restore(tmp_path / "backup", tmp_path / "restored", PATH, Files())[1] == []


async def test_only_the_owner_may_read_a_backup(state: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(state / "mine.db")) as db, db:
        db.execute("CREATE TABLE member (id)")
    (state / "cuts").mkdir()
    (state / "cuts" / "it").write_text(f"relay cuts 1 {read_identity(state / PATH)}\nline\n")
    for path in state.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    back(state, tmp_path / "backup")
    for path in [tmp_path / "backup", *(tmp_path / "backup").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


async def test_the_command_exits_with_1_if_the_journal_is_damaged(state: Path, tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    command = ["backup", str(tmp_path / "backup"), "--state", str(state), "--conf", str(tmp_path / "conf.d")]
    whole = CliRunner().invoke(relay, command)
    assert (whole.exit_code, "15 events" in whole.output) == (0, True)
    path = state / PATH / name(5)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    damaged = CliRunner().invoke(relay, command)
    assert damaged.exit_code == 1
    assert f"damaged in the journal itself, and copied as it is: {path}" in damaged.output
