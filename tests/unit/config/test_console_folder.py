"""The console's folder: when its files count, what they override, and what they can never say."""

from pathlib import Path

import pytest

from relay.config.console.folder import ConfFolders, find_changed_files, find_folders
from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry

EMPTY = Registry()
LAUNCH = "[console]\nlaunch = true\n"


@pytest.fixture
def folders(tmp_path):
    made = {name: tmp_path / name for name in ("etc", "run", "lib", "state/conf.d")}
    for folder in made.values():
        folder.mkdir(parents=True)
    return ConfFolders([made["etc"], made["run"], made["lib"]], made["state/conf.d"])


def log(level):
    return f'[log]\nlevel = "{level}"\n'


def level(folders):
    return load(folders, EMPTY).config.log.level


def told(folders, **options):
    """The mistakes, or the warnings if there is none."""
    try:
        return [str(one) for one in load(folders, EMPTY, **options).warnings if "is enabled" not in str(one)]
    except ConfigError as error:
        return [str(one) for one in error.mistakes]


def test_the_folder_counts_once_another_says_so(folders):
    etc, console = folders.others[0], folders.console
    (console / "a.toml").write_text(log("debug"))
    assert level(folders) == "info"
    (etc / "b.toml").write_text(LAUNCH)
    assert level(folders) == "debug"
    (etc / "b.toml").write_text(LAUNCH.replace("true", "false"))
    assert level(folders) == "info"


@pytest.mark.parametrize(("place", "counted"), [(0, "error"), (1, "error"), (2, "debug")])
def test_etc_and_run_come_before_the_folder_and_packages_after_it(folders, place, counted):
    (folders.others[1] / "z.toml").write_text(LAUNCH)
    (folders.console / "a.toml").write_text(log("debug"))
    (folders.others[place] / "a.toml").write_text(log("error"))
    assert level(folders) == counted


@pytest.mark.parametrize("mask", [lambda path: path.touch(), lambda path: path.symlink_to("/dev/null")])
def test_a_file_of_the_console_is_masked_from_etc(folders, mask):
    (folders.others[0] / "z.toml").write_text(LAUNCH)
    (folders.console / "a.toml").write_text(log("debug"))
    mask(folders.others[0] / "a.toml")
    assert level(folders) == "info"


def test_a_drop_in_of_the_console_changes_a_key_of_another_file(folders):
    etc, console = folders.others[0], folders.console
    (etc / "a.toml").write_text(LAUNCH + log("debug") + 'format = "json"\n')
    (console / "a.toml.d").mkdir()
    (console / "a.toml.d" / "50-console.toml").write_text(log("error"))
    loaded = load(folders, EMPTY)
    assert (loaded.config.log.level, loaded.config.log.format) == ("error", "json")
    origins = {one.path: one.origin for one in loaded.config.list_effective()}
    assert origins["log", "level"] == f"{console}/a.toml.d/50-console.toml:2"
    assert origins["log", "format"] == "a.toml:5"
    (etc / "a.toml.d").mkdir()
    (etc / "a.toml.d" / "50-console.toml").symlink_to("/dev/null")
    assert level(folders) == "debug"


@pytest.mark.parametrize("name", ["a.toml", "b.toml.d/50-console.toml"])
def test_the_console_cannot_set_its_own_table(folders, name):
    (folders.others[0] / "b.toml").write_text(LAUNCH)
    path = folders.console / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(log("debug") + "[console.user.me]\nmay = 'configure'\n")
    (mistake,) = told(folders)
    assert mistake == (
        f"{path}:3: console: the console cannot set this itself: write [console] into a file of {folders.others[0]}"
    )


def test_a_file_there_that_says_launch_itself_does_not_count(folders):
    (folders.console / "a.toml").write_text(LAUNCH + log("debug"))
    assert level(folders) == "info"
    (warning,) = told(folders)
    assert warning == (
        f"{folders.console}: has 1 file without effect: files of the console count with launch = true"
        f" under [console] in another folder, such as {folders.others[0]}"
    )


@pytest.mark.parametrize("hidden", ["a.toml", "a.toml.d/b.toml"])
def test_the_console_cannot_hide_its_table_of_a_package(folders, hidden):
    lib = folders.others[2]
    (folders.others[0] / "z.toml").write_text("[console]\nhosts = ['a.example']\n")
    (lib / "a.toml.d").mkdir()
    (lib / "a.toml").write_text(log("debug"))
    (lib / hidden).write_text(LAUNCH)
    (folders.console / "a.toml").touch()
    mistakes = told(folders)
    assert [one.partition(": console: ")[0] for one in mistakes] == [f"{hidden}:1"]
    assert mistakes[0].endswith(f"rename the file in {folders.console}")


def test_who_may_not_read_the_folder_is_told_once_and_the_rest_is_checked(folders, monkeypatch):
    (folders.others[0] / "a.toml").write_text(LAUNCH + log("debug"))
    usual = Path.iterdir

    def iterdir(path):
        if path == folders.console:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    (warning,) = told(folders, secrets_required=False)
    assert warning.startswith(f"{folders.console}: may not be read by this user: the files of the console count, and ")
    assert told(folders)[0] == f"{folders.console}: cannot be read: Permission denied"


def test_a_mistake_in_a_file_of_the_console_names_its_whole_path(folders):
    (folders.others[0] / "a.toml").write_text(LAUNCH)
    (folders.console / "b.toml").write_text("[log]\nlevle = 'debug'\n")
    (folders.console / "c.toml.d").mkdir()
    (folders.console / "d.conf").touch()
    assert told(folders) == [f"{folders.console}/b.toml:2: log.levle: unknown key (did you mean level?)"]
    (folders.console / "b.toml").unlink()
    assert told(folders) == [
        f"{folders.console}/c.toml.d: overrides nothing: there is no c.toml",
        f"{folders.console}/d.conf: is not read: name it .toml, in lower case",
    ]


def test_files_that_others_may_write_are_warned_of(folders, monkeypatch):
    (folders.others[0] / "a.toml").write_text(LAUNCH)
    folders.console.chmod(0o700)
    paths = [folders.console / name for name in ("b.toml", "c.toml", "d.toml")]
    for path, mode in zip(paths, (0o600, 0o660, 0o600), strict=True):
        path.write_text("# nothing")
        path.chmod(mode)
    (folders.console / "e.toml").symlink_to("/dev/null")
    usual, other = Path.stat, 4711

    class Owned:
        def __init__(self, about):
            self.st_mode, self.st_uid = about.st_mode, other

    def stat(path, **options):
        return Owned(usual(path, **options)) if path == paths[2] else usual(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert told(folders)[-2:] == [
        f"{paths[1]}: others than its owner may write it: chmod go-w {paths[1]}",
        f"{paths[2]}: its owner can change the configuration: chown --reference={folders.console.parent} {paths[2]}",
    ]


def test_with_conf_the_files_of_the_console_lie_there(tmp_path):
    given, usual = find_folders(tmp_path / "conf", tmp_path), find_folders(None, tmp_path)
    assert (given.in_order, given.of_console) == ([tmp_path / "conf"], tmp_path / "conf")
    assert [str(one) for one in usual.in_order] == [
        "/etc/relay/conf.d",
        "/run/relay/conf.d",
        str(tmp_path / "conf.d"),
        "/usr/lib/relay/conf.d",
    ]
    assert usual.of_console == tmp_path / "conf.d"


def test_changed_files_of_the_console_are_found_if_they_count(folders):
    (folders.others[0] / "a.toml").write_text(LAUNCH)
    (folders.console / "b.toml").write_text(log("debug"))
    config = load(folders, EMPTY).config
    assert find_changed_files(folders, config.texts) == []
    (folders.console / "b.toml").write_text(log("error"))
    assert find_changed_files(folders, config.texts) == [f"{folders.console}/b.toml"]
    (folders.others[0] / "a.toml").write_text("")
    assert find_changed_files(folders, config.texts) == [f"{folders.console}/b.toml", "a.toml"]


def test_proposed_files_of_the_console_count_as_if_they_were_there(folders):
    (folders.others[0] / "a.toml").write_text(LAUNCH + log("debug"))
    path = folders.console / "a.toml.d" / "50-console.toml"
    assert load(folders, EMPTY, proposed={path: log("error")}).config.log.level == "error"
    with pytest.raises(ConfigError) as error:
        load(folders, EMPTY, proposed={path: LAUNCH})
    assert str(error.value).startswith(f"{path}:1: console: the console cannot set this itself: ")
