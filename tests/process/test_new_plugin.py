"""As an integrator with the pages alone: a new connector is written, edited, tested and dropped in, and an event
arrives. The same as a package, which is installed beside relay; and a broken package hurts nobody."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import relay as command
from relay.testing import Destination
from tests.daemon import Daemon

PLUGINS = Path(__file__).parents[2] / "docs" / "plugins"
TOTAL_S = 180
"""The commands of a page end within this time, also on a busy machine. On an idle machine they take a few seconds."""
SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"\nallow = ["127.0.0.1"]\n'
TABLE = '[connector.chat]\ntype = "chat"\nurl = "{url}"\ntoken = {{ env = "HOME" }}\n'


def read_commands(page: str, beginning: str) -> list[list[str]]:
    """Return the commands of the example of a page that begins so, as words."""
    text = (PLUGINS / page).read_text()
    (block,) = [one for one in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if beginning in one]
    return [words for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def relay(*words: str) -> Result:
    return CliRunner().invoke(command, words)


def run_python(folder: Path, *words: str, **environ: str) -> str:
    """Run Python in the folder as a process; return its output."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, **environ}, check=False, capture_output=True,
        text=True, timeout=TOTAL_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


async def test_a_new_connector_delivers_by_the_commands_of_the_page(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_commands("README.md", "relay new connector chat")
    then = read_commands("README.md", "relay send --sample")
    assert len(first) + len(then) == 9, "as many commands as the page says"
    monkeypatch.chdir(tmp_path)
    async with asyncio.timeout(TOTAL_S), Destination() as chat:
        for words in first:
            given = [chat.url if one.startswith("http://") else one for one in words]
            match given:
                case ["relay", "run", *options]:
                    assert options == ["--plugins", "plugins", "--conf", "conf.d", "--state", "state"]
                    await daemon.start()
                case ["relay", *rest]:
                    answer = await asyncio.to_thread(relay, *rest)
                    assert answer.exit_code == 0, answer.output
                    if rest[0] == "new":
                        edit(Path("plugins/chat.py"), '"type": event.type', '"text": event.type')
                        edit(Path("plugins/test_chat.py"), '"type": "users', '"text": "users')
                case [python, "-m", "pip", *_]:
                    assert python == "/opt/relay/bin/python"
                case [_, "-m", "pytest", *rest]:
                    # test_init_and_new in tests/unit/cli runs all of them
                    pytest_words = ("-m", "pytest", "-p", "no:cacheprovider", "-k", "it_sends", *rest)
                    assert " passed" in await asyncio.to_thread(run_python, tmp_path, *pytest_words)
        for words in then:
            place = ["--url", f"{daemon.url}/currents"] if words[1] == "send" else []
            answer = await asyncio.to_thread(relay, *words[1:], *place)
            assert answer.exit_code == 0, answer.output
        await chat.received(1)
    body = json.loads(chat.requests[0].body)
    assert body["events"][0]["text"] == "users.messages.email.Open"


@pytest.mark.long
async def test_a_new_package_is_installed_beside_relay_and_delivers(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hatchling", reason="the package is built by hatchling, of the dependency group test")
    commands = [" ".join(words) for words in read_commands("packaging.md", "--package")]
    assert commands == [
        "relay new connector chat --package",
        "cd relay-chat",
        "/opt/relay/bin/python -m pytest",
        "/opt/relay/bin/python -m pip install .",
        "systemctl restart relay",
        "relay plugins",
    ]
    monkeypatch.chdir(tmp_path)
    site, package = tmp_path / "site", tmp_path / "relay-chat"
    assert relay("new", "connector", "chat", "--package").exit_code == 0
    assert " passed" in run_python(package, "-m", "pytest", "-p", "no:cacheprovider", "-k", "it_sends")
    alone = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    run_python(package, "-m", "pip", "install", "--quiet", *alone, ".")
    daemon.wrapper = ["env", f"PYTHONPATH={site}"]
    daemon.configure("20-braze", SOURCE)
    async with Destination() as chat:
        daemon.configure("60-chat", TABLE.format(url=chat.url))
        await daemon.start()
        assert (await daemon.post(b'{"event_type": "users.canvas.Entry", "id": "1", "user": {}}'))[0] == 202
        await chat.received(1)
        assert await daemon.stop() == 0
        (site / "relay_chat.py").write_text("import a_library_that_is_not_there\n")
        listed = run_python(tmp_path, "-m", "relay", "plugins", PYTHONPATH=str(site))
        assert "chat             0.1.0      relay-chat\n    BROKEN: ModuleNotFoundError: No module named" in listed
        (daemon.conf / "60-chat.toml").unlink()
        daemon.configure("70-file", '[connector.file]\ntype = "file"\npath = "out.ndjson"\n')
        await daemon.start()
        assert (await daemon.post(b'{"event_type": "users.canvas.Entry", "id": "2", "user": {}}'))[0] == 202
        assert (await daemon.settled("file", 1)).counts.delivered == 1
        assert await daemon.stop() == 0
