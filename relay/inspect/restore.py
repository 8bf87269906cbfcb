"""Makes a state folder of a backup. Blocking.

Failure and recovery:

- A marker names source and target until everything is restored. relay does not start with the rest of an interrupted
  restore, and the same restore removes that rest and begins again. Without the marker nothing is removed.
- The journal gets a new identity: its new offsets are not those that the original has given since, or still gives.
  Databases and journals of the two cannot be confused.
- Everything stamped before ages from now on: nothing expires only because the backup is old.
"""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import uuid4

from relay.inspect.backup import (
    JOURNAL,
    Backup,
    BackupPart,
    Told,
    check_databases,
    copied_databases,
    copy_file,
    find_bad_segments,
    read_backup,
)
from relay.journal import list_segment_files, lock, replace_text, sync_folder, write_end, write_identity
from relay.state import (
    CUTS,
    DATABASE,
    MARKER,
    SEEN,
    VERSION,
    WORKERS,
    advise_on_restore,
    change_identity,
    connect_file,
    convert_errors,
    give_ownership,
    make_journal_folder,
    make_worker_folder,
    read_marker,
)

OLDEST_VERSION: Final = 7
"""The oldest version of the tables that knows the journal as today."""
NO_EVENTS: Final = ("lost+found",)
"""What an empty journal folder may hold: a file system's own entries."""


@convert_errors()
def restore(source: Path, state: Path, path: Path, told: Told) -> tuple[Backup, list[str]]:
    """Make a state folder of the backup in `source`. `path`: the setting `journal.path`.

    Return the backup, and the segments that are damaged in it. Raises Unavailable: no complete backup, a backup
    of another version, a damaged database in it, or a state folder that is not empty or in use.
    """
    found = read_backup(source)
    if not found.complete:
        raise OSError(f"{source} is not complete: run relay backup {source} again, with the state folder that it is of")
    for part in found.workers:
        _check_version(make_worker_folder(source, part.worker) / DATABASE)
    mine = f"{os.path.realpath(source)}\n{make_journal_folder(state, path, 0).absolute()}\n"
    if (begun := read_marker(state)) is None:
        if there := _list_kept(source, found, state, path):
            raise OSError(f"{there[0]} is there: a backup is only restored where there is nothing that relay keeps")
    elif begun != mine:
        raise OSError(f"{state}: {advise_on_restore(state)}; or empty the folder by hand")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    held, problems = lock(state), list[str]()
    try:
        replace_text(state / MARKER, mine)
        give_ownership([state / MARKER], state)
        for one in _list_kept(source, found, state, path):
            shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()
        for part in found.workers:
            folder, journal = make_worker_folder(state, part.worker), make_journal_folder(state, path, part.worker)
            problems += _restore_worker(part, make_worker_folder(source, part.worker), folder, journal, told)
            give_ownership([folder, *folder.rglob("*"), journal, *journal.iterdir()], state)
        (state / MARKER).unlink()
        sync_folder(state)
    finally:
        os.close(held)
    return found, problems


def _check_version(database: Path) -> None:
    """Check that this relay can read the tables. Raises OSError, and sqlite3.DatabaseError if nobody can."""
    with closing(connect_file(database, "ro")) as db:
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            raise sqlite3.DatabaseError(f"{database}: {error}") from None
    if not OLDEST_VERSION <= version <= VERSION:
        raise OSError(
            f"{database} is of {'a newer' if version > VERSION else 'a much older'} relay: use that to restore"
        )


def _list_kept(source: Path, backup: Backup, state: Path, path: Path) -> list[Path]:
    """List what relay keeps there, or a restore of this backup has made."""
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


def _restore_worker(part: BackupPart, source: Path, folder: Path, journal: Path, told: Told) -> list[str]:
    """Restore one worker; return the segments that are damaged as in the backup."""
    identity = uuid4().hex
    for place in (folder, journal):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy_file(source / DATABASE, folder / DATABASE, told)
    now = time.time()
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        change_identity(db, identity, now)
    for path in list_segment_files(source / JOURNAL):
        _copy_file(path, journal / path.name, told)
    for path in copied_databases(source):
        _copy_file(path, folder / path.relative_to(source), told)
    for path in sorted((source / CUTS).glob("*")):
        (folder / CUTS).mkdir(mode=0o700, exist_ok=True)
        # The first line ends with the identity of the journal: write the new identity
        data = path.read_bytes()
        first, end, rest = data.partition(b"\n")
        (folder / CUTS / path.name).write_bytes(
            first.removesuffix(part.identity.encode()) + identity.encode() + end + rest
            if first.endswith(part.identity.encode())
            else data
        )
    check_databases(folder)
    if bad := find_bad_segments(journal, part.head):
        damaged = {one.path.name for one in find_bad_segments(source / JOURNAL, part.head)}
        if wrong := [one for one in bad if one.path.name not in damaged]:
            raise OSError(f"{wrong[0].path} is not what was copied: {wrong[0]}")
    write_end(journal, part.head)
    write_identity(journal, identity)
    return [f"{one.path}: {one}" for one in bad]


def _copy_file(path: Path, copy: Path, told: Told) -> None:
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    told(copy, copy_file(path, copy))
