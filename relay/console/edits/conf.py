"""conf.d as it lies on disk now, for the pages that change it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from relay.api.internal import NotPlain, read_plain
from relay.config import (
    MOST_BYTES,
    ConfFolders,
    Document,
    KeyPath,
    Merged,
    Mistake,
    counts,
    find_written_folder,
    name_file,
    read_folders,
)
from relay.words import describe_error

MARK: Final = "# Written by the console of relay."
"""The first line of the console's files. With --conf DIR, a file without this line is a person's."""


@dataclass(frozen=True, slots=True)
class ConfFile:
    """A file in a folder of the configuration, whether it counts or not."""

    path: Path
    name: str
    """Its name in its folder: "60-heap.toml" or "60-heap.toml.d/50-console.toml"."""
    text: str | None
    """None: the text cannot be read."""
    problem: str = ""
    """Why the file cannot be read, or is not UTF-8."""

    @property
    def digest(self) -> str:
        """A short digest of the text."""
        return digest(self.text)


def digest(text: str | None) -> str:
    """Return a short digest of the text of a file; "-" without a text."""
    return "-" if text is None else blake2b(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True)
class ConfView:
    """conf.d as it lies on disk. What is broken is left out, and `mistakes` says so."""

    folders: ConfFolders
    target: Path
    """The folder of the console's files. Where the console's folder does not count, the first folder."""
    files: Sequence[ConfFile]
    """All files of all folders, also those that are masked or broken."""
    documents: Sequence[Document]
    """The files that count, in their order."""
    mistakes: Sequence[Mistake]
    """Files that cannot be read."""

    @cached_property
    def launch(self) -> bool:
        """Whether conf.d lets the console change conf.d."""
        return self.merged.get_tables("console").get("launch") is True

    @classmethod
    def read(cls, folders: ConfFolders) -> "ConfView":
        """Read all files. Blocking."""
        files = [*_read_files(folders)]
        texts = {one.path: one.text for one in files if not one.problem}
        found = read_folders(folders, texts, must_read=False)
        return cls(folders, find_written_folder(folders, texts), files, found.documents, found.mistakes)

    @cached_property
    def merged(self) -> Merged:
        """The tables of all files as one."""
        merged = Merged()
        for document in self.documents:
            merged.add(document)
        return merged

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return a table as it is written, with `enabled` and all; None without any."""
        return dict(self.list_tables(kind)).get(name)

    def list_tables(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """List the tables of a kind by name, as they are written. Disabled tables are among them."""
        return self.merged.list_tables(kind)

    def find_place(self, *path: str | int) -> str | None:
        """Return the place of a key's value, as "60-heap.toml:4"; None without any."""
        return self.merged.find_place(path)

    def find_document(self, path: KeyPath) -> Document | None:
        """Return the file with the value of a key; without any, the file that opens its table first."""
        found = (self.merged.origins.get(path[:length]) for length in range(len(path), 1, -1))
        return next((document for document in found if document), None)

    def is_own(self, document: Document) -> bool:
        """Return whether the console may rewrite a file: a person never wrote it."""
        path = Path(document.name)
        paths = [path] if path.is_absolute() else self.find_files(document.name)
        return any(self.is_own_file(one) for one in self.files if one.path == paths[0])

    def name_in_target(self, document: Document) -> str:
        """Return the name of a file of the console in its folder."""
        if self.folders.is_of_console(document.name):
            return Path(document.name).relative_to(self.target).as_posix()
        return document.name

    def read_own(self, name: str) -> str | None:
        """Return the text of a file in the console's folder; None without any. It may be masked."""
        return self.texts.get(name)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """The files that the console may rewrite: the text of each by its name in the folder."""
        return {one.name: one.text for one in self.files if one.text is not None and self.is_own_file(one)}

    def is_own_file(self, file: ConfFile) -> bool:
        """Return whether the console may rewrite a file."""
        is_in_target = file.path == self.target / file.name
        return is_in_target and (self.target == self.folders.console or (file.text or "").startswith(MARK))

    def is_taken(self, kind: str, name: str) -> bool:
        """Return whether a new table cannot have this name: the table or its file is there, masked or not."""
        return name in self.merged.get_tables(kind) or bool(self.find_files(name_file(kind, name)))

    def find_files(self, name: str) -> list[Path]:
        """Return all files with a name, in the order of their folders. The first one counts, or masks the others."""
        return [one.path for one in self.files if one.name == name]

    @cached_property
    def stamps(self) -> Mapping[str, str]:
        """A digest of each file, by its path."""
        return {str(one.path): one.digest for one in self.files}


def _read_files(folders: ConfFolders) -> Iterator[ConfFile]:
    for folder in folders.in_order:
        with suppress(OSError):  # that it cannot be read is among the mistakes
            for path in sorted([*folder.glob("*.toml"), *folder.glob("*.toml.d/*.toml")]):
                name = path.relative_to(folder)
                if all(map(counts, (part.removesuffix(".d") for part in name.parts))) and not path.is_dir():
                    yield _read_file(path, name.as_posix())


def _read_file(path: Path, name: str) -> ConfFile:
    try:
        if path.is_char_device():  # a link to /dev/null masks the name
            return ConfFile(path, name, "")
        content = read_plain(path, MOST_BYTES)
    except OSError as error:
        return ConfFile(path, name, None, describe_error(error))
    except NotPlain as error:
        return ConfFile(path, name, None, str(error))
    try:
        return ConfFile(path, name, content.decode())
    except UnicodeDecodeError:
        return ConfFile(path, name, content.decode(errors="replace"), "is not UTF-8")
