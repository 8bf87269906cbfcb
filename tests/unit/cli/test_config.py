"""`relay config`: what the configuration comes to, and its schema."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from relay.api import HttpAlertSettings, HttpConnectorSettings, Settings
from relay.cli.main import relay as command
from relay.config.load import Loaded, load
from relay.config.model import OWN_TABLES, POSTGRES_ONLY, JournalSettings
from relay.config.plugins.registry import KINDS, Registry
from relay.config.schema import make_schema
from relay.words import format_toml
from tests.certificates import Authority

ROOT = Path(__file__).parents[3]
SHIPPED = [*sorted((ROOT / "conf.d").iterdir())]
PAGES = [ROOT / "docs" / "start.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
EXAMPLES = [
    text
    for page in PAGES
    for text in re.findall(r"^```toml\n((?:#[^\n]*\n)*\[.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
]
"""Those that begin with a table: some show a single setting."""
REGISTRY = Registry.discover([])


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(make_schema(REGISTRY))


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


EVERY = """
[ingest]
listen = ["127.0.0.1:8080", "[::1]:8080", "unix:/run/relay/ingest.sock"]
trusted_proxies = ["10.0.0.0/8", "::1", "unix"]
max_body = "1MB"
max_in_flight = "3MiB"
read_timeout = "1.5s"
idle_timeout = "61s"
max_connections = 99
[journal]
backend = "embedded"
path = "/x/journal"
max_size = "10GB"
min_free = 0
on_full = "expire_oldest"
retention = "36h"
memory = "1000B"
compress = "zstd"
[parked]
retention = "1w"
max_size = "2GiB"
[erasure]
on = ["users.UserDeleteRequest"]
after = "90m"
identities = true
[runtime]
name = "east"
workers = 2
drain = "250ms"
[admin]
listen = ADMIN
group = "root"
tokens = [{ env = "PATH" }, { env = "HOME" }]
[metrics]
listen = METRICS
[history]
keep = "30d"
max_entries = 500
[log]
level = "debug"
format = "console"
[console]
listen = "unix:/run/relay/console.sock"
tls = { certificate = "CERTIFICATES/fullchain.pem", key = "CERTIFICATES/privkey.pem" }
hosts = ["relay.example.com", "192.0.2.1"]
launch = true
trusted_proxies = ["10.0.0.0/8", "unix"]
user_header = "X-Remote-User"
[console.user.anna]
secret = { env = "PATH" }
may = "steer"
[console.user."bert@example.com"]
may = "look"

[source.currents]
type = "currents"
enabled = false
path = "/a"
tokens = [{ env = "PATH" }]
dedupe = "24h"
allow = ["unix", "192.0.2.1", "2001:db8::/32"]
rate = 0.5
[source.json]
type = "json"
path = "/b"
id_field = "i"
type_field = "t"
time_field = "at"
[source.heap_segments]
type = "heap_segments"
path = "/c"
secret = { env = "PATH" }
signed = "reserialized"
max_age = "61s"
incomplete_after = "2h"
match = "alias:a label"

[connector.http]
type = "http"
enabled = true
from = "oldest"
events = ["email", "!users.messages.email.O*"]
filters = ["redact", "keep", "drop", "sample"]
batch = { events = 7, size = "7KiB", age = "7ms" }
retry = { first = "2s", max = "4m", give_up_after = "3d" }
timeout = "31s"
open_timeout = "32s"
memory = "17MiB"
concurrency = 5
window = 9
answers = { 409 = "retry", 404 = "reject" }
order_by = "user.user_id"
after_parked = "park"
rate = 2.5
url = "https://host.example/x"
method = "PUT"
headers = { "X.A" = "c=\\"d\\"", X-B = { env = "PATH" } }
token = { env = "HOME" }
body = "ndjson"
gzip = true
signing_secret = { env = "WHSEC" }
ca = "CERTIFICATES/ca.pem"
certificate = "CERTIFICATES/fullchain.pem"
key = "CERTIFICATES/privkey.pem"
proxy = { env = "PROXY" }
[connector.stdout]
type = "stdout"
from = "2026-11-01T00:00Z"
[connector.file]
type = "file"
keep = "30d"
max_total = "20GB"
path = "a b/{date}-{worker}.ndjson"
max_size = "1GiB"
max_age = "1h"
compress = "gzip"
[connector.webhook]
type = "heap"
mode = "webhook"
endpoint = "https://heap.example/"
token = { env = "PATH" }
[connector.api]
type = "heap"
mode = "api"
app_id = "12"
region = "eu"
identity = "user_id"
without_identity = "skip"
prefix = "braze-"
names = { "users.behaviors.Purchase" = "Bought" }
api_key = { env = "PATH" }
[connector.partner]
type = "braze_cohorts"
mode = "cohort"
cluster = "US-01"
partner = "heap"
partner_key = { env = "PATH" }
data_import_key = { env = "PATH" }
[connector.attribute]
type = "braze_cohorts"
mode = "attribute"
endpoint = "https://rest.example/"
rest_key = { env = "PATH" }
attribute = "in_{id}"
style = "array"
array_size = 50
[connector.postgres]
type = "postgres"
dsn = { env = "DSN" }
table = "analytics.events"
[connector.kafka]
type = "kafka"
servers = ["k1.example:9093", "[::1]:9093"]
topic = "braze.{type}"
message_key = "user.external_user_id"
tls = true
ca = "CERTIFICATES/ca.pem"
certificate = "CERTIFICATES/fullchain.pem"
key = "CERTIFICATES/privkey.pem"
sasl = "scram-sha-256"
user = "relay"
password = { env = "PATH" }
compress = "lz4"
max_message = "2MiB"
[connector.segment]
type = "segment"
write_key = { env = "PATH" }
endpoint = "https://rudder.example/"
identity = "user_id"
without_identity = "skip"
names = { "users.behaviors.Purchase" = "Bought" }
[connector.s3]
type = "s3"
bucket = "lake"
region = "eu-central-1"
endpoint = "https://minio.example:9000"
access_key = { env = "PATH" }
secret_key = { env = "PATH" }
path = "a/{type}/{date}"
compress = "none"
format = "avro"
unknown = "park"

[filter.redact]
type = "redact"
fields = ["properties.*"]
action = "hash"
salt = { env = "PATH" }
[filter.mask]
type = "redact"
fields = ["a"]
action = "mask"
mask = "x"
[filter.keep]
type = "keep"
field = "a"
equals = 1
[filter.drop]
type = "drop"
field = "a"
in = ["x", 1.5, true]
[filter.glob]
type = "drop"
field = "a"
glob = "*@x"
[filter.exists]
type = "drop"
field = "a"
exists = false
[filter.all]
type = "keep"
all = [{ field = ["a", "b"], regex = "^x" }, { not = { field = "a", less = 3 } }, { any = [{ field = "c", more = 1 }] }]
[filter.any]
type = "drop"
any = [{ field = "a", equals = 1 }]
[filter.not]
type = "drop"
not = { field = "a", equals = 1 }
[filter.regex]
type = "keep"
field = "a"
regex = "^x"
[filter.less]
type = "keep"
field = "a"
less = 3
[filter.more]
type = "keep"
field = "a"
more = 1.5
[filter.only]
type = "only"
fields = ["user", "properties.*"]
[filter.rename]
type = "rename"
fields = { "properties.a" = "properties.b" }
[filter.set]
type = "set"
values = { "properties.a" = 1 }
copies = { "properties.b" = "user.user_id" }
[filter.hash]
type = "hash"
fields = ["user.user_id"]
secret = { env = "WHSEC" }
[filter.lookup]
type = "lookup"
file = "CERTIFICATES/teams.csv"
key = "properties.campaign_id"
column = "id"
fields = { "properties.team" = "team" }
[filter.sample]
open_timeout = "20s"
type = "sample"
rate = 0.25
key = "user.id"
seed = "s"

[alert.webhook]
type = "webhook"
enabled = false
on = ["failing", "journal_full"]
only = ["http", "source json", "journal"]
after = "6m"
again = "12h"
resolved = false
timeout = "31s"
url = { env = "HOOK" }
token = { env = "PATH" }
signing_secret = { env = "WHSEC" }
[alert.slack]
type = "slack"
url = "https://discord.example/api/webhooks/1/x"
form = "discord"
ca = "CERTIFICATES/ca.pem"
certificate = "CERTIFICATES/fullchain.pem"
key = "CERTIFICATES/privkey.pem"
proxy = { env = "PROXY" }
[alert.email]
type = "email"
host = "mail.example"
port = 2525
tls = "tls"
user = "relay"
password = { env = "PATH" }
sender = "relay@example.com"
to = ["ops@example.com", "lead@example.com"]
[alert.command]
type = "command"
command = ["/bin/page", "a b"]
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


def left_out(loaded: Loaded) -> set[tuple[type[Settings], str]]:
    """What could be set and is not, by the model that has it first: that is what a test of everything forgets."""
    could, does = set[tuple[type[Settings], str]](), set[tuple[type[Settings], str]]()
    models = [
        *OWN_TABLES.values(),
        *(plugin.Settings for kind in KINDS for plugin in REGISTRY.get_types(kind).values()),
    ]
    for model in models:
        could |= {(owner(model, name), name) for name in model.model_fields}
    for settings in loaded.tables.values():
        does |= {(owner(type(settings), name), name) for name in settings.model_fields_set}
    return could - does


def owner(model: type[Settings], name: str) -> type[Settings]:
    """The base of a kind, or of those that send over HTTP, if it has the setting already, else the model itself."""
    bases: list[Any] = [*(base for _, base in KINDS.values()), HttpConnectorSettings, HttpAlertSettings]
    return next((base for base in bases if issubclass(model, base) and name in base.model_fields), model)


@pytest.mark.parametrize("several", [False, True])
def test_every_setting_of_every_table_is_shown_as_it_may_be_written(
    tmp_path: Path, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "https://hook.example/x")
    monkeypatch.setenv("WHSEC", "whsec_aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ=")
    monkeypatch.setenv("DSN", "postgresql://relay:s3cret@127.0.0.1/x")
    (tmp_path / "teams.csv").write_text("id,team\n1,blue\n")
    authority = Authority(tmp_path)
    authority.issue()
    listen = ["127.0.0.1:19090", "[::1]:19090"] if several else ["127.0.0.1:19090"]
    scraped = [one.replace("19090", "19464") for one in listen]
    monkeypatch.setenv("PROXY", "http://me:s3cret@127.0.0.1:3128")
    text = (
        EVERY.replace("CERTIFICATES", str(tmp_path))
        .replace("ADMIN", str(listen))
        .replace("METRICS", json.dumps(scraped if several else scraped[0]))
    )
    for name, more in (
        ("a", text),
        ("b", authority.table(client_ca=str(authority.ca), client_certificates="optional")),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / "a" / f"{name}.toml").write_text(more)
    before = load([tmp_path / "a"], REGISTRY)
    assert left_out(before) == {(JournalSettings, name) for name in POSTGRES_ONLY}  # see the next test
    (tmp_path / "b" / "all.toml").write_text(show(tmp_path / "a"))
    answer = CliRunner().invoke(command, ["check", str(tmp_path / "b")])
    assert answer.exit_code == 0, answer.output
    assert load([tmp_path / "b"], REGISTRY).tables == before.tables


def test_settings_of_a_journal_in_postgres_are_shown_as_written(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSN", "dbname=relay password=hunter2")
    only = 'dsn = { env = "DSN" }\nschema = "x"\nnode = "n"\npartitions = 7\nlease = "1m"\n'
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.toml").write_text(f'[journal]\nbackend = "postgres"\n{only}')
    before = load([tmp_path / "a"], REGISTRY)
    assert before.config.journal.model_fields_set == {"backend", *POSTGRES_ONLY}
    (tmp_path / "b").mkdir()
    shown = show(tmp_path / "a")
    assert "hunter2" not in shown
    (tmp_path / "b" / "all.toml").write_text(shown)
    assert load([tmp_path / "b"], REGISTRY).tables == before.tables


def test_defaults_that_are_shown_are_the_real_ones(conf: Path, tmp_path: Path) -> None:
    with_defaults = re.sub(r"(?m)^# (?=[\w.]+ = )", "", show(ROOT / "conf.d"))
    other_modes = ("mask", "region", "identity", "without_identity", "prefix", "names", "schema", *POSTGRES_ONLY)
    only_for = rf"(?m)^({'|'.join(other_modes)}) = .*\n"
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


def test_secrets_are_references_and_texts_that_resemble_secrets_are_hidden(conf: Path) -> None:
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
    assert tomllib.loads(f"value = {format_toml(value)}")["value"] == value


@pytest.mark.parametrize("text", [path.read_text() for path in SHIPPED] + EXAMPLES)
def test_the_schema_takes_what_relay_ships_and_shows(validator: Draft202012Validator, text: str) -> None:
    validator.validate(tomllib.loads(text))
    validator.validate(tomllib.loads(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text)))


def test_the_schema_takes_all_that_relay_takes(validator: Draft202012Validator, conf: Path) -> None:
    validator.validate(tomllib.loads(ODD))
    for part in (conf / "odd.toml.d").iterdir():
        validator.validate(tomllib.loads(part.read_text()))
    validator.validate(tomllib.loads(show(ROOT / "conf.d")))


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
def test_the_schema_finds_mistakes(validator: Draft202012Validator, text: str) -> None:
    assert not validator.is_valid(tomllib.loads(text))


def test_the_schema_describes_settings_and_their_defaults(validator: Draft202012Validator) -> None:
    settings = validator.schema["$defs"]["connector.file"]["properties"]
    batch = {"events": 10_000, "size": "8MiB", "age": "100ms", "align": 0, "group_by": []}
    assert settings["batch"]["default"] == batch
    batches = [{"align": "5m", "group_by": "type"}, {"group_by": ["type", "hour"]}, {"group_by": "day"}]
    tables = [{"connector": {"c": {"type": "file", "path": "x", "batch": batch}}} for batch in batches]
    assert [validator.is_valid(table) for table in tables] == [True, True, False]
    assert settings["timeout"]["default"] == "30s"
    assert settings["compress"]["description"].startswith("Compression of the files.")
    assert validator.schema["$defs"]["filter.sample"]["properties"]["key"]["default"] == "user.user_id"


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


def test_the_schema_itself_is_good(validator: Draft202012Validator) -> None:
    Draft202012Validator.check_schema(validator.schema)
