from typing import Any

import pytest

from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry

EMPTY = Registry()


@pytest.fixture
def folders(tmp_path):
    found = [tmp_path / name for name in ("etc", "run", "lib")]
    for folder in found:
        folder.mkdir()
    return found


def level(folders):
    return load(folders, EMPTY).config.log.level


def log(level):
    return f'[log]\nlevel = "{level}"\n'


def test_of_two_files_with_one_name_the_first_folder_has_its_way(folders):
    etc, _, lib = folders
    (lib / "a.toml").write_text(log("debug"))
    assert level(folders) == "debug"
    (etc / "a.toml").write_text(log("error"))
    assert level(folders) == "error"


def test_an_empty_file_or_a_link_to_dev_null_masks_its_name(folders):
    etc, run, lib = folders
    (lib / "a.toml").write_text(log("debug"))
    (run / "a.toml").symlink_to("/dev/null")
    assert level(folders) == "info"
    (run / "a.toml").unlink()
    (etc / "a.toml").touch()
    assert level(folders) == "info"


@pytest.mark.parametrize(
    "name", ["a.conf", ".a.toml", "#a.toml", "a.toml~", "a.dpkg-new.toml", "a.toml.dpkg-old", "a.rpmsave.toml", "toml"]
)
def test_leftovers_of_editors_and_package_managers_do_not_count(folders, name):
    (folders[0] / name).write_text("not toml")
    assert level(folders) == "info"


def test_tables_merge_over_files_but_a_key_is_set_in_one_place(folders):
    etc, _, lib = folders
    (lib / "a.toml").write_text('[log]\nformat = "json"\n')
    (etc / "b.toml").write_text(log("debug"))
    assert load(folders, EMPTY).config.log.format == "json"
    (etc / "c.toml").write_text("# again\n" + log("error"))
    with pytest.raises(ConfigError) as error:
        load(folders, EMPTY)
    assert str(error.value) == (
        "c.toml:3: log.level: is set already at b.toml:2; "
        "keep one of them, or move this one to b.toml.d/ to override it"
    )


def test_a_value_in_one_file_and_a_table_in_another_clash(folders):
    (folders[0] / "a.toml").write_text("log = 1\n")
    (folders[0] / "b.toml").write_text(log("debug"))
    with pytest.raises(ConfigError) as error:
        load(folders, EMPTY)
    assert [(mistake.file, mistake.key) for mistake in error.value.mistakes] == [("a.toml", "log"), ("b.toml", "log")]


def test_overrides_replace_single_keys_of_a_file_in_order_of_name(folders):
    etc, run, lib = folders
    (lib / "a.toml").write_text('[log]\nlevel = "debug"\nformat = "json"\n')
    for folder, name, text in [(run, "20", log("error")), (etc, "10", log("warning")), (lib, "20", log("wrong"))]:
        (folder / "a.toml.d").mkdir()
        (folder / "a.toml.d" / f"{name}.toml").write_text(text)
    loaded = load(folders, EMPTY).config.log
    assert (loaded.level, loaded.format) == ("error", "json")


def test_a_table_knows_the_file_that_opens_it(tmp_path):
    connector = "[connector.c]\ntype = 'http'\nurl = 'http://127.0.0.1'"
    (tmp_path / "10-a.toml").write_text(connector)
    before = load([tmp_path], Registry.discover([])).config.connectors["c"]
    (tmp_path / "10-a.toml").rename(tmp_path / "20-b.toml")
    (tmp_path / "20-b.toml.d").mkdir()
    (tmp_path / "20-b.toml.d" / "site.toml").write_text("[connector.c]\nconcurrency = 4")
    after = load([tmp_path], Registry.discover([])).config.connectors["c"]
    assert (before.file, after.file) == ("10-a.toml", "20-b.toml")
    assert before == after  # nothing has changed but the place


def test_a_mistake_in_an_override_is_told_at_its_place(folders):
    (folders[0] / "a.toml").write_text(log("debug"))
    (folders[1] / "a.toml.d").mkdir()
    (folders[1] / "a.toml.d" / "x.toml").write_text('[log]\n\nlevel = "loud"\n')
    with pytest.raises(ConfigError, match=r"^a\.toml\.d/x\.toml:3: log\.level: expected"):
        load(folders, EMPTY)


def test_an_override_of_another_files_key_is_a_clash(folders):
    etc = folders[0]
    (etc / "a.toml").write_text('[log]\nformat = "json"\n')
    (etc / "b.toml").write_text(log("debug"))
    (etc / "b.toml.d").mkdir()
    (etc / "b.toml.d" / "x.toml").write_text('[log]\nformat = "console"\n')
    with pytest.raises(ConfigError, match=r"^b\.toml\.d/x\.toml:2: log\.format: is set already at a\.toml:2"):
        load(folders, EMPTY)


def test_overrides_of_a_masked_file_are_masked_and_of_no_file_warned_about(folders):
    (folders[0] / "a.toml").touch()
    for name in ("a.toml.d", "b.toml.d"):
        (folders[2] / name).mkdir()
        (folders[2] / name / "x.toml").write_text(log("error"))
    loaded = load(folders, EMPTY)
    assert loaded.config.log.level == "info"
    assert [str(warning) for warning in loaded.warnings if warning.file] == [
        "b.toml.d: overrides nothing: there is no b.toml"
    ]


def test_an_override_replaces_a_reference_to_a_secret_as_a_whole(tmp_path, monkeypatch):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hooky.py").write_text(
        "from relay.api import *\nclass Hooky(Source, type='hooky'):\n"
        "    class Settings(SourceSettings):\n        key: Secret\n        keys: dict[str, Secret]\n"
        "    def decode(self, request):\n        raise Malformed('no event')\n"
    )
    base, override = tmp_path / "a.toml", tmp_path / "a.toml.d" / "x.toml"
    base.write_text("[source.s]\ntype = 'hooky'\npath = '/s'\nkey = { credential = 'x' }\nkeys.one.credential = 'x'\n")
    override.parent.mkdir()
    override.write_text("[source.s]\nkey = { env = 'RELAY_KEY' }\nkeys = { one = { env = 'RELAY_KEY' } }\n")
    monkeypatch.setenv("RELAY_KEY", "k")
    settings: Any = load([tmp_path], Registry.discover([tmp_path / "plugins"])).config.sources["s"].settings
    assert (settings.key.reveal(), settings.keys["one"].reveal()) == ("k", "k")
