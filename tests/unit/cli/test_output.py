"""What commands write to a terminal, a full disk, a pipe that nobody reads, and in an encoding that lacks letters.

Looked at as well: standard error, plugins' commands (all write through the same streams), streams that are closed at
the start.
"""

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from relay.api import Kind
from relay.journal.journal import Journal
from relay.state.database import StateDatabase
from relay.store import Parked
from relay.store.log import JournalLimits
from relay.words import escape
from tests.forks import Forks, exit_code

CLEAR, TURNED = "\x9b2J\x07", "\u202e"
SOURCE = '[source.s]\ntype = "json"\npath = "/s"\nallow = ["unix"]\n'
FULL = Path("/dev/full")


def run(*words: str | Path, env: dict[str, str] | None = None, shell: str = "") -> CompletedProcess[bytes]:
    """A command in a new interpreter; `shell` redirects its streams."""
    command: list[str] = [sys.executable, "-m", "relay", *map(str, words)]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(command, env=os.environ | (env or {}), timeout=60, check=False, capture_output=True)


class Commands:
    """Runs commands in processes that need not import relay first."""

    def __init__(self, forks: Forks) -> None:
        self._forks = forks

    def __call__(
        self, *words: str | Path, stdout: int | None = None, folder: Path | None = None
    ) -> CompletedProcess[bytes]:
        return self._forks.run(*map(str, words), stdout=stdout, folder=folder)

    def unread(self, *words: str | Path, folder: Path | None = None) -> CompletedProcess[bytes]:
        """A command whose output nobody reads."""
        reading, writing = os.pipe()
        os.close(reading)
        try:
            return self(*words, stdout=writing, folder=folder)
        finally:
            os.close(writing)

    def on_terminal(self, *words: str | Path) -> bytes:
        """What a command writes to a terminal."""
        mine, its = pty.openpty()
        shown = b""
        news = self._forks.order([*map(str, words)], its, its, Path.cwd())
        os.close(its)
        with news, os.fdopen(mine, "rb", buffering=0) as reading:
            with suppress(OSError):  # the other end is closed
                while part := reading.read(4096):
                    shown += part
            exit_code(news)
        return shown


@pytest.fixture
def command(relay_forks: Forks) -> Commands:
    return Commands(relay_forks)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    key = json.dumps(f"é{CLEAR}{TURNED}")
    (folder / "a.toml").write_text(f'{SOURCE}[connector.c]\ntype = "stdout"\n{key} = 1 # {TURNED}\n')
    return folder


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 漢 😀 a\tb\n", "é 漢 😀 a\tb\n"),
        ("\x1b[31m\r\x07\x7f\x9b\0", "\\u001b[31m\\u000d\\u0007\\u007f\\u009b\\u0000"),
        ("\u202a\u202b\u202c\u202d\u202e", "\\u202a\\u202b\\u202c\\u202d\\u202e"),
        ("\u2066\u2067\u2068\u2069\u200e\u200f\u061c", "\\u2066\\u2067\\u2068\\u2069\\u200e\\u200f\\u061c"),
        ("\u2028\u2029\ufeff\u200b\udcff", "\\u2028\\u2029\\ufeff\\u200b\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_commands_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_a_mistake_does_not_command_the_terminal(conf: Path, command: Commands) -> None:
    found = command("check", conf)
    assert found.returncode == 78
    assert f"connector.c.é{escape(CLEAR + TURNED)}: unknown key".encode() in found.stdout
    assert CLEAR.encode() not in found.stdout
    assert TURNED.encode() not in found.stdout
    (mistake,) = json.loads(command("check", conf, "--json").stdout)["mistakes"]
    assert mistake["key"] == f"connector.c.é{CLEAR}{TURNED}"
    started = command("run", "--conf", conf, "--state", conf)
    assert (started.returncode, CLEAR.encode() in started.stderr) == (78, False)


def test_a_letter_that_the_encoding_lacks_is_escaped(conf: Path) -> None:
    found = run("check", conf, env={"PYTHONIOENCODING": "ascii"})
    assert found.returncode == 78
    assert rb"connector.c.\xe9\u009b2J\u0007\u202e: unknown key" in found.stdout


@pytest.mark.parametrize("words", [["config", "schema"], ["--help"], ["check", "--json", "conf.d"]])
@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_is_an_error_of_one_line(conf: Path, words: list[str], command: Commands) -> None:
    with FULL.open("wb") as full:
        found = command(*words, stdout=full.fileno(), folder=conf.parent)
    assert (found.returncode, found.stderr) == (1, b"Error: No space left on device\n")


def test_what_the_system_refuses_is_told_without_its_number(tmp_path: Path, command: Commands) -> None:
    (tmp_path / "file").touch()
    found = command("restore", tmp_path / "file" / "backup", "--state", tmp_path / "new")
    assert (found.returncode, found.stderr.count(b"\n"), b"[Errno" in found.stderr) == (1, 1, False)
    assert found.stderr.endswith(b"Not a directory\n")


@pytest.mark.parametrize("words", ["parked list", "parked export", "audit --json", "journal dump"])
@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
async def test_what_is_read_from_state_is_not_told_twice_to_be_lost(
    tmp_path: Path, words: str, command: Commands
) -> None:
    journal, state = Journal(tmp_path / "journal", JournalLimits(1 << 30, 3600), 0), StateDatabase(tmp_path)
    await journal.append([Kind("s", "a.b", "id", "time")], [b"{}"])
    await journal.close()
    await state.park([Parked("s", None, None, None, "unreadable", "why", 0, b"{}")])
    state.close()
    with FULL.open("wb") as full:
        found = command(*words.split(), "--state", tmp_path, stdout=full.fileno())
    said = [line for line in found.stderr.splitlines() if b"exported" not in line]
    assert (found.returncode, said) == (1, [b"Error: No space left on device"])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["config", "schema"], 0),
        ([], 0),
        (["--help"], 0),
        (["run", "--help"], 0),
        (["events", "--json"], 0),
        (["check", "conf.d"], 78),
        (["status", "--state", "nowhere"], 1),
    ],
)
def test_a_pipe_that_nobody_reads_is_no_error(conf: Path, words: list[str], code: int, command: Commands) -> None:
    found = command.unread(*words, folder=conf.parent)
    assert found.returncode == code
    assert (found.stderr == b"") is ("status" not in words)  # it says there that no relay runs


def test_a_command_makes_its_change_even_if_nobody_reads_its_output(tmp_path: Path, command: Commands) -> None:
    assert command.unread("init", tmp_path / "new").returncode == 0
    assert (tmp_path / "new" / "00-relay.toml").exists()


@pytest.mark.parametrize(
    "closed", [*(pytest.param(one, marks=pytest.mark.long) for one in ("<&-", "2>&-")), ">&-", "<&- >&- 2>&-"]
)
def test_streams_that_are_closed_at_the_start_are_no_error(conf: Path, closed: str) -> None:
    found = run("check", conf, shell=closed)
    assert found.returncode == 78
    assert found.stderr == b""


async def test_what_is_exact_elsewhere_does_not_command_a_terminal(tmp_path: Path, command: Commands) -> None:
    """Looked at: the bytes of events, and text of --json."""
    body = json.dumps({"id": "1", "event_type": "a.b", "pad": f"é{CLEAR}{TURNED}"}, ensure_ascii=False).encode()
    journal, state = Journal(tmp_path / "journal", JournalLimits(1 << 30, 3600), 0), StateDatabase(tmp_path)
    await journal.append([Kind("s", "a.b", "id", "time")], [body])
    await journal.close()
    await state.park([Parked("s", None, None, None, "unreadable", f"no {TURNED}", 0, body)])
    state.close()
    where = ["--state", tmp_path, "--conf", tmp_path / "none"]
    assert body in command("journal", "dump", *where).stdout
    evil = [letter.encode() for letter in (*CLEAR, TURNED) if not letter.isprintable()]
    for words in ("journal dump", "trace 1", "trace 1 --json"):
        shown = command.on_terminal(*words.split(), *where)
        assert b"a.b" in shown, words
        assert not [letter for letter in evil if letter in shown], words
    for words in ("parked export -", "parked list", "parked list --json"):
        shown = command.on_terminal(*words.split(), "--state", tmp_path)
        assert b"no" in shown or b"a.b" in shown, words
        assert not [letter for letter in evil if letter in shown], words
    (line,) = [line for line in command.on_terminal("journal", "dump", *where).splitlines() if line.startswith(b"{")]
    assert json.loads(line)["event"]["pad"] == f"é{CLEAR}{TURNED}"


def test_what_keeps_relay_from_starting_is_an_error_for_the_journal(conf: Path, relay_forks: Forks) -> None:
    shell = 'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$@"'
    command = [*relay_forks.command, "run", "--conf", str(conf), "--state", str(conf)]
    found = subprocess.run(["sh", "-c", shell, "sh", *command], capture_output=True, timeout=60, check=False)
    assert found.returncode == 78
    lines = found.stderr.splitlines()
    assert len(lines) > 2
    assert all(line.startswith(b"<3>") for line in lines), lines
