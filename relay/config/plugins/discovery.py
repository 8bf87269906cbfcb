"""Finds plugins: drop-in files and folders, and the entry points of installed distributions."""

import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

from msgspec import Struct

from relay.api.internal import NotPlain, check_plain, read_plain
from relay.plugin_places import OWN, Key, find_drop_ins, find_entry_points

Stamp = Mapping[str, bytes]
MOST_BYTES: Final = 64 << 20


class Candidate(Struct, frozen=True):
    """A plugin that was found but not loaded yet. `find_place` and `load` may raise anything."""

    name: str
    origin: str
    version: str
    find_place: Callable[[], Path | None]
    """Finds its file, or the folder of a package."""
    load: Callable[[], ModuleType]
    is_drop_in: bool
    provides: Sequence[Key] = ()
    """What it provides, if its package says so."""


def find_candidates(folders: Sequence[Path]) -> Iterator[Candidate]:
    """Find all plugins in the order of precedence.

    Drop-ins come first, by folder and name, then relay's own, then those of packages, by package and plugin.
    """
    for name, path in find_drop_ins(folders).items():
        yield Candidate(name, str(path), "", partial(Path, path), partial(_load_drop_in, path), is_drop_in=True)
    yield from find_installed()


def find_installed() -> Iterator[Candidate]:
    """Find the plugins of installed distributions. Reads the entry points of all of them."""
    points = find_entry_points()
    # once per distribution: its metadata is read and parsed whole, README and all
    about = {one: one.metadata for one in {point.dist for point in points} if one}
    installed = [
        (about[point.dist]["Name"], about[point.dist]["Version"], point) if point.dist else (point.value, "", point)
        for point in points
    ]
    for origin, version, point in sorted(
        installed, key=lambda one: (one[0] != OWN, re.sub(r"[-_.]+", "-", one[0]).lower(), one[2].name)
    ):
        find_place, provides = partial(_find_place, point.module), points[point]
        yield Candidate(point.name, origin, version, find_place, point.load, is_drop_in=False, provides=provides)


def _load_drop_in(path: Path) -> ModuleType:
    """Load a module from its file, under a name that no installed package can have."""
    for part in (path.parent, path, *path.rglob("*")):
        # Refuse special files, and code that another user could have written
        about = part.stat()
        if not stat.S_ISDIR(about.st_mode):
            check_plain(about.st_mode)
        if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{part} can be written by others: chmod go-w {part}")
        if about.st_uid not in (0, os.geteuid()):
            raise PermissionError(f"{part} belongs to neither root nor the user that runs relay")
    name = f"relay_dropin_{path.stem}"
    spec = spec_from_file_location(name, path / "__init__.py" if path.is_dir() else path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    for loaded in [loaded for loaded in sys.modules if loaded == name or loaded.startswith(f"{name}.")]:
        del sys.modules[loaded]
    module = sys.modules[name] = module_from_spec(spec)  # before it runs: dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _find_place(module: str) -> Path | None:
    """Return the file of a module, or the folder of a package. Imports the package around the module alone."""
    spec = find_spec(module)
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    return Path(spec.origin) if spec.submodule_search_locations is None else Path(spec.origin).parent


def read_stamp(path: Path) -> Stamp:
    """Return a stamp of the Python files there, which changes with them."""
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    stamp = {}
    for file in files:
        try:
            about = file.stat()
            stamp[str(file)] = _digest(file, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        except (OSError, NotPlain):
            stamp[str(file)] = b""
    return stamp


@lru_cache(maxsize=1000)
def _digest(file: Path, *_: int) -> bytes:
    """Return a digest of a file. The rest changes with the file: each start reads the stamps twice."""
    return hashlib.sha256(read_plain(file, MOST_BYTES)).digest()


def digest_stamp(stamp: Stamp) -> str:
    """Return a digest of a stamp."""
    return hashlib.sha256(b"".join(b"%s\0%s" % (file.encode(), digest) for file, digest in stamp.items())).hexdigest()
