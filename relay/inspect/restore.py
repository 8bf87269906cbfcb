"""Makes a state folder of a backup. Blocking.

How it fails and recovers:

- A marker says what is restored, and to where, until all of it is: relay does not start with what a restore has left
  that was broken off, and the same restore removes that and begins anew. Without the marker nothing is removed.
- The journal gets a new identity: offsets that it gives from now on are not those that the original has given since, or
  still gives. Databases and journals of the two cannot be taken for each other.
- All that was stamped before ages from now on: nothing is removed for its age only because the backup is old.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import uuid4

from relay.inspect.backup import (
    JOURNAL,
    Backup,
    BackupPart,
    Told,
    bad_segments,
    check_databases,
    copied_databases,
    copy_file,
    read_backup,
)
from relay.journal import list_segment_files, lock, replace_text, sync_folder, write_end, write_identity
from relay.state import CUTS, DATABASE, SEEN, VERSION, WORKERS, change_identity, make_journal_folder, make_worker_folder

OLDEST_VERSION: Final = 7
"""Of the tables: since then they know the journal as they do today."""
MARKER: Final = "unfinished-restore"
"""In the state folder, while a restore is not complete: its source and its journal's folder, a line each."""
NO_EVENTS: Final = ("lost+found",)
"""What a journal's folder may hold that is empty: that of a file system's own."""


def restore(source: Path, state: Path, path: Path, told: Told) -> tuple[Backup, list[str]]:
    """Make a state folder of the backup in `source`; `path` is the setting `journal.path`.

    Return what there is, and which of its segments were damaged in the backup already. Raises OSError (no complete
    backup, one of another version, a state folder that is not empty, or that a relay runs with), sqlite3.Error (a
    database of the backup is damaged)."""
    found = read_backup(source)
    if not found.complete:
        raise OSError(f"{source} is not complete: run relay backup {source} again, with the state folder that it is of")
    for part in found.workers:
        _check_version(make_worker_folder(source, part.worker) / DATABASE)
    mine = f"{os.path.realpath(source)}\n{make_journal_folder(state, path, 0).absolute()}\n"
    if (begun := _begun(state)) is None:
        if there := _kept(source, found, state, path):
            raise OSError(f"{there[0]} is there: a backup is only restored where there is nothing that relay keeps")
    elif begun != mine:
        raise OSError(f"{state}: {advice_on(state)}; or empty the folder by hand")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    held, problems = lock(state), list[str]()
    try:
        replace_text(state / MARKER, mine)
        _give([state / MARKER], state)
        for one in _kept(source, found, state, path):
            shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()
        for part in found.workers:
            folder, journal = make_worker_folder(state, part.worker), make_journal_folder(state, path, part.worker)
            problems += _restore(part, make_worker_folder(source, part.worker), folder, journal, told)
            _give([folder, *folder.rglob("*"), journal, *journal.iterdir()], state)
        (state / MARKER).unlink()
        sync_folder(state)
    finally:
        os.close(held)
    return found, problems


def _check_version(database: Path) -> None:
    """Raise OSError if this relay cannot read the tables, sqlite3.DatabaseError if nobody can."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as db:
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            raise sqlite3.DatabaseError(f"{database}: {error}") from None
    if not OLDEST_VERSION <= version <= VERSION:
        raise OSError(
            f"{database} is of {'a newer' if version > VERSION else 'a much older'} relay: use that to restore"
        )


def advice_on(state: Path) -> str:
    """What to do about a restore that was broken off in a state folder; "" if there is none. Raises OSError."""
    source = (_begun(state) or "").partition("\n")[0]
    return f"a restore was broken off there: run relay restore {source} --state {state} again" if source else ""


def _begun(state: Path) -> str | None:
    """What the marker says of a restore that has begun and not ended; None if there is none. Raises OSError."""
    try:
        return (state / MARKER).read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _kept(source: Path, backup: Backup, state: Path, path: Path) -> list[Path]:
    """What there is that relay keeps, or a restore of this backup has made."""
    found: list[Path] = []
    for part in backup.workers:
        theirs, folder = make_worker_folder(source, part.worker), make_worker_folder(state, part.worker)
        databases = [one.relative_to(theirs).parts[0] for one in copied_databases(theirs)]
        files = [f"{name}{end}" for name in (DATABASE, *databases) for end in ("", "-wal", "-shm")]
        there = [folder / name for name in (*files, CUTS, SEEN, WORKERS)]
        if (journal := make_journal_folder(state, path, part.worker)).is_dir():
            there += [one for one in journal.iterdir() if one.name not in NO_EVENTS]
        found += [one for one in dict.fromkeys(there) if one.exists()]
    return found


def _restore(part: BackupPart, source: Path, folder: Path, journal: Path, told: Told) -> list[str]:
    """Restore one worker; return which segments are as damaged as they were."""
    identity = uuid4().hex
    for place in (folder, journal):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy(source / DATABASE, folder / DATABASE, told)
    now = time.time()
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        change_identity(db, identity, now)
    for path in list_segment_files(source / JOURNAL):
        _copy(path, journal / path.name, told)
    for path in copied_databases(source):
        _copy(path, folder / path.relative_to(source), told)
    for path in sorted((source / CUTS).glob("*")):
        (folder / CUTS).mkdir(mode=0o700, exist_ok=True)
        # The cuts of one journal, whose first line ends with its identity, as those of another
        data = path.read_bytes()
        first, end, rest = data.partition(b"\n")
        (folder / CUTS / path.name).write_bytes(
            first.removesuffix(part.identity.encode()) + identity.encode() + end + rest
            if first.endswith(part.identity.encode())
            else data
        )
    check_databases(folder)
    if bad := bad_segments(journal, part.head):
        damaged = {one.path.name for one in bad_segments(source / JOURNAL, part.head)}
        if wrong := [one for one in bad if one.path.name not in damaged]:
            raise OSError(f"{wrong[0].path} is not what was copied: {wrong[0]}")
    write_end(journal, part.head)
    write_identity(journal, identity)
    return [f"{one.path}: {one}" for one in bad]


def _copy(path: Path, copy: Path, told: Told) -> None:
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    told(copy, copy_file(path, copy))


def _give(made: Sequence[Path], state: Path) -> None:
    """Have what root has made belong to whom the state folder belongs."""
    if os.geteuid() == 0:
        about = state.stat()
        for path in made:
            os.chown(path, about.st_uid, about.st_gid, follow_symlinks=False)
