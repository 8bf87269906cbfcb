"""Files of conf.d that nobody should write: each is refused with a sentence, soon.

Looked at as well: files of secrets, plugins in the drop-in folder, TLS files (they are read as secrets).
"""

import os
import socket
import time
from pathlib import Path

import pytest

from relay.api import Secret
from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry

SOURCE = '[source.in]\ntype = "json"\npath = "/in"\nallow = ["unix"]\n'
ARCHIVE = '[connector.archive]\ntype = "file"\npath = "a.ndjson"\n'
SOON_S = 60
"""Seconds of CPU: far more than it takes, and far less than what grows with a power of the size."""
MANY = 1000


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover(())


def told(folder: Path, registry: Registry) -> list[str]:
    try:
        return [*map(str, load([folder], registry).warnings)]
    except ConfigError as error:
        return [*map(str, error.mistakes)]


def test_a_fifo_socket_device_or_folder_is_no_file(tmp_path: Path, registry: Registry, monkeypatch) -> None:
    (tmp_path / "a.toml").write_text(SOURCE + ARCHIVE)
    os.mkfifo(tmp_path / "b.toml")
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("c.toml")
    (tmp_path / "d.toml").symlink_to("/dev/zero")
    (tmp_path / "e.toml").mkdir()
    assert told(tmp_path, registry) == [
        "b.toml: is a FIFO, not a file",
        "c.toml: is a socket, not a file",
        "d.toml: is a device, not a file",
        "e.toml: is a folder, not a file",
    ]


def test_a_huge_file_is_refused_unread(tmp_path: Path, registry: Registry) -> None:
    with (tmp_path / "a.toml").open("wb") as file:
        file.truncate(1 << 40)
    assert told(tmp_path, registry) == ["a.toml: is larger than 1,048,576 bytes"]


def test_a_byte_order_mark_is_left_out(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf" + (SOURCE + ARCHIVE + "rate = -1\r\n").encode())
    assert told(tmp_path, registry) == ["a.toml:8: connector.archive.rate: must be at least 0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = " + "[" * 5000 + "]" * 5000, "a.toml: is nested more than 32 levels deep"),
        ("x = " + "{a=" * 5000 + "1" + "}" * 5000, "a.toml: is nested more than 32 levels deep"),
        ("[" + ".".join("a" * 150) + "]", "a.toml: is nested more than 32 levels deep"),
        ("\n" + "a." * 500_000 + "a = 1", "a.toml:2: a key of more than 200 parts"),
        ("\n[" + '"a" . ' * 80_000 + "a]", "a.toml:2: a key of more than 200 parts"),
        (
            f"[filter.r]\ntype = 'redact'\nfields = ['ok', '{'a.' * 3000}a']",
            "a.toml:3: filter.r.fields[1]: a path has at most 100 parts, this one has 3,001",
        ),
        ('\nx = ["a\u2028b\u2028c",', "a.toml:2: not TOML: Invalid value (at end of document)"),
        ("# number\nrate = " + "1" * 5000, "a.toml:2: a number of more than 4,300 digits"),
        ("[journal]\nmax_size = 0x" + "f" * 5000, "a.toml:2: journal.max_size: is no integer of 64 bits"),
        (f"[journal]\nmax_size = '{'9' * 5000}MiB'", "a.toml:2: journal.max_size: a size is at most 8388607TiB"),
        (f"[journal]\nretention = '{'9' * 20}w'", "a.toml:2: journal.retention: a duration is at most 36500d"),
    ],
)
def test_what_cannot_be_read_or_used_is_one_mistake(tmp_path: Path, registry: Registry, text, expected) -> None:
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    (tmp_path / "b.toml").write_text(SOURCE + ARCHIVE)
    began = time.process_time()
    assert told(tmp_path, registry) == [expected]
    assert time.process_time() - began < SOON_S


def repeated(text: str) -> str:
    return "".join(text.replace("#", str(number)) for number in range(MANY))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (
            SOURCE + ARCHIVE + "events = [" + repeated('\n  "Product Viewed #",') + "]",
            MANY + 1,
        ),  # and an archive without a limit
        (SOURCE + repeated('[connector.c#]\ntype = "file"\npaht = "a"\n'), 2 * MANY),
        (SOURCE + repeated('[connector.c#]\ntype = "flie"\n'), MANY),
        (SOURCE + ARCHIVE + repeated("key# = 1\n"), MANY),
        (SOURCE + ARCHIVE + repeated("[tabel#]\n"), MANY),
        (
            SOURCE
            + ARCHIVE
            + "filters = ["
            + repeated("'filter_#',")
            + "]\n"
            + repeated('[filter.fliter_#]\ntype="x"\n'),
            2 * MANY,
        ),
        (repeated('[source.s#]\ntype="json"\npath="/s#"\ntokens=[{env="RELAY_NO_#"}]\n') + ARCHIVE, MANY),
    ],
    ids=["event types", "same mistake", "no such type", "unknown keys", "unknown tables", "filters", "secrets"],
)
def test_thousands_of_mistakes_are_told_in_seconds(tmp_path: Path, registry: Registry, text, number) -> None:
    """Looked at as well: `names` of `heap`, `erasure.on`, `relay events`, start and reload (test_reload.py)."""
    (tmp_path / "a.toml").write_text(text)
    began = time.process_time()
    found = told(tmp_path, registry)
    assert time.process_time() - began < SOON_S
    assert len(found) == number


def test_a_secret_or_a_plugin_that_is_no_file_is_told(tmp_path: Path) -> None:
    for name in ("token", "plugin.py"):
        os.mkfifo(tmp_path / name)
    assert Secret("file", str(tmp_path / "token")).problem is not None
    assert str(Secret("file", "/dev/zero").problem).endswith("it is a device, not a file")
    (broken,) = [info for info in Registry.discover([tmp_path]).list_plugins() if info.name == "plugin"]
    assert broken.reason == "NotPlain: is a FIFO, not a file"
