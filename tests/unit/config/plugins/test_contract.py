"""What a plugin's class says of itself: a mistake in it is told under the plugin's name, and hurts nobody else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
from click.testing import CliRunner, Result

from relay.api import BatchSettings, ConnectorSettings, RetrySettings
from relay.api.connector import BatchDefaults, ConnectorDefaults, RetryDefaults
from relay.cli.main import relay as command
from relay.config.plugins.registry import Registry

CONNECTOR = """
from relay.api import *
from pydantic import Field
from typing import ClassVar

class Bad(Connector, type="bad"{options}):
    {attribute}
    class Settings(ConnectorSettings):
        names: dict[str, str] = {{}}
        {setting}
    async def deliver(self, batch): pass
"""
BASES = """
from relay.api import *

class Post(Source):
    def decode(self, request): return Decoded([], [])

class Same(Filter):
    def apply(self, event): return event

"""
GOOD = CONNECTOR.format(options="", attribute="", setting="")
STAYS = "is a setting of every table: it stays a setting"
KEEPS = "is a setting of every table: it keeps its type and its limits, or choose another name"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    return tmp_path / "plugins"


def error_of(folder: Path, text: str) -> str | None:
    (folder / "bad.py").write_text(text)
    registry = Registry.discover([folder])
    assert registry.get_type("connector", "heap")
    (found,) = [info for info in registry.list_plugins() if info.name == "bad"]
    return found.error


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(command, [*words, "--plugins", str(folder)])


@pytest.mark.parametrize(
    ("attribute", "error"),
    [
        ("accepted_types = 'cohort.Change'", "Bad.accepted_types: Input should be a valid tuple, got 'cohort.Change'"),
        ("accepted_types = (1,)", "Bad.accepted_types: Input should be a valid string, got (1,)"),
        ("per_type_settings = ('nope',)", "Bad.per_type_settings: Bad.Settings has no setting nope"),
        ("erasure_setting = None", "Bad.erasure_setting: Input should be a valid string, got None"),
        ("erasure_setting = 'nope'", "Bad.erasure_setting: Bad.Settings has no setting nope"),
        (
            "accepted_types = property(lambda self: ())",
            "Bad.accepted_types: Input should be a valid tuple, got <property",
        ),
        (
            "__doc__ = 5\n    accepted_types: ClassVar[tuple[str, ...]] = ('x',)\n    per_type_settings = ('names',)",
            None,
        ),
    ],
)
def test_a_class_attribute_is_of_its_type_and_names_what_there_is(
    folder: Path, attribute: str, error: str | None
) -> None:
    found = error_of(folder, CONNECTOR.format(options="", attribute=attribute, setting=""))
    assert found == error if error is None else str(found).startswith(f"TypeError: {error}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("class S(Post, type='s'):\n    emitted_types = None", "S.emitted_types: Input should be a valid tuple"),
        ("class S(Post, type='s'):\n    accepted_status = '200'", "S.accepted_status: Input should be a valid int"),
        ("class S(Post, type='s'):\n    accepted_status = 404", "S.accepted_status: Input should be less"),
        ("class S(Post, type='s'):\n    methods = ['GET']", "S.methods: Input should be a valid tuple"),
        ("class S(Post, type='s'):\n    disabled_after = '5d'", "S.disabled_after: Input should be a valid number"),
        ("class S(Post, type='s'):\n    auth_setting = 'secret'", "S.auth_setting: S.Settings has no setting secret"),
        ("class F(Same, type='f'):\n    stateful = 'no'", "F.stateful: Input should be a valid boolean"),
        ("class F(Same, type='a b'):\n    pass", "F.type: expected letters, digits, _ . and -, with a letter first"),
        ("class F(Same, type=5):\n    pass", "F.type: expected letters"),
    ],
)
def test_sources_and_filters_are_looked_at_too(folder: Path, text: str, error: str) -> None:
    assert str(error_of(folder, f"{BASES}{text}\n")).startswith(f"TypeError: {error}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("class C(Send, type='c'):\n    async def deliver(self): pass", "C.deliver: {} (self, batch), {} (self)"),
        ("class C(Send, type='c'):\n    def key(self, a, b): pass", "C.key: {} (self, event), {} (self, a, b)"),
        ("class C(Send, type='c'):\n    async def probe(self, *, a): pass", "C.probe: {} (self), {} (self, a)"),
        ("class S(Post, type='s'):\n    def decode(): pass", "S.decode: {} (self, request), {} ()"),
        ("class F(Same, type='f'):\n    def apply(self): pass", "F.apply: {} (self, event), {} (self)"),
        ("class A(Alert, type='a'):\n    async def send(self): pass", "A.send: {} (self, message), {} (self)"),
        ("class C(Send, type='c'):\n    async def deliver(self, events: Later, more=1, *, last=2): pass", None),
        ("class C(Send, type='c'):\n    async def deliver(*given, **named): pass", None),
        ("class C(Send, type='c'):\n    @staticmethod\n    def key(event): pass", None),
    ],
)
def test_a_method_that_relay_cannot_call_is_refused(folder: Path, text: str, error: str | None) -> None:
    base = "class Send(Connector):\n    async def deliver(self, batch): pass\n"
    found = error_of(folder, f"from __future__ import annotations\n{BASES}{base}\n{text}\n")
    said = error and error.format("relay calls it with", "but it takes")
    assert found == (said and f"TypeError: {said}")


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("timeout: int = 5", f"timeout {KEEPS}"),
        ("timeout: float = 5.0", f"timeout {KEEPS}"),
        ("timeout: Duration = Field(5.0, gt=0)", f"timeout {KEEPS}"),
        (
            "timeout: Duration = Field('5s', gt=0, le=3600)",
            "timeout has a wrong default: Input should be a valid number",
        ),
        ("timeout: Duration = Field(0.0, gt=0, le=60)", "timeout has a wrong default: Input should be greater than 0"),
        ("timeout: ClassVar[float] = 5.0", f"timeout {STAYS}"),
        ("timeout = property(lambda self: 5.0)", f"timeout {KEEPS}"),
        ("concurrency: int = Field(4, ge=0, le=256)", f"concurrency {KEEPS}"),
        ("events: str = 'x'", f"events {KEEPS}"),
        ("filters: tuple[int, ...] = ()", f"filters {KEEPS}"),
        ("type: int", f"type {KEEPS}"),
        ("batch: int = 5", "batch is a setting of every table: it stays a BatchSettings"),
        (
            "batch: BatchSettings = BatchSettings(events=5)",
            "batch gets its defaults one by one, where the class begins",
        ),
        ("seconds: float = Field(5, alias='timeout')", "seconds is a name that relay uses itself: choose another"),
        ("warnings: bool = False", "warnings is a name that relay uses itself: choose another"),
        ("timeout: Duration = Field(5.0, gt=0, le=60)", None),
        ("concurrency: int = Field(1, ge=1, le=1)", None),
        ("events: EventSelection = ('email',)", None),
    ],
)
@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
def test_a_setting_that_shadows_one_of_relays_is_refused_with_its_name(
    folder: Path, setting: str, error: str | None
) -> None:
    """Looked at: types, limits, defaults, names in conf.d, methods; another default or a narrower limit is none."""
    found = error_of(folder, CONNECTOR.format(options="", attribute="", setting=setting))
    assert found is None if error is None else str(found).startswith(f"TypeError: Bad.Settings.{error}"), found


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
def test_a_table_in_a_table_of_a_plugins_own_is_looked_at_too(folder: Path) -> None:
    text = "from relay.api import *\nclass Mine(BatchSettings):\n    age: int = 5\n" + CONNECTOR
    assert error_of(folder, text.format(options="", attribute="", setting="batch: Mine = Mine()")) == (
        f"TypeError: Bad.Settings.batch.age {KEEPS}"
    )


def test_defaults_of_batch_and_retry_stand_each_by_itself(folder: Path) -> None:
    """In the settings, in the schema, in `config show`, and for types that are made of others."""
    options = ", batch={'events': 10, 'size': '2KiB'}, retry={'max': '9s'}"
    more = "class Worse(Bad, type='worse', batch={'age': '1m'}):\n    pass\n"
    assert error_of(folder, CONNECTOR.format(options=options, attribute="", setting="") + more) is None
    conf = folder.parent / "conf"
    conf.mkdir()
    (conf / "a.toml").write_text(
        "[connector.c]\ntype = 'bad'\n[connector.c.batch]\nevents = 7\n[connector.d]\ntype = 'worse'\n"
    )
    shown = json.loads(run(folder, "config", "show", "--json", "--conf", str(conf)).stdout)
    values = {one["key"]: one["value"] for one in shown}
    assert {name: values[f"connector.c.batch.{name}"] for name in ("events", "size", "age")} == {
        "events": 7, "size": "2KiB", "age": "3ms",
    }  # fmt: skip
    assert {name: values[f"connector.d.batch.{name}"] for name in ("events", "size", "age")} == {
        "events": 10, "size": "2KiB", "age": "1m",
    }  # fmt: skip
    assert (values["connector.c.retry.first"], values["connector.c.retry.max"]) == ("1s", "9s")
    schema = json.loads(run(folder, "config", "schema").stdout)["$defs"]
    default = schema["connector.bad"]["properties"]["batch"]["default"]
    assert default | {"events": 10, "size": "2KiB", "age": "3ms"} == default
    inner = schema[schema["connector.worse"]["properties"]["batch"]["$ref"].rpartition("/")[2]]["properties"]
    assert [inner[name]["default"] for name in ("events", "size", "age")] == [10, "2KiB", "1m"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (", batch={'events': 0}", "greater than or equal to 1"),
        (", batch={'size': 5}", 'expected a size such as "64MiB"'),
        (", batch={'evnts': 5}", "evnts is no setting of BatchSettings"),
        (", retry={'first': '10s', 'max': '1s'}", "first (10s) must be at most max (1s)"),
        (", window=5", "Bad: only batch and retry stand after the type, not window"),
    ],
)
def test_a_wrong_default_of_a_table_is_told(folder: Path, options: str, error: str) -> None:
    assert error in str(error_of(folder, CONNECTOR.format(options=options, attribute="", setting="")))


def test_the_defaults_that_can_be_given_are_the_settings_that_there_are() -> None:
    for defaults, model in ((BatchDefaults, BatchSettings), (RetryDefaults, RetrySettings)):
        assert get_type_hints(defaults).keys() == model.model_fields.keys()
    assert get_type_hints(ConnectorDefaults).keys() <= ConnectorSettings.model_fields.keys()


SAYINGS = """
from typing import Any
import click
from pydantic import Field, PlainSerializer, field_validator
from relay.api import *

class Stop(BaseException):
    pass

def fail(*_):
    raise {error}

class Bad(Connector, type="bad"):
    class Settings(ConnectorSettings):
        {setting}
    {attribute}
    async def deliver(self, batch): pass
"""
OTHERS = "[connector.good]\ntype = 'stdout'\nevents = ['emial']\n"


@pytest.mark.parametrize("error", ["KeyError('x')", "Stop", "SystemExit(3)", "BaseExceptionGroup('x', [Stop()])"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("x: int = 1\n        contradictions = fail", "connector.c: could not be checked, which is a bug of {who}"),
        ("x: int = 1\n        warnings = fail", "connector.c: was not looked at whole, which is a bug of {who}"),
        (
            "x: int = 1\n        @field_validator('x', mode='before')\n        @classmethod\n"
            "        def _x(cls, value): fail()",
            "connector.c: could not be checked, which is a bug of {who}",
        ),
    ],
)
def test_settings_that_fail_are_told_under_the_plugins_name(folder: Path, error: str, setting: str, said: str) -> None:
    """All else in the configuration is told as well."""
    (folder / "bad.py").write_text(SAYINGS.format(error=error, setting=setting, attribute=""))
    conf = folder.parent / "conf"
    conf.mkdir()
    (conf / "a.toml").write_text("[connector.c]\ntype = 'bad'\nx = 2\n" + OTHERS)
    told = run(folder, "check", "--conf", str(conf)).output
    name = error.partition("(")[0]
    assert said.format(who=f"plugin bad ({folder}/bad.py): {name}") in told
    assert 'connector.good.events[0]: "emial" matches no known event type' in told


@pytest.mark.parametrize("method", ["contradictions", "warnings"])
@pytest.mark.parametrize("value", ["['x']", "[('x', 1, 2)]", "[(1, 'x')]", "5", "[None]", "[('', 'x')]"])
def test_a_description_of_settings_in_another_form_is_a_bug_of_the_plugin(
    folder: Path, method: str, value: str
) -> None:
    setting = f"x: int = 1\n        def {method}(self): return {value}"
    (folder / "bad.py").write_text(SAYINGS.format(error="KeyError", setting=setting, attribute=""))
    conf = folder.parent / "conf"
    conf.mkdir()
    (conf / "a.toml").write_text("[connector.c]\ntype = 'bad'\n" + OTHERS)
    told = run(folder, "check", "--conf", str(conf)).output
    assert "connector.c: " in told
    assert ("which is a bug of plugin bad" in told) == (value != "[('', 'x')]")
    assert 'connector.good.events[0]: "emial" matches no known event type' in told


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("single_worker = property(fail)", "KeyError: 'x'"),
        ("keeps_order = property(fail)", "KeyError: 'x'"),
        ("local_path = property(fail)", "KeyError: 'x'"),
        ("local_path = '/x'", "TypeError: local_path says str, and is to say a Path or None"),
        ("single_worker = 'no'", "TypeError: single_worker says str, and is to say true or false"),
        ("def __init__(self, name, settings, *, folder): pass", "TypeError: its __init__ does not call super()"),
        (
            "def __init__(self, name, settings, *, folder):\n"
            "        super().__init__('other', settings, folder=folder)",
            "TypeError: its __init__ gives it another name than the table has",
        ),
        ("def __new__(cls, *_, **__): return None", "TypeError: its __init__ does not call super()"),
    ],
)
def test_what_a_connector_says_of_itself_is_asked_when_it_is_checked(folder: Path, attribute: str, said: str) -> None:
    text = SAYINGS.format(error="KeyError('x')", setting="x: int = 1", attribute=attribute)
    (folder / "bad.py").write_text(text)
    conf = folder.parent / "conf"
    conf.mkdir()
    (conf / "a.toml").write_text("[runtime]\nworkers = 2\n[connector.c]\ntype = 'bad'\n" + OTHERS)
    answer = run(folder, "check", "--conf", str(conf))
    assert answer.exit_code == 78
    assert f"a.toml:3: connector.c: cannot be made: {said}" in answer.output
    assert 'connector.good.events[0]: "emial" matches no known event type' in answer.output


SCHEMALESS = """x: object = Field(default_factory=fail)
        y: Weird = Weird()
        z: Weird = Rude()"""
WEIRD = """
from collections.abc import Mapping
class Weird:
    @classmethod
    def __get_pydantic_core_schema__(cls, *_):
        from pydantic_core import core_schema
        return core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(fail))
    @classmethod
    def __get_pydantic_json_schema__(cls, *_):
        fail()
    __str__ = __repr__ = __iter__ = items = fail

class Rude(Weird, Mapping):
    __getitem__ = fail
    def __len__(self): return 1
"""


def schema(folder: Path) -> None:
    answer = run(folder, "config", "schema")
    assert json.loads(answer.stdout)["$defs"]["connector.heap"]["properties"]["endpoint"]
    said = f"settings of the connector type bad of plugin bad ({folder}/bad.py) cannot be described: KeyError: 'x'"
    assert said in answer.stderr


def show(folder: Path) -> None:
    conf = folder.parent / "conf"
    conf.mkdir()
    (conf / "a.toml").write_text("[connector.c]\ntype = 'bad'\nx = 1\n" + OTHERS)
    answer = run(folder, "config", "show", "--conf", str(conf))
    assert '# y = "cannot be shown: ' in answer.stdout
    assert 'events = ["emial"]' in answer.stdout


def add(folder: Path) -> None:
    answer = CliRunner().invoke(command, ["add", "--plugins", str(folder), "connector", "--help"])
    assert answer.exit_code == 0
    assert "heap" in answer.output


def plugins(folder: Path) -> None:
    assert "connector bad" in run(folder, "plugins").output


def check(folder: Path) -> None:
    conf = folder.parent / "conf"
    conf.mkdir()
    (conf / "a.toml").write_text("[connector.c]\ntype = 'bad'\nx = 1\n" + OTHERS)
    answer = run(folder, "check", "--conf", str(conf))
    assert (answer.exit_code, '"emial" matches no known event type' in answer.output) == (0, True), answer.output


@pytest.mark.parametrize("look", [schema, show, add, plugins, check])
def test_settings_that_cannot_be_described_or_written_hurt_no_other(folder: Path, look: Callable[[Path], None]) -> None:
    text = SAYINGS.format(error="KeyError('x')", setting=SCHEMALESS, attribute="__doc__ = 5")
    (folder / "bad.py").write_text(text.replace("class Bad(", f"{WEIRD}\nclass Bad("))
    look(folder)


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio\nraise asyncio.CancelledError",
        "raise GeneratorExit",
        "class Stop(BaseException): pass\nraise Stop",
        "class V:\n    def __str__(self): raise KeyError\n__version__ = V()",
        "import click\nfrom relay.api import *\nC = click.Command('x', help=5)\n"
        "@hookimpl\ndef relay_commands(): return [C]",
        "from relay.api import *\n@hookimpl\ndef relay_types(): return 5",
        "from relay.api import *\n@hookimpl\ndef relay_types():\n    yield 1 / 0",
        "from relay.api import *\nclass M(type(Filter)):\n    __bases__ = 5\nclass F(Filter, metaclass=M): pass",
    ],
)
def test_whatever_a_plugin_does_while_it_is_loaded_breaks_it_alone(folder: Path, text: str) -> None:
    (folder / "good.py").write_text(GOOD)
    assert error_of(folder, text)
    assert "connector bad" in run(folder, "plugins").output
    assert run(folder, "events", "email").exit_code == 0
