"""Launches of the console where the disk, relay or an admin is in the way, and where no relay runs."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="the console takes the package currents-relay[console]")

from relay.console.edits.conf import MARK
from relay.testing import Destination
from tests.daemon import Daemon
from tests.forks import Forks
from tests.process.commands import act, ask
from tests.process.console_place import EDIT, NEW, plain, run_place


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
        subprocess.run(mount, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a tmpfs cannot be mounted here (that takes root): {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


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
