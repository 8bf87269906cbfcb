"""Secrets that somebody pastes: once into a file of the state folder, and nowhere else."""

import os
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from relay.config import HIDDEN, KeyPath, explain_plain_secret, hide_in_text, is_reference, is_secret
from relay.console.edits.conf import ConfView
from relay.console.edits.permission import find_bar
from relay.console.edits.record import FOLDER, Launches
from relay.console.edits.write import make_folder, sync_folder, write_new
from relay.console.security.refusal import ConsoleRefusal
from relay.console.visit import Visit
from relay.threads import ADMIN
from relay.words import describe_error

SECRETS: Final = "secrets"
"""The folder in the state folder."""
PASTED: Final = "pasted"
"""The folder in the console's own folder with a note for each file that the console has written."""
MOST_BYTES: Final = 64 << 10
UNUSED_S: Final = 86400.0
"""Seconds that a pasted secret may wait for its launch."""
MOST_NAME: Final = 100
SHORTEST: Final = 4
"""Characters of a value that is hidden wherever it stands. A shorter value is hidden behind its key alone."""
PASSWORD: Final = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


def name_folder(state: Path) -> Path:
    """Return the folder of pasted secrets."""
    return state.absolute() / SECRETS


def find_flaw(secret: str) -> str | None:
    """Return why a secret cannot be pasted; None if it can."""
    if not secret.strip():
        return "is empty"
    if not secret.isprintable():
        return "holds a line break or another control character: paste it without"
    if len(secret.encode(errors="surrogatepass")) > MOST_BYTES:
        return "is larger than 64 KiB"
    return None


async def keep(visit: Visit, view: ConfView, hint: str, secret: str) -> Path:
    """Write a secret that a user pastes to a new file; return its path.

    `hint`: what the file is named after, such as "heap-token". Raises ValueError with a sentence for the user, and
    ConsoleRefusal (403) for a user who may not launch.
    """
    if barred := await ADMIN.run(find_bar, visit, view):
        raise ConsoleRefusal(403, f"a secret is kept for a launch alone: {barred}")
    try:
        return await ADMIN.run(write_secret, visit.console.options.state, hint, secret)
    except OSError as error:
        raise ValueError(f"cannot be kept: {describe_error(error)}") from None


def write_secret(state: Path, hint: str, secret: str) -> Path:
    """Write a secret to a new file that only its owner reads; return its path. Blocking.

    `hint`: what the file is named after, such as "heap-token". Raises ValueError with a sentence without the secret,
    OSError.
    """
    if flaw := find_flaw(secret):
        raise ValueError(flaw)
    folder, notes = name_folder(state), state / FOLDER / PASTED
    for one in (folder, notes.parent, notes):
        if not one.exists():
            make_folder(one)
            one.chmod(0o700)
    name = re.sub(r"[^a-z0-9_-]+", "-", hint.lower()).strip("-")[:MOST_NAME] or "secret"
    path = next(one for one in _list_names(folder, name) if not os.path.lexists(one))
    hidden = path.with_name(f".{path.name}.console-new")
    write_new(hidden, secret.encode())
    try:
        hidden.chmod(0o600)
        write_new(notes / path.name, _read_stamp(hidden).encode())
        os.link(hidden, path)  # fails if somebody else has made such a file meanwhile
        sync_folder(folder)
    finally:
        hidden.unlink(missing_ok=True)
    return path


def _list_names(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    number = 2
    while True:
        yield folder / f"{name}-{number}"
        number += 1


def remove_unused(state: Path, view: ConfView) -> None:
    """Remove pasted secrets that neither conf.d nor a launch names. Blocking. Raises OSError.

    A file that the console has not written stays, and so does everything while a file of conf.d cannot be read.
    """
    notes = state / FOLDER / PASTED
    if not notes.exists() or any(one.text is None for one in view.files):
        return
    launches = Launches(state).list_newest()
    texts = [one.text or "" for one in view.files]
    texts += [text or "" for one in launches for text in (*one.before.values(), *one.after.values())]
    for note in notes.iterdir():
        if f"{SECRETS}/{note.name}" in "\n".join(texts) or time.time() - note.stat().st_mtime < UNUSED_S:
            continue
        path = state / SECRETS / note.name
        with suppress(FileNotFoundError):
            if _read_stamp(path) == note.read_text():
                path.unlink()
        note.unlink()


def _read_stamp(path: Path) -> str:
    """Return what tells whether a file is still the one that the console wrote. Raises OSError."""
    about = path.stat()
    return f"{about.st_ino} {about.st_mtime_ns}"


def find_plain_secrets(table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield the path, the value and a reason for each text in tables that looks like a secret."""
    for path, value in _list_texts(table, ()):
        if (reason := explain_plain_secret(path, value)) is not None:
            yield path, value, reason
        elif is_secret(path):
            yield path, value, "looks like a secret in plain text: refer to a credential, a file or a variable"
        elif PASSWORD.search(value):
            yield path, value, "holds a password in a URL: the console writes no secret into conf.d"


def find_new_secrets(text: str, before: str | None) -> list[tuple[KeyPath, str, str]]:
    """Return what `find_plain_secrets` finds in the text of a file, and not in the text before.

    Text that is not TOML has none: relay says what is wrong with it, without the text.
    """
    known = {(path, value) for path, value, _ in find_plain_secrets(parse(before or "") or {})}
    return [one for one in find_plain_secrets(parse(text) or {}) if one[:2] not in known]


def hide_plain_secrets(text: str) -> str:
    """Return the text of a file without what looks like a secret."""
    values = {value for _, value, _ in find_plain_secrets(parse(text) or {}) if len(value) >= SHORTEST}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return hide_in_text(text)


def parse(text: str) -> Mapping[str, Any] | None:
    """Return the tables of a text; None if it is not TOML. Any part of such a text may be a secret."""
    try:
        return tomllib.loads(text)
    except (RecursionError, ValueError):
        return None


def _list_texts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if is_reference(value):
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _list_texts(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _list_texts(inner, (*path, number))
    elif isinstance(value, str) and value:
        yield path, value
