"""`relay doctor`: what it finds, and what it says to do."""

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import relay.cli.commands.doctor
from relay.cli.commands.doctor import daemon, disk, join_findings, machine, service
from relay.cli.commands.doctor.report import Finding
from relay.cli.main import relay as command
from relay.journal.lock import lock
from relay.socket_path import SOCKET
from relay.state.layout import BAR, DATABASE, MARKER
from tests.certificates import Authority

PROBLEM = Finding("problem", "connector heap", "failing since T: h:443: no answer", "")


@pytest.mark.parametrize(
    ("level", "said", "advice"),
    [
        ("problem", "h:443: no answer", ""),
        ("problem", "h:443: refused", "relay doctor has tried, too: h:443: refused"),
        ("ok", "h:443 takes connections", "no event was tried by relay doctor: h:443 takes connections"),
    ],
)
def test_a_connector_is_one_finding_of_the_relay_and_of_the_try(level: Any, said: str, advice: str) -> None:
    other = Finding("ok", "connector archive", "it can be written")
    found = join_findings([PROBLEM, Finding(level, "connector heap", said, "see the settings"), other])
    assert found == [replace(PROBLEM, advice=advice), other]


def test_a_connector_that_works_keeps_the_finding_of_the_try() -> None:
    found = [Finding("ok", "connector heap", "h:443 takes connections"), Finding("ok", "clock", "synchronized")]
    assert join_findings(found) == found


def test_a_full_disk_is_no_finding_of_its_own_for_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> list[float]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk, "measure_latencies", fail)
    it: Any = SimpleNamespace(state=tmp_path)
    number = errno.ENOSPC
    assert [*disk.check_sync(it)] == []
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        [*disk.check_sync(it)]


PLUGIN = """
from relay.api import Connector, ConnectorSettings, Secret

class Own(Connector, type="own"):
    class Settings(ConnectorSettings):
        token: Secret
    async def deliver(self, batch):
        pass
    async def probe(self):
        raise RuntimeError("the key " + self.settings.token.reveal() + " is too old")
"""
GOOD = """
[source.s]
type = "json"
path = "/s"
tokens = [{ env = "PATH" }]
"""


class Place:
    """A conf.d, a state folder and a plugin folder."""

    def __init__(self, folder: Path) -> None:
        self.conf, self.state, self.plugins = folder / "conf.d", folder / "state", folder / "plugins"
        for part in (self.conf, self.state, self.plugins):
            part.mkdir(mode=0o700)
        self.configure("")

    def configure(self, text: str) -> None:
        (self.conf / "a.toml").write_text(GOOD + text)

    def run(self, *more: str) -> Result:
        folders = ["--conf", self.conf, "--state", self.state, "--plugins", self.plugins]
        return CliRunner().invoke(command, ["doctor", *map(str, folders), *more])

    def findings(self) -> dict[str, tuple[str, str]]:
        """For each thing that was looked at the worst that was found."""
        found: list[dict[str, str]] = json.loads(self.run("--json").stdout)["findings"]
        found.sort(key=lambda finding: ("ok", "warning", "problem").index(finding["level"]))
        return {finding["about"]: (finding["level"], finding["said"]) for finding in found}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(relay.cli.commands.doctor, "PATIENCE_S", 200.0)  # a check that hangs would end this process
    monkeypatch.setattr(machine, "is_synchronised", lambda: True)
    monkeypatch.setattr(disk, "find_file_system", lambda path, mountinfo: "ext4")
    monkeypatch.setattr(disk, "measure_latencies", lambda folder: [0.001] * 3)  # other tests keep the disk busy
    monkeypatch.setattr(service, "explain_out_of_reach", lambda unit: None)  # wherever the tests are run
    return Place(tmp_path)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port(server: socket.socket) -> int:
    number: int = server.getsockname()[1]
    return number


def test_an_installation_that_is_well(place: Place, server: socket.socket) -> None:
    place.configure(f'[connector.c]\ntype = "http"\nurl = "http://127.0.0.1:{port(server)}/"\n')
    (place.conf / "b.toml").write_text('[journal]\nmax_size = "16MiB"\nmin_free = "16MiB"\n')  # on any machine
    answer = place.run()
    assert answer.exit_code == 0, answer.output
    assert answer.output.splitlines()[-1] == "problems: 0, warnings: 0", answer.output
    assert (
        f"ok       connector c          127.0.0.1:{port(server)} takes connections; credentials are not tested\n"
        in answer.output
    )
    assert [*place.state.iterdir()] == []
    server.setblocking(False)
    connection, _ = server.accept()
    with connection:
        assert connection.recv(1) == b""  # nothing was sent


def test_a_relay_that_has_run_and_does_not_is_told(place: Place) -> None:
    assert "relay" not in place.findings(), "there was none yet"
    (place.state / DATABASE).touch()
    assert place.findings()["relay"] == ("warning", f"no relay runs with the state folder {place.state}")


def test_the_first_lines_say_what_is_looked_at_and_problems_come_first(
    place: Place,
) -> None:
    (place.state / DATABASE).touch()
    (place.conf / "b.toml").write_text("[journal]\nmax_sice = 1\n")
    *lines, _ = place.run().output.splitlines()
    first, found = lines[:2], lines[2:]
    assert first == [f"state folder {place.state}: no relay runs with it", f"configuration {place.conf}"]
    levels = [line.split()[0] for line in found if line[0] != " "]
    assert levels == sorted(levels, key=("problem", "warning", "ok").index)
    assert {*levels} == {"problem", "warning", "ok"}
    it: Any = SimpleNamespace(state=place.state)
    with socket.socket(socket.AF_UNIX) as admin:
        admin.bind(str(place.state / SOCKET))
        admin.listen()
        assert daemon.describe_place(it).said == f"{place.state}: a relay runs with it"
    it.state = place.state / "nothing"
    said = f"{it.state}: it does not exist, so no relay runs with it (--state DIR looks at another)"
    assert daemon.describe_place(it).said == said


def test_a_problem_is_told_with_what_to_do_and_the_exit_code(place: Place, server: socket.socket) -> None:
    number = port(server)
    server.close()
    place.configure(f'[connector.c]\ntype = "heap"\nendpoint = "http://127.0.0.1:{number}/"\n')
    answer = place.run()
    assert answer.exit_code == 1
    assert f"problem  connector c          127.0.0.1:{number}: Connection refused\n" in answer.output
    assert "-> see the connector's settings; then names, routes, firewalls and certificates\n" in answer.output
    assert json.loads(place.run("--json").stdout)["ok"] is False


@pytest.mark.parametrize(
    "table",
    [
        'type = "http"\nurl = "URL"',
        'type = "heap"\nendpoint = "URL"',
        'type = "heap"\nmode = "api"\napp_id = "1"\nendpoint = "URL"',
        'type = "braze_cohorts"\nendpoint = "URL"\nmode = "attribute"\nrest_key = { env = "PATH" }',
    ],
)
def test_connectors_that_speak_http_are_reached(place: Place, server: socket.socket, table: str) -> None:
    url = f"http://127.0.0.1:{port(server)}"
    place.configure("[connector.c]\n" + table.replace("URL", url))
    assert place.findings()["connector c"][0] == "ok"
    server.close()
    assert place.findings()["connector c"] == ("problem", f"{url.removeprefix('http://')}: Connection refused")


def test_a_server_without_tls_is_a_problem_for_https(place: Place, server: socket.socket) -> None:
    def answer() -> None:
        with suppress(OSError):
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
    place.configure(f'[connector.c]\ntype = "http"\nurl = "https://127.0.0.1:{port(server)}/"\n')
    level, said = place.findings()["connector c"]
    assert level == "problem"
    assert said.startswith(f"127.0.0.1:{port(server)}: ")


def test_a_certificate_that_nobody_vouches_for_is_a_problem(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    code = """
import socket, ssl, sys
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(*sys.argv[1:])
with context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        try:
            server.accept()
        except OSError:
            pass
"""
    arguments = [sys.executable, "-c", code, str(authority.certificate), str(authority.key)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            here = f"127.0.0.1:{server.stdout.readline().strip()}"
            place.configure(f'[connector.c]\ntype = "http"\nurl = "https://{here}/"\n')
            level, said = place.findings()["connector c"]
            assert (level, said.startswith(f"{here}: TLS: unable to get local issuer")) == ("problem", True)
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
            good = ("ok", f"{here} takes connections, with a good certificate; credentials are not tested")
            assert place.findings()["connector c"] == good
        finally:
            server.kill()


def test_files_have_to_have_a_folder_that_can_be_written(place: Place) -> None:
    place.configure('[connector.c]\ntype = "file"\npath = "new/{type}.ndjson"\n')
    assert place.findings()["connector c"] == ("ok", f"{place.state}/new/type.ndjson can be written")
    place.configure('[connector.c]\ntype = "file"\npath = "/dev/null/{type}.ndjson"\n')
    said = "/dev/null cannot be written, for /dev/null/type.ndjson"
    assert place.findings()["connector c"] == ("problem", said)
    assert [*place.state.iterdir()] == []


def test_what_cannot_be_tried_is_no_problem(place: Place) -> None:
    secret = 'token = { credential = "x" }'
    place.configure(
        f'[connector.a]\ntype = "stdout"\n[connector.b]\ntype = "http"\nurl = "http://127.0.0.1:9/"\n{secret}\n'
    )
    found = place.findings()
    assert found["connector a"] == ("ok", "not tried: only sending would tell")
    assert found["connector b"][0] == "ok"
    assert found["connector b"][1].startswith('not tried: { credential = "x" } cannot be read')


def test_the_secrets_of_a_relay_that_runs_are_found(
    place: Place, server: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_text("s3cret")
    monkeypatch.setattr(relay.cli.commands.doctor, "CREDENTIALS", tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "to be removed again")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    url = f'url = "http://127.0.0.1:{port(server)}/"\ntoken = {{ credential = "x" }}'
    place.configure(f'[connector.c]\ntype = "http"\n{url}\n')
    assert place.findings()["connector c"] == (
        "ok",
        f"127.0.0.1:{port(server)} takes connections; credentials are not tested",
    )


def test_whatever_a_plugin_raises_is_told_without_its_secret(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "hunter2")
    (place.plugins / "own.py").write_text(PLUGIN)
    place.configure('[connector.c]\ntype = "own"\ntoken = { env = "KEY" }\n')
    assert place.findings()["connector c"] == ("problem", "the key ... is too old")


def test_mistakes_and_warnings_of_the_configuration_are_told(place: Place) -> None:
    place.configure('[connector.c]\ntype = "stdout"\nrate = -1\n[filter.f]\ntype = "sample"\nrate = 1\n')
    answer = place.run()
    assert answer.exit_code == 1
    assert "problem  configuration        a.toml:8: connector.c.rate: must be at least 0\n" in answer.output
    assert "warning  configuration        a.toml:9: filter.f: no connector uses this filter\n" in answer.output


def test_of_very_many_mistakes_the_first_are_told(place: Place) -> None:
    keys = "".join(f"key{number} = 1\n" for number in range(102))
    place.configure(f'[connector.c]\ntype = "stdout"\n{keys}')
    answer = place.run()
    assert "key99:" in answer.output
    assert "key100:" not in answer.output
    assert "problem  configuration        and 2 more mistakes, see relay check --json\n" in answer.output


def test_what_others_could_read_or_write_is_told(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret")
    place.configure(f'[connector.c]\ntype = "http"\nurl = "http://127.0.0.1:9/"\ntoken = {{ file = "{secret}" }}\n')
    for path, mode in ((secret, 0o640), (place.state, 0o700), (place.plugins, 0o755)):
        path.chmod(mode)
    found = place.findings()
    assert [found[about][0] for about in ("secrets", "state folder", "plugins")] == ["ok"] * 3
    assert "plugin folder" not in found
    for path, mode in ((secret, 0o644), (place.state, 0o750), (place.plugins, 0o777)):
        path.chmod(mode)
    found = place.findings()
    assert found["secret"] == ("warning", f"{secret} can be read by every user")
    assert found["state folder"][0] == "warning"
    assert found["plugin folder"] == ("warning", f"{place.plugins} can be written by others than its owner")


def test_a_certificate_may_be_read_by_everybody_and_its_key_not(place: Place, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    (place.conf / "b.toml").write_text(authority.table(client_ca=str(authority.ca)))
    for path, mode in ((authority.certificate, 0o644), (authority.ca, 0o644), (authority.key, 0o600)):
        path.chmod(mode)
    assert "secret" not in place.findings()
    authority.key.chmod(0o644)
    assert place.findings()["secret"] == ("warning", f"{authority.key} can be read by every user")


def test_a_broken_plugin_is_told(place: Place) -> None:
    (place.plugins / "bad.py").write_text("1 / 0")
    found = place.findings()
    assert found["plugin bad"] == ("warning", f"{place.plugins}/bad.py: ZeroDivisionError: division by zero")


def test_a_state_folder_that_is_not_there_yet_is_no_problem(place: Place) -> None:
    place.state.rmdir()
    found = place.findings()
    assert found["state folder"] == ("ok", f"{place.state} does not exist yet; relay makes it")
    assert found["room"][0] == "ok"
    assert not place.state.exists()


def test_a_disk_too_small_for_the_journal_is_told(place: Place) -> None:
    (place.conf / "b.toml").write_text('[journal]\nmax_size = "900TiB"\n')
    level, said = place.findings()["room"]
    assert level == "warning"
    assert "; the disk holds files that are not relay's " in said.partition("full when the journal has ")[2]
    (place.conf / "b.toml").write_text('[journal]\nmin_free = "900TiB"\n')
    level, said = place.findings()["room"]
    assert (level, "it is full; the disk holds files that are not relay's " in said) == ("problem", True)


@pytest.mark.parametrize(
    ("free", "of", "told"),
    [
        (5000, 9000, ("ok", "5,000 free")),
        (7, 9000, ("warning", "7 of 9,000 free")),
        (0, 9000, ("problem", "0 of 9,000 free: no new file can be made, and senders get 503")),
        (0, 0, ("ok", "as many as there is room for")),
    ],
)
def test_inodes_that_run_out_are_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, free: int, of: int, told: tuple[str, str]
) -> None:
    real = os.statvfs

    def statvfs(path: Any) -> os.statvfs_result:
        return os.statvfs_result((*real(path)[:5], of, free, free, *real(path)[8:]))

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert place.findings()["inodes"] == told


@pytest.mark.parametrize(("seconds", "level"), [(0.04, "ok"), (0.06, "warning")])
def test_a_slow_disk_is_told(place: Place, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str) -> None:
    monkeypatch.setattr(disk, "measure_latencies", lambda folder: [0.001] * 90 + [seconds] * 10)
    said = f"100 small writes: p50 1.0 ms, p99 {seconds * 1000:.1f} ms"
    assert place.findings()["fdatasync"] == (level, said)


def test_writes_are_really_made(tmp_path: Path) -> None:
    times = disk.measure_latencies(tmp_path)
    assert 2 <= len(times) <= disk.WRITES
    assert min(times) > 0
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("kind", "level"),
    [("ext4", "ok"), ("tmpfs", "problem"), ("nfs4", "problem"), ("fuseblk", "warning"), ("overlay", "warning")],
)
def test_a_file_system_is_judged(kind: str, level: str) -> None:
    assert disk.judge_kind(kind).level == level


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/relay", "xfs"),
        ("/var/library", "ext4"),
        ("/mnt/my disk/a", "nfs4"),
        ("/tmp/x", "tmpfs"),
    ],
)
def test_a_file_system_is_found_by_its_path(path: str, kind: str) -> None:
    mounts = r"""22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
23 22 8:2 / /var/lib rw,relatime shared:2 master:1 - xfs /dev/sdb rw
24 22 0:40 / /mnt/my\040disk rw - nfs4 host:/x rw
25 22 8:3 / /tmp rw - ext4 /dev/sdc rw
26 22 0:41 / /tmp rw - tmpfs tmpfs rw
"""
    assert disk.find_file_system(Path(path), mounts) == kind


def test_the_file_system_of_this_machine_is_known() -> None:
    assert disk.find_file_system(Path("/proc"), Path("/proc/self/mountinfo").read_text()) == "proc"


@pytest.mark.parametrize(
    ("now", "kept", "level"),
    [(0, True, "problem"), (1.8e9, True, "ok"), (1.8e9, None, "ok"), (1.8e9, False, "warning")],
)
def test_a_clock_is_judged(now: float, kept: bool | None, level: str) -> None:
    assert machine.judge_clock(now, kept).level == level


def test_the_limit_of_the_relay_that_runs_counts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {0: (1024, 100_000), os.getpid(): (300, 300)}
    monkeypatch.setattr(resource, "prlimit", lambda process, which: limits[process])
    place.configure('[connector.c]\ntype = "http"\nurl = "http://127.0.0.1:9/"\nconcurrency = 100\n')
    assert place.findings()["open files"] == ("ok", "100,000 of this shell, 2,000 may be needed")
    place.configure(
        '[ingest]\nmax_connections = 10\n[connector.c]\ntype = "http"\nurl = "http://127.0.0.1:9/"\nconcurrency = 100\n'
    )
    held = lock(place.state)
    try:
        said = f"300 of the relay that runs (process {os.getpid()}), 712 may be needed"
        assert place.findings()["open files"] == ("warning", said)
    finally:
        os.close(held)


def test_what_hangs_is_given_up_and_not_waited_for(place: Place) -> None:
    hanging = PLUGIN.replace("raise RuntimeError", "import asyncio, time; await asyncio.to_thread(time.sleep, 600)\n#")
    (place.plugins / "own.py").write_text(hanging)
    place.configure('[connector.c]\ntype = "own"\ntoken = { env = "PATH" }\n')
    code = "import sys, relay.cli.commands.doctor as doctor; doctor.PATIENCE_S = 0.1; doctor.doctor(sys.argv[1:])"
    folders: list[Any] = ["--conf", place.conf, "--state", place.state, "--plugins", place.plugins]
    answer = subprocess.run(
        [sys.executable, "-c", code, *folders], check=False, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 1
    assert "problem  connectors           not known: no answer within 0.1 s\n" in answer.stdout
    assert answer.stdout.splitlines()[-1].startswith("problems: ")


HANGS_AT_A_PLUGIN = """
import sys, threading
from contextlib import redirect_stdout
import relay.cli.commands.doctor as doctor

def load_plugins(it):
    with redirect_stdout(sys.stderr):
        threading.Event().wait()

doctor.PATIENCE_S, doctor.CHECKS = 0.5, [("plugins", load_plugins)]
doctor.doctor(sys.argv[1:])
"""


def test_the_report_is_on_standard_output_while_loading_a_plugin_hangs(place: Place) -> None:
    folders: list[Any] = ["--conf", place.conf, "--state", place.state, "--plugins", place.plugins]
    answer = subprocess.run(
        [sys.executable, "-c", HANGS_AT_A_PLUGIN, *folders], check=False, capture_output=True, text=True, timeout=120
    )
    assert answer.stdout.splitlines()[-1] == "problems: 1, warnings: 0", answer.stderr


def test_a_check_that_ends_late_does_not_count_as_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """`relay doctor` would end the process for it at once, and with it the tests of this process."""
    run = threading.Thread.run

    def end_late(thread: threading.Thread) -> None:
        run(thread)
        time.sleep(0.1)

    monkeypatch.setattr(threading.Thread, "run", end_late)
    it: Any = None
    assert relay.cli.commands.doctor.examine("clock", lambda _: [], it) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(relay.cli.commands.doctor.THREAD)]


def test_a_restore_that_was_broken_off_is_a_problem(place: Place) -> None:
    (place.state / MARKER).write_text(f"/backup\n{place.state}/journal\n")
    level, said = place.findings()["state folder"]
    assert level == "problem"
    assert "a restore was broken off there, and relay does not start with it" in said
    assert f"-> run relay restore /backup --state {place.state} again" in place.run().output


def test_a_journal_that_was_copied_elsewhere_is_a_problem_for_its_relay(place: Place) -> None:
    (place.state / BAR).write_text("its journal was copied to PostgreSQL, and relay goes on there\n")
    said = "its journal was copied to PostgreSQL, and relay goes on there, and relay does not start with it"
    assert said in place.findings()["state folder"][1]
    (place.state / "dsn").write_text("host=127.0.0.1 port=1")
    journal = f'[journal]\nbackend = "postgres"\ndsn = {{ file = "{place.state}/dsn" }}'
    (place.conf / "50-journal.toml").write_text(journal)
    assert place.findings()["state folder"][0] == "ok"
