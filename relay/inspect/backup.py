"""Copies a state folder so that relay can be started with the copy, whether relay runs or not. Blocking.

Failure and recovery:

- A copy is laid out as a state folder: databases, journals with their identity, cuts, and `workers/N`. The file
  `backup.json` says what is in it, and whether it is complete. Only a complete copy can be restored.
- relay.db is copied first, as of one moment, then the journal, which only grows. So the copy has all that its database
  calls accepted. Databases of connectors come last: what they know beyond relay.db is sent to a destination again.
- A long pass is followed by another one, which copies what is new. The last pass is quick, so that cursors and journal
  are of nearly the same time. A pass during which needed events left the journal is repeated as well.
- Each file is written beside its place, synced, and put there in one step. A segment that is there with the size and
  time of its original is not copied again: an interrupted copy goes on where it was.
- In the end all of it is read. Bad files are removed, for the next try to copy.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from relay.journal import (
    FRESH,
    Corrupt,
    Inspected,
    copy_segment,
    describe_mismatch,
    find_end,
    inspect_all,
    list_segment_files,
    lock,
    parse_base,
    put_in_place,
    read_identity,
    replace_text,
    sync_folder,
    write_end,
    write_identity,
)
from relay.state import (
    CUTS,
    DATABASE,
    SEEN,
    WORKERS,
    connect_file,
    convert_errors,
    list_journals,
    make_worker_folder,
    raise_head,
    read_known_journal,
    read_saved_positions,
)

MANIFEST: Final = "backup.json"
JOURNAL: Final = Path("journal")
"""The folder of a worker's journal in a copy, whatever `journal.path` is."""
QUICK_S: Final = 10.0
"""A pass that took no longer is the last one."""
PASSES: Final = 10
SQLITE: Final = b"SQLite format 3\0"
BUSY: Final = "events leave the journal faster than they can be copied: try again when relay is less busy"

Told = Callable[[Path, bool], None]
"""Called with each finished file of the copy, and whether it was copied."""


class BackupPart(Struct, frozen=True, kw_only=True):
    """The copy of one worker's journal."""

    worker: int
    identity: str
    oldest: int
    """The first offset."""
    head: int
    """The offset behind the last event."""

    @property
    def events(self) -> int:
        """Number of events."""
        return self.head - self.oldest


class Backup(Struct, frozen=True, kw_only=True):
    """A copy of a state folder."""

    complete: bool
    made: float
    """The time of its databases, in Unix seconds."""
    workers: Sequence[BackupPart]

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(part.events for part in self.workers)


class _Pass(Struct):
    """What one pass has copied of one worker."""

    oldest: int = 0
    head: int = 0
    is_consistent: bool = True
    """Whether nothing that the database needs left the journal meanwhile."""
    names: set[str] = field(default_factory=set)
    """Names of the segments."""


def read_backup(folder: Path) -> Backup:
    """Read the description of the copy in a folder. Raises FileNotFoundError without a copy, OSError."""
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Backup)
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} is no backup: it has no {MANIFEST}") from None
    except msgspec.DecodeError as error:
        raise OSError(f"{path} cannot be read: {error}") from None


@convert_errors()
def back_up(state: Path, path: Path, target: Path, told: Told) -> tuple[Backup, list[str]]:
    """Copy a state folder into `target`, or continue an earlier try. `path`: the setting `journal.path`.

    Return the copy, and the damage of the journals, which the copy has as well. Raises Unavailable; the copy is
    incomplete then.
    """
    folders = list_journals(state, path)
    whole = target.resolve()
    for place in (state, *(journal for _, journal in folders.values())):
        if whole.is_relative_to(place.resolve()) or place.resolve().is_relative_to(whole):
            raise OSError(f"{target} and {place} lie in one another: a backup belongs elsewhere, best on another disk")
    for folder, journal in folders.values():
        with closing(_open_to_read(folder / DATABASE)) as db:
            known = read_known_journal(db)
        if not journal.is_dir() or (why := describe_mismatch(journal, known)):
            raise OSError(why if journal.is_dir() else f"{journal}: there is no journal")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(target, os.W_OK | os.X_OK):
        raise OSError(f"{target} may not be written by this user")
    held = lock(target)
    try:
        return _fill(target, folders, told)
    finally:
        os.close(held)


def _fill(target: Path, folders: Mapping[int, tuple[Path, Path]], told: Told) -> tuple[Backup, list[str]]:
    """Make the copy in a locked folder that holds nothing else; return the copy, and the damage.

    Raises OSError, sqlite3.Error.
    """
    if not (target / MANIFEST).exists() and any(path.name != "lock" for path in target.iterdir()):
        raise OSError(f"{target} is not empty, and holds no backup")
    for number, (_, journal) in folders.items():
        there = read_identity(make_worker_folder(target, number) / JOURNAL)
        if there is not None and there != read_identity(journal):
            raise OSError(f"{target} holds the backup of another journal than {journal}: take another folder")
    _write_note(target, Backup(complete=False, made=time.time(), workers=()))
    made, parts = _copy_all(target, folders, told)
    for left in (target / WORKERS).glob("[1-9]*"):  # workers whose folders have left the state folder
        if left.name.isdecimal() and int(left.name) not in folders:
            shutil.rmtree(left)
    problems = [problem for part in parts for problem in _verify(target, part, folders[part.worker][1])]
    for left in target.rglob(f"*{FRESH}"):  # by a try that was broken off, of a segment that has gone since
        left.unlink()
    found = Backup(complete=True, made=made, workers=parts)
    _write_note(target, found)
    return found, problems


def _write_note(target: Path, found: Backup) -> None:
    replace_text(target / MANIFEST, msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")


def _copy_all(target: Path, folders: Mapping[int, tuple[Path, Path]], told: Told) -> tuple[float, list[BackupPart]]:
    """Copy until a pass was quick and consistent; return its time, and the copies."""
    for _ in range(PASSES):
        began, made = time.monotonic(), time.time()
        passes = {
            number: _copy_worker(make_worker_folder(target, number), *both, told) for number, both in folders.items()
        }
        is_quick = time.monotonic() - began <= QUICK_S
        is_consistent = all(one.is_consistent for one in passes.values())
        if is_quick and is_consistent:
            break
    if not is_consistent:
        raise OSError(BUSY)
    parts = []
    for number, found in passes.items():
        folder = make_worker_folder(target, number)
        fresh = folder / f"{DATABASE}{FRESH}"
        with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
            head = raise_head(db, found.head)  # so that the database knows the whole journal, as after a clean stop
        _put_database(fresh, folder / DATABASE)
        write_end(folder / JOURNAL, head)
        identity = read_identity(folders[number][1]) or ""
        parts.append(BackupPart(worker=number, identity=identity, oldest=found.oldest, head=head))
    return made, parts


def _copy_worker(target: Path, folder: Path, journal: Path, told: Told) -> _Pass:
    """Make one pass over one worker."""
    (target / JOURNAL).mkdir(mode=0o700, parents=True, exist_ok=True)
    before = list_segment_files(journal)
    fresh = _copy_database(folder / DATABASE, target / DATABASE)
    found = _copy_segments(journal, target / JOURNAL, told)
    oldest = parse_base(before[0]) if before else found.oldest
    with closing(sqlite3.connect(fresh)) as db:
        positions = read_saved_positions(db)
    found.is_consistent = not any(oldest <= position < found.oldest for position in positions)
    others = {target / path.relative_to(folder): path for path in list_other_databases(folder)}
    for copy, path in others.items():
        copy.parent.mkdir(mode=0o700, exist_ok=True)
        _put_database(_copy_database(path, copy), copy)
        told(copy, True)
    for left in _named_as_databases(target):
        if left not in others:
            left.unlink()
    _copy_cuts(folder / CUTS, target / CUTS)
    if identity := read_identity(journal):
        write_identity(target / JOURNAL, identity)
    return found


def _copy_segments(journal: Path, target: Path, told: Told) -> _Pass:
    found = _Pass()
    listed = list_segment_files(journal)
    for path in listed:
        copy, size = target / path.name, None
        try:
            if path is listed[-1]:  # copy the open segment up to its last whole record; a damaged segment as it is
                with suppress(Corrupt):
                    ending = find_end(path)
                    size = ending.used if ending.end == ending.good else None
            is_copied = copy_file(path, copy, size)
        except FileNotFoundError:  # it has left the journal meanwhile, and so have all before it
            found.names.clear()
            continue
        found.names.add(path.name)
        told(copy, is_copied)
    for left in list_segment_files(target):
        if left.name not in found.names:
            left.unlink()
    if kept := list_segment_files(target):
        found.oldest, found.head = parse_base(kept[0]), parse_base(kept[-1])
        with suppress(Corrupt):
            found.head = find_end(kept[-1]).end
    return found


def copy_file(path: Path, copy: Path, size: int | None = None) -> bool:
    """Copy a file durably, with its time; return False if it was there. `size`: the bytes to copy. Raises OSError."""
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        size = about.st_size if size is None else size
        with suppress(FileNotFoundError):
            there = copy.stat()
            if (size, about.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
                return False
        fresh = copy_segment(file.fileno(), copy, size)
        os.utime(fresh, ns=(about.st_atime_ns, about.st_mtime_ns))
        put_in_place(fresh, copy)
    return True


def list_other_databases(folder: Path) -> list[Path]:
    """Return the databases of connectors in a worker's folder. A file of another format is no database."""
    return [path for path in _named_as_databases(folder) if _is_database(path)]


def copied_databases(folder: Path) -> list[Path]:
    """Return the databases of connectors in a worker's copy. A backup writes no other file of such a name.

    Raises sqlite3.DatabaseError (the header of a database is damaged), OSError."""
    found = _named_as_databases(folder)
    for path in found:
        if not _is_database(path):
            raise sqlite3.DatabaseError(f"{path}: file is not a database")
    return found


def _named_as_databases(folder: Path) -> list[Path]:
    """Return the files that are databases by their name. Leave out the ids of the duplicate check: an event that was
    lost since a backup, and is sent again, is no duplicate."""
    found = (path for glob in ("*.db", "*/*.db") for path in sorted(folder.glob(glob)))
    return [path for path in found if path.name != DATABASE and path.parent.name != SEEN]


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _copy_database(path: Path, copy: Path) -> Path:
    """Copy a database as of one moment beside its place. Raises sqlite3.Error, OSError."""
    fresh = copy.with_name(copy.name + FRESH)
    for left in (fresh, *_list_logs(fresh)):
        left.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    with closing(_open_to_read(path)) as db, closing(sqlite3.connect(fresh)) as out:
        db.backup(out)
        out.execute("PRAGMA journal_mode = DELETE")  # so that whoever looks at a copy writes nothing beside it
    return fresh


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a database read-only. Raises FileNotFoundError, sqlite3.Error."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no relay has run with this state folder, or it was lost (relay doctor)")
    return connect_file(path, "ro")


def _put_database(fresh: Path, copy: Path) -> None:
    """Put the copy of a database in place durably. Nobody has it open."""
    for left in (*_list_logs(fresh), *_list_logs(copy)):
        left.unlink(missing_ok=True)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    put_in_place(fresh, copy)


def _list_logs(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def _copy_cuts(folder: Path, target: Path) -> None:
    """Copy which events go out together. Files that vanish meanwhile are not needed any more."""
    if not folder.is_dir():
        return
    target.mkdir(mode=0o700, exist_ok=True)
    names = set[str]()
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.is_file() and path.suffix != FRESH:
                copy_file(path, target / path.name)
                names.add(path.name)
    for left in target.iterdir():
        if left.name not in names:
            left.unlink()


def _verify(target: Path, part: BackupPart, journal: Path) -> Iterator[str]:
    """Read a worker's whole copy; yield the segments that are damaged in the journal itself.

    Removes other damaged segments, and raises OSError.
    """
    folder = make_worker_folder(target, part.worker)
    check_databases(folder)
    if bad := find_bad_segments(folder / JOURNAL, part.head):
        original = {one.path.name for one in find_bad_segments(journal, part.head)}
        for one in bad:
            if one.path.name not in original:
                one.path.unlink()
                sync_folder(one.path.parent)
                raise OSError(f"{one.path} is not what was copied ({one}), and is removed: run relay backup again")
            yield f"{journal / one.path.name}: {one}"


def find_bad_segments(journal: Path, head: int) -> list[Inspected]:
    """Return the damaged segments of a copy. Events below `head` must be there. Raises OSError."""
    return [one for one in inspect_all(journal, head) if not one.is_whole]


def check_databases(folder: Path) -> None:
    """Read all databases of a worker's copy. Raises sqlite3.Error."""
    for path in (folder / DATABASE, *list_other_databases(folder)):
        with closing(_open_to_read(path)) as db:
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError(f"{path}: {said}")
