"""Launches of the console where the disk, relay or an admin is in the way, and where no relay runs."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.edits.conf import MARK
from relay.testing import Destination
from tests.console import RunningConsole
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.commands import act, ask
from tests.process.console_place import EDIT, NEW, Place, plain, run_place, sign_in, stand_between
from tests.process.small_disk import mount_small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with mount_small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


async def test_on_a_full_or_read_only_disk_nothing_is_half_written(
    daemon: Daemon, relay_forks: Forks, disk: Path
) -> None:
    daemon.conf = disk
    daemon.configure("00-ingest", '[ingest]\nlisten = "127.0.0.1:0"')
    async with Destination() as hook, run_place(daemon, relay_forks) as place:
        await place.put("60-full.toml", NEW % ("full", hook.url))
        before = place.read_files()
        for name in ("60-full.toml", "60-more.toml"):
            text = (NEW % (name[3:7], hook.url)) + "# " + "x" * (300 << 10) + "\n"
            checked = await place.check(EDIT, name=name, text=text)
            refused = await place.launch(EDIT, checked, name=name, text=text)
            said = plain(refused)
            assert (refused.status, "No space left on device: nothing is written" in said) == (507, True)
            assert f"Write this text to {daemon.conf}/{name}" in said
            assert place.read_files() == before
        assert (await place.read_config())["changed"] == []

        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=10)
        shown = await place.check(EDIT, name="60-more.toml", text=NEW % ("more", hook.url))
        assert f"Nothing is launched from here: the console cannot write into {daemon.conf}" in plain(shown)
        assert f"Write this text to {daemon.conf}/60-more.toml" in plain(shown)
        assert 'value="launch"' not in shown.text
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, timeout=10)


async def test_without_a_relay_conf_d_is_checked_and_counts_from_the_start(daemon: Daemon, relay_forks: Forks) -> None:
    async with Destination() as hook, run_place(daemon, relay_forks) as place:
        await daemon.stop()
        wrong = await place.check(EDIT, name="60-late.toml", text=(NEW % ("late", hook.url)) + "nonsense = 1\n")
        assert "60-late.toml:5: connector.late.nonsense: unknown key" in plain(wrong)
        assert "Sends events to a URL." in plain(await place.admin.get("/connectors/new?type=http"))
        wrong = await place.check("/connectors/new", type="http", name="late", **{"set.url": "x"})
        assert "url: expected a URL such as" in plain(wrong)
        page = await place.put("60-late.toml", NEW % ("late", hook.url))
        assert "no relay runs. What was written is 60-late.toml" in plain(page)
        await daemon.start()
        assert (await place.read_config())["connector.late.url"] == hook.url


async def test_an_admin_masks_what_the_console_has_launched(daemon: Daemon, relay_forks: Forks) -> None:
    """As installed: the files of the console lie in the state folder."""
    async with Destination() as hook:
        daemon.configure("60-hook", NEW % ("hook", hook.url))
        async with run_place(daemon, relay_forks, module="tests.process.installed_relay") as place:
            folder, file = daemon.state / "conf.d", daemon.conf / "60-hook.toml"
            persons = place.read_files()
            page = await place.put("60-hook.toml.d/50-console.toml", "[connector.hook]\ntimeout = '7s'\n")
            assert "connector hook: changed" in plain(page)
            written = folder / "60-hook.toml.d" / "50-console.toml"
            assert written.read_text() == "[connector.hook]\ntimeout = '7s'\n"
            assert [oct(one.stat().st_mode)[-3:] for one in (folder, written.parent, written)] == ["700", "700", "600"]
            assert (await place.read_config())["connector.hook.timeout"] == "7s"
            assert place.read_files() == persons

            mask = Path(f"{file}.d") / written.name
            mask.parent.mkdir()
            mask.symlink_to("/dev/null")
            await act(daemon, "reload")
            assert (await place.read_config())["connector.hook.timeout"] != "7s"
            switched = await place.admin.get("/connectors/hook/switch-off")
            assert f"the file {mask} is in the way of the console's own" in plain(switched)
            assert switched.status == 422

            daemon.configure("91-launch", "[console]\nlaunch = false\n")
            shown = plain(await place.check(EDIT, name="60-more.toml", text=f"{MARK}\n" + NEW % ("more", hook.url)))
            assert "Nothing is launched from here: the console may only look at the configuration" in shown
            assert f"Write this text to {daemon.conf}/60-more.toml" in shown
            assert len((await ask(daemon, "status"))["lanes"]) == 1


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["hung", "gone"])
async def test_what_is_written_for_a_relay_that_does_not_answer_counts_later(
    tmp_path: Path, relay_forks: Forks, number: signal.Signals
) -> None:
    daemon = Daemon(tmp_path / "relay", relay_forks)
    file, other = daemon.conf / "60-late.toml", tmp_path / "other"

    def happens() -> None:
        if file.exists() and not late:
            late.append(file)
            daemon.signal(number)

    late = list[Path]()
    async with (
        stand_between(other / "admin.sock", daemon.state / "admin.sock", happens),
        run_place(daemon, relay_forks, other) as place,
        Destination() as hook,
    ):
        text = NEW % ("late", hook.url)
        checked = await place.check(EDIT, name=file.name, text=text)
        launched = await place.launch(EDIT, checked, name=file.name, text=text)
        page = plain(await place.admin.get(launched.location)) if launched.location else plain(launched)
        assert "relay has not taken it yet" in page
        assert f"What was written is 60-late.toml in {daemon.conf}: it counts from the next start" in page
        if number == signal.SIGSTOP:
            assert "relay does not answer" in page
            daemon.signal(signal.SIGCONT)
            found = await place.read_config()
            assert found["changed"] == ["60-late.toml"]
            assert "connector.late.url" not in found
            assert "60-late.toml" in place.read_files()
        else:
            await daemon.ended()
            await daemon.start()
            assert (await place.read_config())["connector.late.url"] == hook.url


async def test_a_launch_that_is_cut_off_is_shown_and_can_be_undone(tmp_path: Path, relay_forks: Forks) -> None:
    daemon = Daemon(tmp_path / "relay", relay_forks)
    file, other = daemon.conf / "60-cut.toml", tmp_path / "other"
    launching = list[Place]()

    def happens() -> None:
        if launching and file.exists():
            launching.pop().console.kill()

    async with (
        stand_between(other / "admin.sock", daemon.state / "admin.sock", happens),
        run_place(daemon, relay_forks, other) as place,
        Destination() as hook,
    ):
        text = NEW % ("cut", hook.url)
        checked = await place.check(EDIT, name=file.name, text=text)
        launching.append(place)
        with pytest.raises(aiohttp.ClientError):
            await place.launch(EDIT, checked, name=file.name, text=text)
        assert file.read_text() == f"{MARK}\n{text}"
        console = RunningConsole(daemon.conf, other, relay_forks)
        await console.start()
        async with sign_in(console, "cleo") as browser:
            again = Place(daemon, console, {"cleo": browser})
            assert "cut off" in plain(await browser.get("/activity"))
            assert "This launch is under way, or was cut off" in plain(await browser.get("/launches/1"))
            undone = await again.launch("/launches/1/undo", await browser.get("/launches/1/undo"))
            assert undone.status == 303, plain(undone)
        assert not file.exists()
        assert [path.name for path in daemon.conf.iterdir() if path.name.startswith(".")] == []
        assert (await place.read_config())["changed"] == []
        assert await console.stop() == 0
