"""The commands of docs/start.md, from the first source to the audit, do what the page says."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.forks import Forks
from tests.missing import give_up

PAGE = ROOT / "docs" / "start.md"
DEADLINE_S = 60


def free_port() -> int:
    """Return a TCP port of the loopback address that no socket listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Reader:
    """Gives the commands of the page in a folder of its own, with ports that are free."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("8080", "9101", "9102")}
        relay = folder / "bin" / "relay"
        relay.parent.mkdir()
        relay.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        relay.chmod(0o755)
        programs = [relay.parent, Path(sys.executable).parent, os.environ["PATH"]]
        self.environment = {**os.environ, "PATH": ":".join(map(str, programs))}
        self.environment["STATE_DIRECTORY"] = str(folder / "state")
        (folder / "conf.d").mkdir()
        (folder / "conf.d" / "00-port.toml").write_text(f'[ingest]\nlisten = "127.0.0.1:{self.ports["8080"]}"\n')

    def give(self, text: str) -> str:
        """Run commands and return their standard output. Background processes are noted in the file `pids`."""
        text = text.replace("relay send ", f"relay send --url http://127.0.0.1:{self.ports['8080']}/currents ")
        for service, port in (("braze", "9101"), ("heap", "9102")):
            text = text.replace(f"relay sandbox {service} ", f"relay sandbox {service} --listen 127.0.0.1:{port} ")
        text = re.sub(r"\b(8080|9101|9102)\b", lambda port: self.ports[port[0]], text)
        command = ["bash", "-ec", f"{text}\njobs -p >>pids"]
        output = self.folder / "output"  # a file: background processes would keep a pipe open
        with output.open("w") as stdout:
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment, stdout=stdout, timeout=DEADLINE_S, check=False
            )
        assert done.returncode == 0, text
        return output.read_text()

    def give_until(self, text: str, *expected: str) -> None:
        """Run commands again until their output has each text."""
        end, found = time.monotonic() + DEADLINE_S, ""
        while time.monotonic() < end:
            found = self.give(f"{{ {text}\n}} || true")  # a file may not be there yet
            if all(one in found for one in expected):
                return
            time.sleep(0.1)
        raise AssertionError(f"{text} gives {found}, and not {expected}")

    def wait_for(self, name: str, text: str) -> None:
        """Wait until a file has a text."""
        self.give_until(f"cat {name}", text)


@pytest.fixture
def reader(tmp_path: Path, relay_forks: Forks) -> Iterator[Reader]:
    reader = Reader(tmp_path, relay_forks.command)
    yield reader
    for pid in (tmp_path / "pids").read_text().split():
        os.kill(int(pid), signal.SIGTERM)
    reader.wait_for("relay.log", '"message":"relay stopped"')


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_steps_lead_from_braze_to_heap_and_back(reader: Reader) -> None:
    if not shutil.which("curl"):
        give_up("curl is missing: apt install curl")
    shell = iter(blocks(PAGE, "sh")[2:])
    assert "0 mistakes" in reader.give(next(shell) + "\nrelay check conf.d 2>&1")
    reader.give(next(shell))
    reader.wait_for("relay.log", '"message":"relay runs"')
    reader.environment["RELAY_TOKEN"] = (reader.folder / "token").read_text().strip()
    reader.give(next(shell))
    reader.give_until(next(shell), "archive", "working", '"event_type":"users.messages.email.Open"')
    reader.give(next(shell))
    for log in ("heap.log", "braze.log"):
        reader.wait_for(log, "listening on")
    assert "connector heap: added" in reader.give(next(shell))
    reader.give(next(shell))
    reader.give_until(next(shell), '"event": "users.messages.email.Send"')
    assert "source segments: added" in reader.give(next(shell))
    reader.give(next(shell))
    reader.give_until(next(shell), '["user-1", "user-2"]', "external_id:user-1\nexternal_id:user-2")
    campaign, flush, found = next(shell).splitlines()
    reader.give(f"{campaign}\n{flush}")
    reader.give_until(found, '"event": "users.messages.email.Send"')
    audit, _ = next(shell).splitlines()
    assert reader.give(audit).rstrip().endswith("Everything balances.")
