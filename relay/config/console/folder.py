"""The folders of the configuration, and the console's folder among them.

The console keeps its files in `conf.d` of the state folder. They count only if another folder says
`console.launch = true`, and they neither hold nor hide [console]: a console or daemon that somebody broke into cannot
give itself rights. `--conf DIR` has no such folder: the console's files are in DIR.
"""

import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from msgspec import Struct, structs

from relay.config.files import NONE_PROPOSED, Document, FoundFiles, Text, counts, read_files
from relay.config.merge import Merged
from relay.config.mistake import Mistake
from relay.words import format_count

CONF_FOLDERS: Final = (Path("/etc/relay/conf.d"), Path("/run/relay/conf.d"), Path("/usr/lib/relay/conf.d"))
CONSOLE_FOLDER: Final = "conf.d"
"""The name of the console's folder in the state folder."""
TABLE: Final = "console"


class ConfFolders(Struct, frozen=True):
    """The folders of the configuration."""

    others: Sequence[Path]
    """The folders of admins and packages."""
    console: Path | None = None
    """The console's folder, which comes before the last of the others. None: the console's files are in `others[0]`."""

    @property
    def in_order(self) -> Sequence[Path]:
        """All folders. The first folder wins where several have a file of the same name."""
        return self.others if self.console is None else [*self.others[:-1], self.console, *self.others[-1:]]

    @property
    def of_console(self) -> Path:
        """The folder in which the console writes its files."""
        return self.console or self.others[0]

    def is_of_console(self, file: Path | str) -> bool:
        """Return whether a file, as mistakes and origins name it, is in the console's own folder."""
        return self.console is not None and Path(file).is_relative_to(self.console)


def find_folders(conf: Path | None, state: Path) -> ConfFolders:
    """Return the folders of the configuration. `conf`: the folder given with --conf, if any."""
    return ConfFolders([conf]) if conf else ConfFolders(CONF_FOLDERS, state / CONSOLE_FOLDER)


def read_folders(
    folders: ConfFolders, proposed: Mapping[Path, str | None] = NONE_PROPOSED, *, must_read: bool = True
) -> FoundFiles:
    """Read all files that count. `proposed`: as in `FoundFiles`. `must_read`: whether it is a mistake that this user
    may not read the console's folder."""
    beside = {path: text for path, text in proposed.items() if not folders.is_of_console(path)}
    others = read_files(folders.others, beside)
    if folders.console is None:
        return others
    if not _is_launched(others):
        others.warnings.extend(_find_uncounted_files(folders, others))
        return others
    if not (must_read or _may_list(folders.console)):
        reason = "may not be read by this user: the files of the console count, and are left out here; ask as root"
        others.warnings.append(Mistake(file=str(folders.console), reason=reason))
        others.unread.append(str(folders.console))
        return others
    reading = read_files(folders.in_order, proposed, folders.console)
    reading.mistakes.extend(_find_hidden_tables(others, reading))
    reading.warnings.extend(_find_other_writers(folders.console))
    return structs.replace(reading, documents=[_without_table(one, folders, reading) for one in reading.documents])


def find_written_folder(folders: ConfFolders, proposed: Mapping[Path, str | None] = NONE_PROPOSED) -> Path:
    """Return the folder for new files: the console's if its files count by what is on disk, else the first folder.

    `proposed`: as in `FoundFiles`.
    """
    return folders.of_console if _is_launched(read_files(folders.others, proposed)) else folders.others[0]


def find_changed_files(folders: ConfFolders, texts: Sequence[Text]) -> list[str]:
    """Return the files that differ from these texts, are new or missing, or cannot be read any more."""
    before, reading = {one.name: (one.base, one.text) for one in texts}, read_folders(folders)
    now = {one.name: (one.base, one.text) for one in reading.documents} | dict.fromkeys(reading.unread)
    return sorted(name for name in before.keys() | now.keys() if before.get(name, ()) != now.get(name, ()))


def read_stamps(folders: ConfFolders) -> list[tuple[str, int, int, int]]:
    """Return path, time, size and inode of each file. Skips files that vanish meanwhile. Raises OSError."""
    found = []
    for path in (path for folder in folders.in_order for path in sorted(folder.glob("**/*.toml"))):
        with suppress(FileNotFoundError):
            about = path.stat()
            found.append((str(path), about.st_mtime_ns, about.st_size, about.st_ino))
    return found


def _is_launched(reading: FoundFiles) -> bool:
    merged = Merged()
    for document in reading.documents:
        merged.add(document)
    return merged.get_tables(TABLE).get("launch") is True


def _may_list(folder: Path) -> bool:
    try:
        next(folder.iterdir(), None)
    except PermissionError:
        return False
    except OSError:
        pass  # reading the files tells it
    return True


def _find_uncounted_files(folders: ConfFolders, others: FoundFiles) -> Iterator[Mistake]:
    """Notice files in the console's folder that do not count."""
    found: list[Path] = []
    with suppress(OSError):
        found = [path for path in folders.of_console.rglob("*.toml") if counts(path.name) and path.is_file()]
    if found and not others.unread:  # else launch may be in what could not be read
        reason = (
            f"has {format_count(len(found), 'file')} without effect: files of the console count with launch = true"
            f" under [console] in another folder, such as {folders.others[0]}"
        )
        yield Mistake(file=str(folders.console), reason=reason)


def _find_hidden_tables(others: FoundFiles, reading: FoundFiles) -> Iterator[Mistake]:
    """Find files with [console] that a file of the console hides."""
    left = {document.name for document in reading.documents} | {*reading.unread}
    for document in others.documents:
        if TABLE in document.table and document.name not in left:
            reason = f"a file of the console hides it, with [{TABLE}] in it: rename the file in {reading.spelled_out}"
            yield document.make_mistake((TABLE,), reason, None, private=False)


def _without_table(document: Document, folders: ConfFolders, reading: FoundFiles) -> Document:
    """Return a document; without [console], and with a mistake, if it is the console's."""
    if TABLE not in document.table or not folders.is_of_console(document.name):
        return document
    reason = f"the console cannot set this itself: write [{TABLE}] into a file of {folders.others[0]}"
    reading.mistakes.append(document.make_mistake((TABLE,), reason, None, private=False))
    return replace(document, table={key: value for key, value in document.table.items() if key != TABLE})


def _find_other_writers(folder: Path) -> Iterator[Mistake]:
    """Find files and folders that somebody beside the owner of the state folder, and root, may write."""
    try:
        owner = folder.parent.stat().st_uid
        found = [(path, path.stat()) for path in (folder, *sorted(folder.rglob("*"))) if path.exists()]
    except OSError:
        return  # reading the files tells it
    for path, about in found:
        everybody = stat.S_IWOTH if stat.S_ISDIR(about.st_mode) else 0  # of a file it is a mistake already
        if stat.S_ISCHR(about.st_mode):
            continue
        if about.st_uid not in (owner, 0):
            yield Mistake(
                file=str(path),
                reason=f"its owner can change the configuration: chown --reference={folder.parent} {path}",
            )
        elif about.st_mode & (stat.S_IWGRP | everybody):
            yield Mistake(file=str(path), reason=f"others than its owner may write it: chmod go-w {path}")
