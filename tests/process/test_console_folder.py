"""A real relay reads the console's folder in its state folder: at the start, at a reload, and only if it may."""

from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.config.console import folder
from relay.testing import Destination, make_event
from tests.daemon import Daemon
from tests.process.commands import act, ask

SOURCE = '[source.braze]\ntype = "currents"\npath = "/currents"\n'
HOOK = '[connector.%s]\ntype = "http"\nurl = "%s"\n'
LAUNCH = "[console]\nlaunch = true\n"


async def reload(daemon: Daemon) -> list[str]:
    return (await daemon.run("reload")).stdout.decode().splitlines()


@pytest.fixture
def installed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    daemon.module = "tests.process.installed_relay"
    monkeypatch.setattr(folder, "CONF_FOLDERS", (daemon.conf, Path("/not/there")))  # for commands of this process
    (daemon.state / "conf.d").mkdir(parents=True)
    daemon.configure("10-source", SOURCE)
    return daemon


async def test_relay_reads_the_consoles_folder_at_start_and_reload(installed: Daemon) -> None:
    console = installed.state / "conf.d"
    async with Destination() as first, Destination() as second:
        installed.configure("20-console", LAUNCH)
        secret = installed.state / "secrets" / "first"
        secret.parent.mkdir()
        secret.write_text("pasted-once\n")
        (console / "60-first.toml").write_text(HOOK % ("first", first.url) + f'token = {{ file = "{secret}" }}\n')
        await installed.start()
        assert (await installed.post(b'{"events":[%s]}' % make_event()))[0] == 202
        await first.received(1)
        assert first.requests[0].headers["Authorization"] == "Bearer pasted-once"
        (lane,) = (await ask(installed, "status"))["lanes"]
        assert lane["file"] == str(console / "60-first.toml")

        (console / "60-second.toml").write_text(HOOK % ("second", second.url))
        installed.configure("20-console", LAUNCH + 'listen = "127.0.0.1:9000"\nhosts = ["relay.example"]\n')
        assert await reload(installed) == [
            "connector second: added",
            "console.listen: changed, for the console alone",
            "console.hosts: changed, for the console alone",
        ]
        (installed.conf / "60-second.toml").symlink_to("/dev/null")
        assert await reload(installed) == ["connector second: removed"]

        check = {"files": {"70-third.toml": HOOK % ("third", first.url), "60-first.toml": "[log]\nlevle = 1"}}
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(installed.state / "admin.sock"))) as admin:
            async with admin.post("http://relay/check", json=check) as answer:
                (mistake,) = (await answer.json())["mistakes"]
            async with admin.get("http://relay/config") as answer:
                found = await answer.json()
        assert (mistake["file"], mistake["line"]) == (str(console / "60-first.toml"), 2)
        assert found["folders"] == [str(installed.conf), str(console), "/not/there"]
        assert str(console / "60-first.toml") in {one["file"] for one in found["settings"]}

        (console / "70-rights.toml").write_text("[console.user.me]\nmay = 'configure'\n")
        refused = (await installed.run("reload")).stderr.decode()
        assert refused.startswith(f"{console}/70-rights.toml:1: console: the console cannot set this itself: ")

        installed.configure("20-console", "[console]\nlaunch = false\n")
        assert set(await reload(installed)) >= {"connector first: removed", "console.launch: changed"}
        assert (await ask(installed, "status"))["lanes"] == []


async def test_commands_name_the_files_of_the_console_by_their_path(installed: Daemon) -> None:
    console = installed.state / "conf.d"
    (console / "60-first.toml").write_text(HOOK % ("first", "http://127.0.0.1:9/x"))

    def run(*command: str) -> str:
        return CliRunner().invoke(cli, [*command, "--state", str(installed.state)]).output

    unused = f"warning: {console}: has 1 file without effect: files of the console count with launch = true"
    assert unused in run("check")
    assert unused in run("config", "show")
    installed.configure("20-console", LAUNCH)
    assert f"good: 1 source, 1 connector, 0 filters\n1 file of the console in {console}\n" in run("check")
    assert f"# {console}/60-first.toml:3" in run("config", "show", "--origin")
    assert f"files of the console: {console}" in run("doctor")
    await installed.start()
    (console / "60-first.toml").write_text(HOOK % ("first", "http://127.0.0.1:9/y"))
    said = f"1 file of conf.d changed, which relay reload brings into force: {console}/60-first.toml"
    await installed.until(lambda: run("history"), lambda told: said in told)
    await act(installed, "reload")
