"""Makes a state folder of a backup. Blocking.

How it fails and recovers:

- The database comes first, and belongs to a journal that is complete only in the end: relay does not start with what a
  restore has left that was broken off.
- The journal gets a new identity: offsets that it gives from now on are not those that the original has given since, or
  still gives. Databases and journals of the two cannot be taken for each other.
- All that was stamped before ages from now on: nothing is removed for its age only because the backup is old.
"""

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import uuid4

from relay.journal.backup import (
    JOURNAL,
    Backup,
    Part,
    Told,
    bad_segments,
    check_databases,
    copy_file,
    other_databases,
    read_backup,
)
from relay.journal.ending import write_end
from relay.journal.folders import CUTS, DATABASE, FOLDER_NAME, journal_folder, worker_folder
from relay.journal.identity import write_identity
from relay.journal.lock import lock
from relay.journal.parked import VERSION
from relay.journal.seen import FOLDER_NAME as SEEN
from relay.journal.segment import segment_files

OLDEST_VERSION: Final = 7
"""Of the tables: since then they know the journal as they do today."""
NO_EVENTS: Final = ("lost+found",)
"""What a journal's folder may hold that is empty: that of a file system's own."""
_OWN: Final = "UPDATE journal_state SET identity = ?, time = max(time, ?), accepted = ?, ahead = 0"


def restore(source: Path, state: Path, path: Path, told: Told) -> tuple[Backup, list[str]]:
    """Make a state folder of the backup in `source`; `path` is the setting `journal.path`.

    Return what there is, and which of its segments were damaged in the backup already. Raises OSError (no complete
    backup, one of another version, a state folder that is not empty, or that a relay runs with), sqlite3.Error."""
    found = read_backup(source)
    if not found.complete:
        raise OSError(f"{source} is not complete: run relay backup {source} again, with the state folder that it is of")
    for part in found.workers:
        place = worker_folder(source, part.worker)
        _check_version(place / DATABASE)
        _check_empty(place, worker_folder(state, part.worker), journal_folder(state, path, part.worker))
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    held, problems = lock(state), list[str]()
    try:
        for part in found.workers:
            folder, journal = worker_folder(state, part.worker), journal_folder(state, path, part.worker)
            problems += _restore(part, worker_folder(source, part.worker), folder, journal, told)
            _give([folder, *folder.rglob("*"), journal, *journal.iterdir()], state)
    finally:
        os.close(held)
    return found, problems


def _check_version(database: Path) -> None:
    """Raise OSError if this relay cannot read the tables."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    if not OLDEST_VERSION <= version <= VERSION:
        raise OSError(
            f"{database} is of {'a newer' if version > VERSION else 'a much older'} relay: use that to restore"
        )


def _check_empty(source: Path, folder: Path, journal: Path) -> None:
    """Raise OSError if there is anything that relay keeps."""
    names = [
        DATABASE,
        f"{DATABASE}-wal",
        CUTS,
        SEEN,
        FOLDER_NAME,
        *(path.relative_to(source).parts[0] for path in other_databases(source)),
    ]
    there = [folder / name for name in names if (folder / name).exists()]
    if journal.is_dir():
        there += [one for one in journal.iterdir() if one.name not in NO_EVENTS]
    if there:
        raise OSError(f"{there[0]} is there: a backup is only restored where there is nothing that relay keeps")


def _restore(part: Part, source: Path, folder: Path, journal: Path, told: Told) -> list[str]:
    """Restore one worker; return which segments are as damaged as they were."""
    identity = uuid4().hex
    for place in (folder, journal):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy(source / DATABASE, folder / DATABASE, told)
    now = time.time()
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        db.execute(_OWN, (identity, now, now))
    for path in segment_files(source / JOURNAL):
        _copy(path, journal / path.name, told)
    for path in other_databases(source):
        _copy(path, folder / path.relative_to(source), told)
    for path in sorted((source / CUTS).glob("*")):
        (folder / CUTS).mkdir(mode=0o700, exist_ok=True)
        (folder / CUTS / path.name).write_bytes(_of_journal(path.read_bytes(), part.identity, identity))
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


def _of_journal(data: bytes, old: str, new: str) -> bytes:
    """The cuts of one journal, whose first line ends with its identity, as those of another."""
    first, end, rest = data.partition(b"\n")
    return first.removesuffix(old.encode()) + new.encode() + end + rest if first.endswith(old.encode()) else data


def _give(made: Sequence[Path], state: Path) -> None:
    """Have what root has made belong to whom the state folder belongs."""
    if os.geteuid() == 0:
        about = state.stat()
        for path in made:
            os.chown(path, about.st_uid, about.st_gid, follow_symlinks=False)
