"""Damage in the newest segment is no torn tail: nothing acknowledged is cut, given another offset, or passed over in
silence, and what can be read behind it is read."""

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from relay.api import Kind
from relay.cli.main import relay as command
from relay.journal.identity import ANY, KnownJournal
from relay.journal.journal import Journal
from relay.journal.outside.inspected import inspect_all
from relay.journal.outside.repair import plan_repair
from relay.journal.recovery import BEHIND_ALL
from relay.state.journal_state import FolderDoubts
from relay.state.open_folder import open_both
from relay.store import Counts, Cursor, Damage, describe_damage
from relay.store.log import JournalLimits
from relay.testing import make_event

KIND = Kind("braze", "users.messages.email.Open")
LIMITS = JournalLimits(1 << 30, 3600)
EVENTS = 30


async def fill(folder: Path, starts: int = 1) -> list[bytes]:
    """Records of one event each, in a segment for each start."""
    sent = [make_event(n=n) for n in range(EVENTS)]
    for start in range(starts):
        journal = Journal(folder, LIMITS, 1 << 20)
        for body in sent[start::starts] if starts == 1 else sent[start * EVENTS // starts :][: EVENTS // starts]:
            await journal.append([KIND], [body])
        await journal.close()
    return sent


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


async def read(journal: Journal) -> dict[int, bytes]:
    """All that a lane gets."""
    reader, found, offset = journal.open_reader(), dict[int, bytes](), 0
    async with asyncio.timeout(60):
        while offset < journal.head:
            for block in await reader.read(offset):
                found |= {event.offset: event.body for event in block.events()}
            offset = reader.offset
    reader.close()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, asyncio.run(fill(folder))


def place(path: Path, share: float) -> int:
    return int(path.stat().st_size * share)


@pytest.mark.parametrize("how", ["bit", "zeros", "last", "cut", "start", "everything"])
async def test_acknowledged_events_are_never_cut_and_keep_their_offsets(
    whole: tuple[Path, Sequence[bytes]], tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Siblings: a bit, a page of zeros, the last record, a cut file, the head of the file, all of it."""
    folder = tmp_path / "journal"
    shutil.copytree(whole[0], folder)
    (path,) = logs(folder)
    size = path.stat().st_size
    match how:
        case "bit":
            overwrite(path, size // 2, bytes([path.read_bytes()[size // 2] ^ 4]))
        case "zeros":
            overwrite(path, size // 3, bytes(700))
        case "last":
            overwrite(path, size - 5, b"?")
        case "cut":
            path.write_bytes(path.read_bytes()[: size // 2])
        case "start":
            overwrite(path, 0, b"????")
        case "everything":
            overwrite(path, 0, bytes(size))
    before, (planned,) = path.read_bytes(), plan_repair(folder, EVENTS)
    journal = Journal(folder, LIMITS, 0, KnownJournal(ANY, EVENTS))
    assert (journal.head, path.read_bytes()) == (EVENTS, before)
    assert path.name in journal.problem
    lost = {offset for start, stop in planned.lost for offset in range(start, stop)}
    assert await read(journal) == {n: body for n, body in enumerate(whole[1]) if n not in lost}
    assert journal.lost == len(lost) > 0
    assert await journal.append([KIND], [b"{}"]) == EVENTS
    await read(journal)
    assert capsys.readouterr().out.count("events of the journal cannot be read") == len(planned.lost)
    await journal.close()
    assert not all(segment.is_whole for segment in inspect_all(folder, EVENTS))


async def test_damage_that_readers_meet_in_part_is_counted_once(tmp_path: Path) -> None:
    """One reader comes to a damaged record of ten events in its middle, another at its beginning."""
    journal = Journal(tmp_path, LIMITS, 0)
    await journal.append([KIND] * 10, [b"{}"] * 10)
    await journal.append([KIND], [b"{}"])
    await journal.close()
    (path,) = logs(tmp_path)
    overwrite(path, path.stat().st_size // 3, b"?")
    journal = Journal(tmp_path, LIMITS, 0)
    late, early = journal.open_reader(), journal.open_reader()
    assert [block.offsets for block in await late.read(4)] == [block.offsets for block in await early.read(0)]
    assert [(one.start, one.stop) for one in journal.unsaved_damage] == [(4, 10), (0, 10)]
    assert journal.lost == 10
    assert describe_damage(journal.unsaved_damage).startswith("10 events cannot be read: offsets 0-9 in ")
    overlapping = [Damage(start, stop, "1.log", "bad record", None) for start, stop in ((0, 5), (3, 8))]
    assert describe_damage(overlapping).startswith("8 events cannot be read: ")
    for reader in (late, early):
        reader.close()
    await journal.close()


async def test_a_missing_newest_file_counts_as_damage(whole: tuple[Path, Sequence[bytes]], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path / "journal")
    logs(tmp_path / "journal")[0].unlink()
    journal = Journal(tmp_path / "journal", LIMITS, 0, KnownJournal(ANY, EVENTS))
    assert (journal.head, await read(journal)) == (EVENTS, {})
    assert f"offsets 0 to {EVENTS - 1} are missing" in journal.problem
    assert await journal.append([KIND], [b"{}"]) == EVENTS
    assert await read(journal) == {EVENTS: b"{}"}
    await journal.close()


async def test_an_older_copy_goes_on_behind_what_the_database_knows(
    whole: tuple[Path, Sequence[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole[0], tmp_path / "journal")
    journal = Journal(tmp_path / "journal", LIMITS, 0, KnownJournal(ANY, EVENTS + 100))
    assert capsys.readouterr().out.count("the journal is older than relay.db") == 1
    assert journal.head > EVENTS + 100  # the database may be a moment old
    assert await read(journal) == dict(enumerate(whole[1]))
    assert f"offsets {EVENTS} to {EVENTS + 99} are missing" in journal.problem
    await journal.close()


async def test_a_file_that_never_was_a_segment_is_set_aside(
    whole: tuple[Path, Sequence[bytes]], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path / "journal")
    strange = tmp_path / "journal" / f"{EVENTS:020d}.log"
    strange.write_bytes(b"?" * 100)
    journal = Journal(tmp_path / "journal", LIMITS, 0, KnownJournal(ANY, EVENTS))
    assert await journal.append([KIND], [b"{}"]) == EVENTS
    assert strange.with_name(strange.name + ".damaged").read_bytes() == b"?" * 100
    await journal.close()


async def test_readers_skip_damage_in_older_segments_and_missing_files(tmp_path: Path) -> None:
    """Siblings: a damaged record, a damaged head, a missing file; by reading on and by looking for a time."""
    sent = await fill(tmp_path, starts=5)
    first, second, third, *_ = logs(tmp_path)
    overwrite(first, first.stat().st_size - 5, b"?")
    overwrite(second, 3, b"?")
    journal = Journal(tmp_path, LIMITS, 0)
    third.unlink()
    lost = {5, *range(6, 12), *range(12, 18)}
    assert await read(journal) == {n: body for n, body in enumerate(sent) if n not in lost}
    assert journal.lost == len(lost)
    assert await journal.find_offset(0.5) == 0
    await journal.close()


@given(places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5), bit=st.integers(0, 7))
def test_whatever_bits_flip_all_is_read_that_can_be_and_nothing_else(
    whole: tuple[Path, Sequence[bytes]], tmp_path_factory: pytest.TempPathFactory, places: list[float], bit: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "journal"
    shutil.copytree(whole[0], folder)
    (path,) = logs(folder)
    for share in {place(path, share) for share in places}:
        overwrite(path, share, bytes([path.read_bytes()[share] ^ (1 << bit)]))
    lost = {n for one in plan_repair(folder, EVENTS) for start, stop in one.lost for n in range(start, stop)}
    asyncio.run(_reads(folder, {n: body for n, body in enumerate(whole[1]) if n not in lost}))


async def _reads(folder: Path, expected: dict[int, bytes]) -> None:
    journal = Journal(folder, LIMITS, 0, KnownJournal(ANY, EVENTS))
    assert (journal.head, await read(journal)) == (EVENTS, expected)
    assert await journal.append([KIND], [b"{}"]) == EVENTS
    await journal.close()


@pytest.mark.parametrize("how", ["zeros", "cut", "gone", "junk"])
async def test_offsets_after_a_crash_begin_behind_all_possibly_acknowledged_ones(tmp_path: Path, how: str) -> None:
    """The database has saved the head of 10 events, 20 more were acknowledged. Siblings: the newest file zeroed, cut to
    nothing, removed, overwritten; a second start adds no second gap."""
    first = Journal(tmp_path, LIMITS, 0)
    for number in range(EVENTS):
        await first.append([KIND], [make_event(n=number)])
    await first.close()
    (tmp_path / "end").unlink()  # it was killed
    (path,) = logs(tmp_path)
    match how:
        case "zeros":
            overwrite(path, 0, bytes(path.stat().st_size))
        case "cut":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
        case "junk":
            overwrite(path, path.stat().st_size // 3, b"?" * path.stat().st_size)
    known = KnownJournal(first.identity, 25 if how == "junk" else 10)
    journal = Journal(tmp_path, LIMITS, 0, known)
    head = journal.head
    assert head > EVENTS
    assert "at least" in journal.problem
    journal.fill_hole()
    await journal.close()
    (tmp_path / "end").unlink()
    again = Journal(tmp_path, LIMITS, 0, KnownJournal(first.identity, head))
    assert again.problem == ""
    assert await again.append([KIND], [b"{}"]) == head
    assert (await read(again))[head] == b"{}"
    await again.close()


async def test_a_small_journal_whose_end_is_lost_leaves_no_smaller_gap(tmp_path: Path) -> None:
    """Nobody knows how many files are lost."""
    heads = []
    for size in (1 << 20, 1 << 40):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "identity").write_text("it")
        journal = Journal(folder, JournalLimits(size, 3600), 0, KnownJournal("it", 10))
        heads.append(journal.head)
        await journal.close()
    assert heads[0] == heads[1] > 6_000_000


async def test_the_head_is_known_after_a_clean_stop_despite_an_old_database(tmp_path: Path) -> None:
    await fill(tmp_path)
    (path,) = logs(tmp_path)
    path.unlink()
    journal = Journal(tmp_path, LIMITS, 0, KnownJournal((tmp_path / "identity").read_text().strip(), 10))
    assert journal.head == EVENTS
    assert "at least" not in journal.problem
    await journal.close()


async def test_an_audit_names_lost_offsets_and_blames_the_journal(tmp_path: Path) -> None:
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, LIMITS, 0)
    for n in range(EVENTS):
        await journal.append([KIND], [make_event(n=n)])
    await state.save({"it": Cursor(0, EVENTS, [], Counts(delivered=EVENTS))}, journal.head)
    await journal.close()
    state.close()
    (path,) = logs(tmp_path / "journal")
    overwrite(path, place(path, 0.5), b"?")
    ((start, stop),) = plan_repair(tmp_path / "journal", EVENTS)[0].lost
    assert stop == start + 1
    answer = CliRunner().invoke(command, ["audit", "--state", str(tmp_path)])
    assert f"journal: offsets {start} cannot be read, of 0 to {EVENTS - 1}\n" in answer.output
    verdict = "NOT BALANCED: the journal has a problem (see above). The counts of all connectors balance."
    assert answer.output.splitlines()[-1] == verdict


async def test_what_an_admin_has_accepted_is_not_told_again_when_it_is_met_again(tmp_path: Path) -> None:
    """Another connector, or a replay, comes to the same place after a restart."""
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, LIMITS, 0)
    first, second = (Damage(start, start + 5, "1.log", "bad record", 9) for start in (0, 7))
    await state.save({}, 0, damage=[first])
    await state.save({}, 0, damage=[first, second])
    (doubt,) = FolderDoubts(tmp_path, Path("journal")).find()
    others = "the file's 9 other events can be read and are delivered"
    assert doubt.said == f"10 events cannot be read: offsets 0-4, 7-11 in 1.log (bad record; {others})"
    FolderDoubts(tmp_path, Path("journal")).accept("journal")
    await state.save({}, 0, damage=[second])
    assert FolderDoubts(tmp_path, Path("journal")).find() == []
    await state.save({}, 0, damage=[Damage(20, 21, "2.log", "the file is gone", None)])
    (doubt,) = FolderDoubts(tmp_path, Path("journal")).find()
    assert doubt.said == "1 event cannot be read: offsets 20 in 2.log (the file is gone)"
    await journal.close()
    state.close()


async def test_a_head_that_is_a_guess_makes_the_loss_a_bound(tmp_path: Path) -> None:
    journal, state = open_both(tmp_path, tmp_path / "journal", 0, LIMITS, 0)
    await state.save({}, 0, damage=[Damage(5, 900, "1.log", "it ends there", 9)])
    db = sqlite3.connect(tmp_path / "relay.db")
    with closing(db), db:
        db.execute("UPDATE journal_state SET doubt = ?", (f"at least offsets 3 to 4 are missing, {BEHIND_ALL}",))
    (*_, doubt) = FolderDoubts(tmp_path, Path("journal")).find()
    assert doubt.is_damage
    assert doubt.said.startswith("at most 895 events cannot be read: ")
    await journal.close()
    state.close()
