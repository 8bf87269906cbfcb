import os
import signal
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import relay.config.plugins.registry
from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry
from relay.plugin_places import KINDS

CONNECTOR = """from relay.api import *
class C(Connector, type={type!r}):
    here = __file__
    async def deliver(self, batch): pass
"""
FOREIGN = "class Foreign(C, type='foreign'):\n    __module__ = 'elsewhere'\n"
COMMAND = """
import click
from relay.api import hookimpl

@click.command
def greet():
    click.echo("hello")

@hookimpl
def relay_commands():
    return [greet]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a distribution with these modules as entry points, in a folder on the path.

    `declared`: what the package says that its modules provide, as lines of entry points by kind.
    """

    def install(name, declared=(), **modules):
        about = tmp_path / "site" / f"{name}-1.5.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        lines = [f"{module} = relay_test_{module}\n" for module in modules]
        (about / "entry_points.txt").write_text("[relay]\n" + "".join(lines) + "".join(declared))
        for module, text in modules.items():
            (tmp_path / "site" / f"relay_test_{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    yield install
    for name in [name for name in sys.modules if name.startswith("relay_test_")]:
        del sys.modules[name]


def info(registry, name):
    (found,) = [plugin for plugin in registry.list_plugins() if plugin.name == name]
    return found


def test_a_drop_in_file_provides_its_own_classes(folder):
    text = "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: 'int'\n" + CONNECTOR.format(type="chat")
    (folder / "talk.py").write_text(
        f"__version__ = '2.0'\n{text}\nclass Base(Connector): pass\nclass Sub(C): pass\n{FOREIGN}"
    )
    registry = Registry.discover([folder])
    found = info(registry, "talk")
    assert (found.origin, found.version, found.provides) == (str(folder / "talk.py"), "2.0", ("connector chat",))
    assert registry.get_type("connector", "chat").__module__ == "relay_dropin_talk"
    assert (registry.get_type("source", "chat"), registry.get_type("filter", "chat")) == (None, None)


def test_a_drop_in_package_may_import_its_own_modules(folder):
    (folder / "talk").mkdir()
    (folder / "talk" / "__init__.py").write_text("from .inner import C\n")
    (folder / "talk" / "inner.py").write_text(CONNECTOR.format(type="chat"))
    assert Registry.discover([folder]).get_type("connector", "chat").here == str(folder / "talk" / "inner.py")


def test_a_changed_drop_in_is_loaded_anew(folder):
    (folder / "talk.py").write_text(CONNECTOR.format(type="chat"))
    assert Registry.discover([folder]).get_type("connector", "chat")
    (folder / "talk.py").write_text(CONNECTOR.format(type="chatter"))
    assert Registry.discover([folder]).get_type("connector", "chatter")


def test_a_changed_module_of_a_drop_in_package_is_loaded_anew(folder):
    (folder / "talk").mkdir()
    (folder / "talk" / "__init__.py").write_text("from .inner import C\n")
    for name in ("chat", "chatter"):
        (folder / "talk" / "inner.py").write_text(CONNECTOR.format(type=name))
        assert Registry.discover([folder]).get_type("connector", name)


def test_of_two_drop_ins_with_one_name_the_first_folder_has_its_way(folder, tmp_path):
    (tmp_path / "later").mkdir()
    (folder / "talk.py").write_text(CONNECTOR.format(type="chat"))
    (tmp_path / "later" / "talk.py").write_text(CONNECTOR.format(type="other"))
    assert info(Registry.discover([folder, tmp_path / "later"]), "talk").provides == ("connector chat",)


def test_names_with_an_underscore_or_a_dot_and_other_files_are_no_plugins(folder):
    for name in ("_off.py", ".swp.py", "notes.txt"):
        (folder / name).write_text("1 / 0")
    (folder / "empty").mkdir()
    assert {plugin.name for plugin in Registry.discover([folder, folder / "no"]).list_plugins()} == {
        plugin.name for plugin in Registry.discover([]).list_plugins()
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def (", "SyntaxError: invalid syntax"),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from relay.api import *\n@hookimpl\ndef relay_typos(): return []", "PluginValidationError: unknown hook"),
        ("from relay.api import *\n@hookimpl\ndef relay_types(events): return []", "PluginValidationError: Plugin"),
        ("from relay.api import *\n@hookimpl\nasync def relay_types(): return []", "TypeError: relay_types must be a"),
        ("from relay.api import *\n@hookimpl\ndef relay_types(): return [int]", "TypeError: <class 'int'> is no"),
        ("from relay.api import *\n@hookimpl\ndef relay_types(): return [Connector]", "TypeError: <class 'relay"),
        (CONNECTOR.format(type="x") + "    Settings = Settings", "TypeError: C.Settings must be a subclass of Conn"),
    ],
)
def test_a_broken_plugin_is_recorded_and_stops_nothing(folder, text, error):
    (folder / "bad.py").write_text(text)
    (folder / "good.py").write_text(CONNECTOR.format(type="chat"))
    registry = Registry.discover([folder])
    assert info(registry, "bad").error.startswith(error)
    assert info(registry, "bad").provides == ()
    assert registry.get_type("connector", "chat")


def test_a_plugin_that_hangs_while_it_is_loaded_holds_up_nobody_for_long(folder, monkeypatch):
    """Looked at: one that catches the first error, and a timer that somebody else has set."""
    monkeypatch.setattr(relay.config.plugins.registry, "LOAD_S", 0.2)
    (folder / "bad.py").write_text("import time\ntry:\n    time.sleep(3600)\nexcept OSError:\n    time.sleep(3600)")
    (folder / "good.py").write_text(CONNECTOR.format(type="chat"))
    before = signal.setitimer(signal.ITIMER_REAL, 3600)
    registry = Registry.discover([folder])
    assert 3000 < signal.setitimer(signal.ITIMER_REAL, *before)[0] < 3600
    assert info(registry, "bad").error == "TimeoutError: it was not loaded within 0.2 s"
    assert registry.get_type("connector", "chat")


def test_an_unknown_type_is_explained_by_the_error_of_a_broken_plugin(folder, tmp_path):
    (folder / "chat.py").write_text("import not_there_at_all")
    (folder / "other.py").write_text("raise ValueError('first line\\nsecond line')")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.toml").write_text("[connector.c]\ntype = 'chat'\n[filter.f]\ntype = 'whatever'\n")
    with pytest.raises(ConfigError) as error:
        load([tmp_path / "conf"], Registry.discover([folder]))
    named, unnamed = map(str, error.value.mistakes)
    assert "plugin chat is broken: ModuleNotFoundError: No module named 'not_there_at_all'" in named
    assert "other" not in named
    assert unnamed.endswith("; plugin other is broken: ValueError: first line")


def test_an_unknown_type_names_the_first_of_many_broken_plugins(folder, tmp_path):
    for name in ("a", "b", "c", "d"):
        (folder / f"{name}.py").write_text("1 / 0")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.toml").write_text("[filter.f]\ntype = 'whatever'\n")
    with pytest.raises(ConfigError) as error:
        load([tmp_path / "conf"], Registry.discover([folder]))
    (mistake,) = map(str, error.value.mistakes)
    assert (mistake.count("is broken"), mistake.endswith("; 2 more plugins are broken")) == (2, True)
    assert len([one for one in map(str, error.value.warnings) if "cannot be used" in one]) == 4


def test_the_second_provider_of_a_type_provides_the_rest(folder):
    (folder / "a.py").write_text(CONNECTOR.format(type="chat"))
    (folder / "b.py").write_text(
        CONNECTOR.format(type="chat") + "class F(Filter, type='free'): apply = lambda *_: None\n"
    )
    registry = Registry.discover([folder])
    assert (info(registry, "b").error, info(registry, "b").provides) == (None, ("filter free",))
    note = f"its connector chat is left out: that of plugin a ({folder}/a.py) counts"
    assert info(registry, "b").notes == (note,)
    assert registry.get_type("connector", "chat").here == str(folder / "a.py")


def test_two_classes_of_one_type_in_a_plugin_are_its_error(folder):
    (folder / "a.py").write_text(CONNECTOR.format(type="chat") + "class D(C, type='chat'): pass\nE = D\n")
    assert info(Registry.discover([folder]), "a").error == (
        "ValueError: it provides connector chat twice: give one of them another name"
    )


def test_a_package_replaces_no_type_of_relay_or_of_an_earlier_package(installed, folder):
    """Whatever its name and that of its entry point; a class that one package names twice is no rival of itself."""
    installed("aaa-relay", aaa=CONNECTOR.format(type="heap") + "class F(C, type='chat'): pass\n")
    installed("Zzz_relay", a=CONNECTOR.format(type="chat"), b="from relay_test_a import C\n")
    registry = Registry.discover([folder])
    assert registry.get_type("connector", "heap").__module__ == "relay_plugins.heap.connector"
    assert registry.get_type("connector", "chat").__module__ == "relay_test_aaa"
    places = {name: folder.parent / "site" / f"relay_test_{name}.py" for name in ("aaa", "a")}
    heap, chat = registry.rivalries["connector", "heap"], registry.rivalries["connector", "chat"]
    assert heap.startswith("of plugin heap (currents-relay, ")
    assert heap.endswith(f" counts, that of plugin aaa (aaa-relay, {places['aaa']}) is left out")
    assert chat == (
        f"of plugin aaa (aaa-relay, {places['aaa']}) counts, that of plugin a (Zzz_relay, {places['a']}) is left out"
    )
    assert info(registry, "aaa").error is None
    (folder / "mine.py").write_text(CONNECTOR.format(type="heap"))
    assert Registry.discover([folder]).get_type("connector", "heap").here == str(folder / "mine.py")


@pytest.mark.parametrize("part", ["talk", "talk/__init__.py", "talk/inner.py", "."])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_a_drop_in_that_others_may_write_is_refused(folder, part, mode):
    (folder / "talk").mkdir()
    (folder / "talk" / "__init__.py").write_text(CONNECTOR.format(type="chat"))
    (folder / "talk" / "inner.py").touch()
    (folder / part).chmod((folder / part).stat().st_mode | mode)
    registry = Registry.discover([folder])
    assert info(registry, "talk").error == (
        f"PermissionError: {folder / part} can be written by others: chmod go-w {folder / part}"
    )
    assert registry.get_type("connector", "chat") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_drop_in_of_another_user_is_refused(folder):
    (folder / "talk.py").write_text(CONNECTOR.format(type="chat"))
    os.chown(folder / "talk.py", 65534, 65534)
    assert "belongs to neither root nor" in info(Registry.discover([folder]), "talk").error


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("async def apply(self, event): pass", "apply has to be a plain function, not async"),
        ("def open(self): pass", "open has to be async"),
        ("def close(self): pass", "close has to be async"),
    ],
)
def test_a_filter_whose_methods_are_of_the_wrong_kind_is_told_at_once(folder, method, wrong):
    text = f"from relay.api import Filter\nclass F(Filter, type='sieve'):\n    apply = lambda *_: None\n    {method}\n"
    (folder / "sieve.py").write_text(text)
    assert info(Registry.discover([folder]), "sieve").error == f"TypeError: filter type sieve: F.{wrong}"


@pytest.mark.parametrize(
    ("kind", "method", "wrong"),
    [
        ("Source", "async def decode(self, request): pass", "S.decode has to be a plain function, not async"),
        ("Source", "async def verify(self, request): pass", "S needs a method `def decode(self, request)`"),
        (
            "Source",
            "decode = lambda *_: None\n    async def verify(self, request): pass",
            "S.verify has to be a plain function, not async",
        ),
        ("Filter", "pass", "S needs a method `def apply(self, event)`"),
    ],
)
def test_a_source_or_filter_that_nothing_can_call_is_a_broken_plugin(folder, kind, method, wrong):
    text = f"from relay.api import {kind}\nclass S({kind}, type='shop'):\n    {method}\n"
    (folder / "shop.py").write_text(text)
    assert info(Registry.discover([folder]), "shop").error == f"TypeError: {kind.lower()} type shop: {wrong}"


def test_installed_plugins_are_loaded_one_by_one(installed):
    installed("relay-chat", chat=CONNECTOR.format(type="chat"), broken="1 / 0")
    registry = Registry.discover([])
    found = info(registry, "chat")
    assert (found.origin, found.version, found.provides) == ("relay-chat", "1.5", ("connector chat",))
    assert info(registry, "broken").error == "ZeroDivisionError: division by zero"


def test_a_plugin_is_loaded_when_needed_if_its_package_says_what_it_has(installed, folder):
    declared = ["[relay.connector]\nchat = relay_test_chat\n[relay.filter]\nsieve = relay_test_chat\n"]
    more = "class F(Filter, type='sieve'): apply = lambda *_: None\n"
    installed("relay-chat", declared, chat=CONNECTOR.format(type="chat") + more, noise="print('noise')")
    (folder / "a.toml").write_text("[connector.c]\ntype = 'stdout'\n[connector.d]\ntype = 'cat'\n")
    registry = Registry.discover([])
    assert ("relay_test_noise" in sys.modules, "relay_test_chat" in sys.modules) == (True, False)
    assert {"chat", "stdout"} <= {*registry.list_names("connector")}
    with pytest.raises(ConfigError) as error:
        load([folder], registry)
    (mistake,) = error.value.mistakes
    assert (mistake.suggestion, "relay_test_chat" in sys.modules) == ("chat", False)
    assert registry.get_type("filter", "sieve").__module__ == "relay_test_chat"
    assert registry.get_type("connector", "chat").__module__ == "relay_test_chat"
    assert info(registry, "chat").provides == ("connector chat", "filter sieve")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (
            CONNECTOR.format(type="talk"),
            "TypeError: its package says that it provides connector chat, and it provides connector talk",
        ),
        ("", "TypeError: its package says that it provides connector chat, and it provides nothing"),
    ],
)
def test_a_broken_plugin_of_such_a_package_is_told_when_needed(installed, folder, text, error):
    installed("relay-chat", ["[relay.connector]\nchat = relay_test_chat\n"], chat=text)
    (folder / "a.toml").write_text("[connector.c]\ntype = 'chat'\n")
    registry = Registry.discover([])
    assert registry.broken == []
    with pytest.raises(ConfigError) as raised:
        load([folder], registry)
    (mistake,) = raised.value.mistakes
    assert f"plugin chat is broken: {error}" in mistake.reason
    assert [(one.name, one.provides, one.error) for one in registry.broken] == [("chat", (), error)]


def test_code_that_came_after_the_start_is_not_loaded(installed, folder):
    """Neither here nor there: a running relay would run it beside its own older code."""
    installed("relay-chat", ["[relay.connector]\nchat = relay_test_chat\n"], chat=CONNECTOR.format(type="chat"))
    registry = Registry.discover([])
    place = folder.parent / "site" / "relay_test_chat.py"
    place.write_text(CONNECTOR.format(type="chat") + "    newer = True\n")
    assert registry.get_type("connector", "chat") is None
    assert "have changed since relay found it, and take a restart" in info(registry, "chat").error
    assert registry.stale == [f"chat ({place})"]


def test_the_package_of_relay_says_what_its_plugins_provide():
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]
    for name, module in points["relay"].items():
        said = {(kind, one) for kind in KINDS for one, place in points[f"relay.{kind}"].items() if place == module}
        things = relay.config.plugins.registry._list_things(import_module(module))
        assert {*relay.config.plugins.registry._sort_by_key(things)} == said != set(), name


def test_a_drop_in_replaces_one_type_of_an_installed_plugin(installed, folder):
    more = CONNECTOR.format(type="more").replace("class C", "class More")
    installed("relay-chat", chat=CONNECTOR.format(type="chat") + more)
    (folder / "mine.py").write_text(CONNECTOR.format(type="chat"))
    registry = Registry.discover([folder])
    assert registry.get_type("connector", "chat").here == str(folder / "mine.py")
    assert (info(registry, "chat").provides, info(registry, "chat").error) == (("connector more",), None)
    note = f"its connector chat is left out: that of plugin mine ({folder}/mine.py) counts"
    assert info(registry, "chat").notes == (note,)


def test_a_drop_in_of_classes_without_a_type_name_is_told_what_they_lack(folder):
    (folder / "talk.py").write_text(
        "from relay.api import *\nclass Chat(Connector): pass\nclass Mute(Filter, type=''): pass\n"
    )
    registry = Registry.discover([folder])
    assert info(registry, "talk").provides == ()
    assert info(registry, "talk").notes == (
        'class Chat has no type: write class Chat(Connector, type="chat")',
        'class Mute has no type: write class Mute(Filter, type="mute")',
    )


def test_hooks_provide_types_made_in_another_way_and_commands(folder):
    made = "from relay.api import *\nmade = type('F', (Filter,), {'apply': lambda *_: None}, type='chat')\n"
    (folder / "talk.py").write_text(f"{COMMAND}\n{made}\n@hookimpl\ndef relay_types():\n    return [made]\n")
    registry = Registry.discover([folder])
    assert info(registry, "talk").error is None
    assert set(info(registry, "talk").provides) == {"filter chat", "command greet"}
    assert "greet" in [command.name for command in registry.list_commands()]


def test_a_module_that_only_adds_commands_still_provides_its_classes(folder):
    (folder / "talk.py").write_text(COMMAND + CONNECTOR.format(type="chat"))
    assert set(info(Registry.discover([folder]), "talk").provides) == {"connector chat", "command greet"}


def test_what_has_changed_since_it_was_loaded_is_known(folder, installed):
    (folder / "talk.py").write_text(CONNECTOR.format(type="talk"))
    (folder / "broken.py").write_text("no Python")
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text(CONNECTOR.format(type="pack"))
    installed("more", extra=CONNECTOR.format(type="extra"))
    registry = Registry.discover([folder])
    (folder / "talk.py").touch()
    assert registry.stale == []
    (folder / "broken.py").write_text("")
    assert registry.stale == [f"broken ({folder / 'broken.py'})"]
    (folder / "talk.py").unlink()
    (folder / "pack" / "late.py").write_text("")
    extra = folder.parent / "site" / "relay_test_extra.py"
    extra.write_text("")
    assert registry.stale == [
        f"broken ({folder / 'broken.py'})",
        f"pack ({folder / 'pack'})",
        f"talk ({folder / 'talk.py'})",
        f"extra ({extra})",
    ]
