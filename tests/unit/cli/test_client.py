"""Every command that asks a relay that runs says soon that it does not answer; so does one that may not enter the state
folder.

Looked at as well: a stopped daemon (tests/process/test_start.py), a relay that goes away in the middle.
"""

import http.server
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay import client
from relay.cli.client import describe_idle
from relay.cli.commands.running import send
from relay.cli.main import relay as command
from relay.journal import lock
from tests.forks import Forks

ASKING = {
    "status",
    "top",
    "tail",
    "reload",
    "audit",
    "trace x",
    "journal check",
    "journal dump",
    "parked list",
    "parked show 1",
    "parked drop 1",
    "parked replay 1",
    "replay list",
    "replay cancel 1",
    "replay --connector c --yes",
    "erasures list",
    "erasures check --user-id x",
    "erasures request --user-id x",
    "pause c",
    "resume c",
    "forget c --yes",
}
GIVE_UP_CAPABILITIES = """
import ctypes
version_3, no_sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(version_3, no_sets) == 0
"""
"""Python of a process that may enter only what its user may, even as root: capset(2)."""
"""Not even root may go everywhere then."""


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state folder of a relay that takes connections and says nothing."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    monkeypatch.setattr(client, "ALIVE_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("admin.sock")
        listening.listen(1)
        yield tmp_path


@pytest.mark.parametrize("words", sorted(ASKING))
def test_a_relay_that_does_not_answer_is_told_in_a_sentence(silent: Path, words: str) -> None:
    answer = CliRunner().invoke(command, [*words.split(), "--state", str(silent)])
    assert answer.exit_code == 1
    (line,) = answer.output.splitlines()
    assert line.startswith("Error: relay does not answer within 0.05 s: process ")
    assert line.endswith(": it is busy, or held up by a plugin, see its log")


def test_a_relay_whose_queue_is_full_is_told_as_well(silent: Path) -> None:
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for waiting in (first, second):
            waiting.connect("admin.sock")
        answer = CliRunner().invoke(command, ["status", "--state", str(silent)])
    assert (answer.exit_code, answer.output[:37]) == (1, "Error: relay does not answer within 0")


def test_send_does_not_wait_long_for_who_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "ALIVE_S", 0.05)
    monkeypatch.setattr(send, "SLOW_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/currents"
        answer = CliRunner().invoke(command, ["send", "--sample", "users.messages.email.Open", "--url", url])
    assert (answer.exit_code, answer.output) == (
        1,
        f"Error: {url} does not answer within 0.05 s: is relay stopped?\n",
    )


def test_a_state_folder_that_may_not_be_entered_is_told_in_a_sentence(tmp_path: Path, relay_forks: Forks) -> None:
    """Three commands stand for all: for those that ask, for those that look, and for relay itself. The folder, or the
    folder above it, may not be entered."""
    state = tmp_path / "state"
    state.mkdir(mode=0o444)
    (tmp_path / "conf.d").mkdir()
    begins = {
        "audit": (state, f"Error: {state}/admin.sock: Permission denied; be root, or in the group admin.group\n"),
        "accept clock": (
            state / "below",
            f"Error: {state}/below/unfinished-restore may not be read by this user: be root, or the user",
        ),
        f"run --conf {tmp_path / 'conf.d'}": (
            state / "below",
            f"relay cannot start: the state folder {state}/below cannot be used: ",
        ),
    }
    for words, (place, begin) in begins.items():
        done = relay_forks.run(*words.split(), "--state", str(place), before=GIVE_UP_CAPABILITIES)
        assert (done.returncode, done.stdout) == (1, b""), done.stderr
        line = done.stderr.decode().splitlines(keepends=True)[-1]
        said = json.loads(line)["message"] if line.startswith("{") else line
        assert said.startswith(begin)
        assert "[Errno" not in line
        assert ": Permission denied" in line or "may not be read" in line


class _Nobody(http.server.BaseHTTPRequestHandler):
    """A server that knows no path."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("url", "token", "said"),
    [
        ("http://127.0.0.1:{port}", "a\nb", "Error: $RELAY_ADMIN_TOKEN holds no token: a line break, or a character"),
        ("http://127.0.0.1:{port}", "a", "Error: it is no admin API that answers there: name an address of admin."),
        ("https://127.0.0.1:{port}", "a", "Error: TLS: WRONG_VERSION_NUMBER: see the URL and its certificate\n"),
        ("http://127.0.0.1:1", "a", "Error: nobody answers at http://127.0.0.1:1: Connection refused\n"),
        ("http://127.0.0.1:abc", "a", "Usage: "),
        ("http:///x", "a", "Usage: "),
    ],
)
def test_a_url_or_a_token_that_is_wrong_is_told_in_a_sentence(url: str, token: str, said: str) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Nobody) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,)).start()
        words = ["status", "--url", url.format(port=serving.server_port)]
        answer = CliRunner().invoke(command, words, env={"RELAY_ADMIN_TOKEN": token})
        serving.shutdown()
    assert isinstance(answer.exception, SystemExit)
    assert answer.output.startswith(said)


@pytest.mark.parametrize(
    ("url", "token", "is_warned"),
    [
        ("http://relay.invalid:8081", "s3cret", True),
        ("http://relay.invalid:8081", "", False),
        ("https://relay.invalid", "s3cret", False),
        ("http://localhost:1", "s3cret", False),
        ("http://[::1]:1", "s3cret", False),
    ],
)
@pytest.mark.parametrize("words", ["status", "send --sample users.messages.email.Open"])
def test_a_token_that_others_may_read_on_its_way_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, words: str, url: str, token: str, *, is_warned: bool
) -> None:
    monkeypatch.setattr(send, "TRIES", 1)
    name = "RELAY_TOKEN" if "send" in words else "RELAY_ADMIN_TOKEN"
    answer = CliRunner().invoke(command, [*words.split(), "--url", url], env={name: token})
    warning = f"warning: ${name} goes to relay.invalid over plain http, where others may read it: use https://\n"
    assert answer.output.count("plain http") == is_warned
    assert not is_warned or answer.output.startswith(warning)


def test_a_relay_that_does_not_listen_yet_is_named(tmp_path: Path) -> None:
    held = lock(tmp_path)
    try:
        assert describe_idle(tmp_path).startswith(f"relay (process {os.getpid()}) is starting")
    finally:
        os.close(held)
    assert describe_idle(tmp_path).startswith("no relay runs")
