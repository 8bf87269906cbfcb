"""relay for those who run it: from elsewhere by a token, as members of a group, in scripts and on small terminals."""

import asyncio
import fcntl
import getpass
import grp
import http.server
import json
import os
import pty
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.admin import server
from relay.cli.main import relay as cli
from relay.testing import Answer, Destination, make_event
from tests.daemon import Daemon
from tests.forks import Forks

SOURCE = '[source.braze]\ntype="currents"\npath="/currents"\n'
ADMIN = '[admin]\nlisten = "127.0.0.1:0"\ntokens = [{ env = "ADMIN" }]\n'
FILE = '[connector.archive]\ntype="file"\npath="out.ndjson"\n'
NOBODY = 65534


def relay(*words: object, **env: str) -> tuple[int, str]:
    """A command in this process, which is not the daemon's."""
    result = CliRunner().invoke(cli, [*map(str, words)], env=env)
    return result.exit_code, result.output


async def send(daemon: Daemon, *events: bytes) -> None:
    assert (await daemon.post(b'{"events":[%s]}' % b",".join(events)))[0] == 202


def own_group() -> str:
    """A group that the daemon may give its socket to; not the one that it has anyhow, if that can be."""
    others = [one.gr_name for one in grp.getgrall() if one.gr_gid != os.getgid()]
    return others[-1] if os.geteuid() == 0 else grp.getgrgid(os.getgid()).gr_name


async def test_commands_reach_a_relay_by_its_url_with_a_token(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN", "s3cret")
    daemon.configure("10-source", SOURCE + FILE)
    daemon.configure("15-admin", ADMIN)
    await daemon.start()
    await send(daemon, make_event(), b"7")
    await daemon.settled("archive", 1)
    (told,) = daemon.logged("relay runs")
    url = next(one for one in told["admin"] if one.startswith("http"))
    known, elsewhere = {"RELAY_ADMIN_TOKEN": "s3cret"}, ("--state", tmp_path / "elsewhere")

    def look() -> None:
        for where in (
            (*elsewhere, "--url", url),
            (*elsewhere, "--url", f"{url}/"),
            ("--url", f"unix:{daemon.state}/admin.sock"),
        ):
            code, out = relay("status", *where, **known)
            assert (code, "archive" in out) == (0, True), out
        for words in (["audit"], ["parked", "list"], ["replay", "list"], ["erasures", "list"], ["journal", "check"]):
            assert relay(*words, "--url", url, **known)[0] == 0, words
        assert relay("pause", "archive", RELAY_ADMIN_URL=url, **known)[0] == 0
        assert "archive" in relay("status", "--quiet", "--url", url, **known)[1]
        assert relay("resume", "archive", "--url", url, **known) == (0, "archive goes on\n")
        code, out = relay("status", "--url", url, RELAY_ADMIN_TOKEN="wrong")
        assert (
            code,
            "a bearer token of admin.tokens is required (the token is taken from $RELAY_ADMIN_TOKEN)" in out,
        ) == (1, True)
        code, out = relay("status", "--url", "http://127.0.0.1:1")
        assert (code, out.startswith("Error: nobody answers at http://127.0.0.1:1: ")) == (1, True)
        code, out = relay("tail", "--url", "http://127.0.0.1:1")
        assert code == 1
        assert relay("status", "--url", "127.0.0.1:9465")[0] == 2
        code, out = relay("status", *elsewhere, RELAY_ADMIN_URL=url, **known)
        assert (code, "no relay runs with the state folder" in out) == (
            1,
            True,
        )  # what is said counts before what is set

    await asyncio.to_thread(look)
    assert await daemon.stop() == 0


class _Recorder(http.server.BaseHTTPRequestHandler):
    """An admin API that takes everything, and keeps the headers."""

    def do_POST(self) -> None:
        self.server.seen.append(self.headers)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"changed": true}')

    def do_GET(self) -> None:
        self.send_error(502)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def recorder() -> Iterator[tuple[str, list[Any]]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Recorder) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", server.seen  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_commands_say_who_runs_them() -> None:
    with recorder() as (url, seen):
        for env in ({}, {"SUDO_USER": "zo\u00eb\nX: 1"}):
            assert relay("pause", "heap", "--url", url, RELAY_ADMIN_TOKEN="s3cret", **env)[0] == 0
        assert [one["Relay-By"] for one in seen] == [getpass.getuser(), "zo\\xeb?X: 1"]
        assert {one["Authorization"] for one in seen} == {"Bearer s3cret"}
        code, out = relay("status", "--url", url)
        assert (code, out) == (1, "Error: HTTP 502 Bad Gateway, which no relay has said: is that its admin.listen?\n")


async def test_the_members_of_a_group_may_use_the_admin_socket(daemon: Daemon) -> None:
    group = own_group()
    daemon.configure("10-admin", f'[admin]\ngroup = "{group}"\n')
    await daemon.start()
    path = daemon.state / "admin.sock"

    def is_open() -> bool:
        about = path.stat()
        return (stat.S_IMODE(about.st_mode), about.st_gid) == (0o660, grp.getgrnam(group).gr_gid)

    assert is_open()
    path.unlink()
    await daemon.until(lambda: path.exists() and is_open(), bool)
    assert await daemon.stop() == 0
    daemon.configure("10-admin", '[admin]\ngroup = "no-such-group"\n')
    await daemon.launch()
    assert await daemon.ended() == 1
    assert "admin.group: this machine has no group no-such-group (groupadd --system no-such-group)" in daemon.stderr[-1]


def test_a_socket_that_has_the_group_already_takes_no_chown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the unit forbids, so that Group= is the way to it."""
    monkeypatch.setattr(os, "chown", None)
    (tmp_path / "admin.sock").touch(0o600)
    server.open_to_group(tmp_path / "admin.sock", grp.getgrgid((tmp_path / "admin.sock").stat().st_gid).gr_name)
    assert stat.S_IMODE((tmp_path / "admin.sock").stat().st_mode) == 0o660


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder that everybody may enter: those of pytest are closed again by every run that begins."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to be somebody else")
@pytest.mark.long
async def test_whoever_may_not_enter_the_state_folder_finds_the_socket_beside_it(
    daemon: Daemon, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    group = grp.getgrgid(NOBODY).gr_name
    daemon.configure("10-admin", f'[admin]\ngroup = "{group}"\n')
    await daemon.start()
    daemon.state.chmod(0o700)
    code = f"""
import os, sys
from pathlib import Path
from relay import client
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid({NOBODY})
client.SERVICE = (Path({str(daemon.state)!r}), Path({str(runtime)!r}))
try:
    print(client.find_local(client.SERVICE[0]).read("GET", "/status").decode())
except client.ClientError as error:
    sys.exit(str(error))
"""

    def ask(gid: int) -> tuple[int, str]:
        result = subprocess.run([sys.executable, "-c", code, str(gid)], capture_output=True, text=True, check=False)
        return result.returncode, result.stdout + result.stderr

    found, out = await asyncio.to_thread(ask, NOBODY)
    assert found == 0, out
    assert json.loads(out)["lanes"] == []
    found, out = await asyncio.to_thread(ask, 12345)
    assert (found, out) == (1, f"{runtime}/admin.sock: Permission denied; be root, or in the group admin.group\n")
    assert await daemon.stop() == 0


async def test_a_quiet_status_says_only_what_is_wrong(daemon: Daemon) -> None:
    daemon.configure("10-source", SOURCE)
    async with Destination() as hook:
        daemon.configure("20-hook", f'[connector.hook]\ntype="http"\nurl="{hook.url}"\n')
        await daemon.start()
        await send(daemon, make_event())
        await daemon.settled("hook", 1)
        quiet = ("status", "--quiet", "--state", daemon.state)
        assert relay(*quiet) == (0, "")
        assert relay(*quiet, "--json") == (0, "")
        hook.behaviour = Answer(status=401)
        await send(daemon, make_event())
        _, out = await daemon.until(lambda: relay(*quiet), lambda found: found[0] == 1)
        assert out.startswith("hook: ")
        assert out.count("\n") == 1
        assert json.loads(relay(*quiet, "--json")[1])["lanes"][0]["connector"] == "hook"
        assert await daemon.stop() == 0


async def test_what_prints_without_end_ends_when_nobody_reads(daemon: Daemon, relay_forks: Forks) -> None:
    daemon.configure("10-source", SOURCE + FILE)
    await daemon.start()
    await send(daemon, *(make_event(n=n) for n in range(500)), *(b"7" for _ in range(20)))
    await daemon.settled("archive", 500)
    reading, writing = os.pipe()
    lines = ("tail", "top --every 0.1", "journal dump", "parked export", "parked list", "status")
    running = {
        line: subprocess.Popen(
            [*relay_forks.command, *line.split(), "--state", daemon.state], stdout=writing, stderr=subprocess.PIPE
        )
        for line in lines
    }
    os.close(reading)
    os.close(writing)

    async def pour() -> None:
        while running["tail"].poll() is None:
            await send(daemon, make_event())
            await asyncio.sleep(0.05)

    async with asyncio.timeout(60):
        await pour()
        for name, process in running.items():
            _, errors = await asyncio.to_thread(process.communicate)
            assert (process.returncode, errors) == (0, b"20 exported\n" if b"exported" in errors else b""), name
    assert await daemon.stop() == 0


async def test_top_fits_a_small_terminal(daemon: Daemon, relay_forks: Forks) -> None:
    daemon.configure("10-source", SOURCE)
    for number in range(12):
        daemon.configure(f"20-{number}", FILE.replace("archive", f"archive-{number}"))
    await daemon.start()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 50, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    top = [*relay_forks.command, "top", "--times", "1", "--state", str(daemon.state)]
    process = subprocess.Popen(top, stdout=theirs, env=env)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while part := await asyncio.to_thread(terminal.read, 65536):
                shown += part
        except OSError:  # the other side has closed it
            pass
    assert await asyncio.to_thread(process.wait) == 0
    lines = shown.decode().removeprefix("\x1b[H\x1b[J").split("\r\n")
    assert lines[0].startswith("relay ")
    assert lines[-1] == ""
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 50
    assert await daemon.stop() == 0
