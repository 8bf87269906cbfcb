"""`relay config`: what the configuration comes to, and its schema."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from relay.cli.config import toml
from relay.cli.main import relay as command
from relay.config import Registry, load
from relay.config.schema import schema

ROOT = Path(__file__).parents[1]
SHIPPED = [*sorted((ROOT / "conf.d").iterdir())]
EXAMPLES = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
REGISTRY = Registry.discover([])
SCHEMA = Draft202012Validator(schema(REGISTRY))

ODD = """
[ingest]
listen = ["127.0.0.1:0", "unix:/run/relay/ingest.sock"]
read_timeout = "1500ms"
trusted_proxies = ["10.0.0.0/8", "unix"]

[journal]
max_size = "1025MiB"
retention = "2w"

[source.s]
type = "json"
path = "/s"
dedupe = 0

[connector.http]
type = "http"
url = "https://host.example/?key=hunter2"
from = "2026-11-01T00:00Z"
token = { env = "PATH" }
answers = { 409 = "retry" }
batch.events = 7

[connector.http.headers]
"X-Dotted.Name" = "\\"quoted\\" \\\\ \\u00e9"
X-Secret = { env = "HOME" }
Cookie = "hunter2"

[connector.off]
type = "heap"
enabled = false
mode = "api"
app_id = "12"
filters = ["f"]

[filter.f]
type = "keep"
field = "properties.a"
in = ["x", 1, true]
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf.d"
    (folder / "odd.toml.d").mkdir(parents=True)
    (folder / "odd.toml").write_text(ODD)
    (folder / "odd.toml.d" / "more.toml").write_text("[connector.http.batch]\nsize = '1024KiB'\n")
    return folder


def show(conf: Path, *more: str) -> str:
    answer = CliRunner().invoke(command, ["config", "show", "--conf", str(conf), *more])
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_what_is_shown_is_a_configuration_that_means_the_same(conf: Path, tmp_path: Path) -> None:
    (conf / "odd.toml").write_text(ODD.replace("?key=hunter2", "").replace("Cookie =", "X-Cake ="))
    again = tmp_path / "again"
    again.mkdir()
    (again / "all.toml").write_text(show(conf, "--origin"))
    before, after = (load([folder], REGISTRY) for folder in (conf, again))
    assert after.tables == before.tables


def test_defaults_that_are_shown_are_the_real_ones(conf: Path, tmp_path: Path) -> None:
    with_defaults = re.sub(r"(?m)^# (?=[\w.]+ = )", "", show(ROOT / "conf.d"))
    only_for = r"(?m)^(mask|region|identity|without_identity|prefix|names) = .*\n"  # settings of another mode
    (tmp_path / "all.toml").write_text(re.sub(only_for, "", with_defaults))
    assert load([tmp_path], REGISTRY).tables == load([ROOT / "conf.d"], REGISTRY).tables


def test_every_value_says_where_it_comes_from(conf: Path) -> None:
    found = {setting["key"]: (setting["value"], setting["origin"]) for setting in json.loads(show(conf, "--json"))}
    assert found["connector.http.url"][1] == "odd.toml:18"
    assert found["connector.http.batch.events"] == (7, "odd.toml:22")
    assert found["connector.http.batch.size"] == ("1MiB", "odd.toml.d/more.toml:2")
    assert found["connector.http.batch.age"] == ("3ms", "default")
    assert found["connector.http.from"] == ("2026-11-01T00:00:00+00:00", "odd.toml:19")
    assert found["journal.retention"] == ("14d", "odd.toml:9")
    assert found["journal.max_size"] == ("1025MiB", "odd.toml:8")
    assert found["journal.min_free"] == ("256MiB", "default")
    assert re.search(r"(?m)^batch\.events = 7 +# odd\.toml:22$", show(conf, "--origin"))


def test_secrets_are_references_and_what_looks_like_one_is_hidden(conf: Path) -> None:
    for shown in (show(conf), show(conf, "--json"), show(conf, "--origin")):
        assert "hunter2" not in shown
    found = {setting["key"]: setting["value"] for setting in json.loads(show(conf, "--json"))}
    assert found["connector.http.token"] == {"env": "PATH"}
    assert found["connector.http.url"] == "https://host.example/?key=..."
    assert 'token = { env = "PATH" }\n' in show(conf)


def test_what_is_switched_off_is_shown_as_such(conf: Path) -> None:
    assert "[connector.off] # switched off\n" in show(conf)
    assert {setting["key"].split(".")[1] for setting in json.loads(show(conf, "--json")) if setting["disabled"]} == {
        "off"
    }


def test_a_configuration_with_mistakes_is_not_shown(conf: Path) -> None:
    (conf / "odd.toml").write_text("[log]\nlevel = 'loud'\n")
    answer = CliRunner().invoke(command, ["config", "show", "--conf", str(conf)])
    assert (answer.exit_code, answer.stdout) == (78, "")
    assert answer.stderr.startswith("odd.toml:2: log.level: ")


@pytest.mark.parametrize("value", ["", 'a"b\\c\n\x7f\x00é', 1, 1.5, True, [], ["x", [1]], {"a b": {"c": [{}]}}])
def test_values_are_written_as_toml(value: object) -> None:
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value


@pytest.mark.parametrize("text", [path.read_text() for path in SHIPPED] + EXAMPLES)
def test_the_schema_takes_what_relay_ships_and_shows(text: str) -> None:
    SCHEMA.validate(tomllib.loads(text))
    SCHEMA.validate(tomllib.loads(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text)))


def test_the_schema_takes_all_that_relay_takes(conf: Path) -> None:
    SCHEMA.validate(tomllib.loads(ODD))
    for part in (conf / "odd.toml.d").iterdir():
        SCHEMA.validate(tomllib.loads(part.read_text()))
    SCHEMA.validate(tomllib.loads(show(ROOT / "conf.d")))


@pytest.mark.parametrize(
    "text",
    [
        "[ingset]\n",
        "[ingest]\nlisten = 8080\n",
        "[log]\nlevel = 'loud'\n",
        "[journal]\nmax_size = '10GIB'\n",
        "[journal]\nretention = 7\n",
        "[source.Braze]\ntype = 'currents'\npath = '/c'\n",
        "[source.s]\ntype = 'currents'\n",
        "[source.s]\ntype = 'nothing'\npath = '/s'\n",
        "[source.s]\ntokens = ['hunter2']\ntype = 'currents'\npath = '/s'\n",
        "[source.s]\ntokens = [{ credential = 'a', file = 'b' }]\ntype = 'currents'\npath = '/s'\n",
        "[connector.c]\ntype = 'file'\npath = 'a'\ntimout = '1s'\n",
        "[connector.c]\ntype = 'file'\npath = 'a'\nbatch = { evnts = 1 }\n",
        "[connector.c]\ntype = 'stdout'\nconcurrency = 2\n",
        "[connector.c]\ntype = 'stdout'\npath = 'a setting of another type'\n",
        "[connector.c]\ntimout = '1s'\n",
        "[filter.f]\ntype = 'sample'\nrate = 2\n",
    ],
)
def test_the_schema_finds_mistakes(text: str) -> None:
    assert not SCHEMA.is_valid(tomllib.loads(text))


def test_the_schema_describes_settings_and_their_defaults() -> None:
    settings = SCHEMA.schema["$defs"]["connector.file"]["properties"]
    assert settings["batch"]["default"] == {"events": 10_000, "size": "8MiB", "age": "100ms"}
    assert settings["timeout"]["default"] == "30s"
    assert settings["compress"]["description"] == "Adds .gz or .zst to the name."
    assert SCHEMA.schema["$defs"]["filter.sample"]["properties"]["key"]["default"] == "user.user_id"


def test_the_schema_has_the_types_of_plugins(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("""
from relay.api import Connector, ConnectorSettings

class Colour: pass

class Odd(Connector, type="odd"):
    class Settings(ConnectorSettings):
        colour: Colour
        shade: object = Colour()
    async def deliver(self, batch): pass
""")
    answer = CliRunner().invoke(command, ["config", "schema", "--plugins", str(tmp_path)])
    found = Draft202012Validator(json.loads(answer.stdout))
    assert found.is_valid({"connector": {"c": {"type": "odd", "colour": "red"}}})
    assert not found.is_valid({"connector": {"c": {"type": "odd", "color": "red"}}})


def test_the_schema_itself_is_good() -> None:
    Draft202012Validator.check_schema(SCHEMA.schema)
