from pathlib import Path
from typing import Any

import pytest

from relay.config.address import TcpAddress, UnixAddress
from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry

PLUGINS = """
from pathlib import Path
from relay.api import *

class Open(Source, type="open"):
    def decode(self, request):
        raise Malformed("no event")

class Hook(Open, type="hook"):
    def authorize(self, request):
        pass

class Post(Connector, type="post"):
    class Settings(ConnectorSettings):
        url: HttpUrl = "https://a.example"
        token: Secret | None = None
        keys: dict[str, Secret] = {}
        headers: dict[str, str] = {}
        loud: bool = False
        ends: tuple[str, ...] = ()
        folder: Path = Path(".")

    async def deliver(self, batch):
        pass

class Frail(Post, type="frail"):
    class Settings(ConnectorSettings):
        size: int

        def contradictions(self):
            yield "size", str(self.size + 1)

class Same(Filter):
    def apply(self, event):
        return event

class Shout(Same, type="shout"):
    class Settings(FilterSettings):
        fields: tuple[str, ...] = ()

class Share(Same, type="share"):
    class Settings(FilterSettings):
        rate: float

class Odd(Same, type="odd"):
    class Settings(FilterSettings):
        @classmethod
        def model_validate_json(cls, text, *, strict):
            raise KeyError("oops")
"""

SOURCE = '[source.s]\ntype = "hook"\npath = "/s"\n'
CONNECTOR = '[connector.c]\ntype = "post"\n'
SHARE = '[filter.some]\ntype = "share"\n'
RATES = "a rate is 0, which is no limit, or from 0.000001 to 1000000000 events per second"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "tiny.py").write_text(PLUGINS)
    return Registry.discover([folder])


@pytest.fixture(autouse=True)
def outside_systemd(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def write(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__", "/").replace("_", "-") + ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def mistakes(folder, registry, **options):
    with pytest.raises(ConfigError) as error:
        load([folder], registry, **options)
    return [str(mistake) for mistake in error.value.mistakes]


def warnings(folder, registry, **options):
    return [str(warning) for warning in load([folder], registry, **options).warnings]


def test_defaults_stand_where_nothing_is_written(tmp_path, registry):
    config = load([write(tmp_path, a=SOURCE + CONNECTOR)], registry).config
    assert config.ingest.listen == (TcpAddress("127.0.0.1", 8080),)
    assert (config.ingest.max_body, config.ingest.max_in_flight, config.ingest.read_timeout) == (8 << 20, 64 << 20, 30)
    assert (config.journal.path, config.journal.max_size) == (Path("journal"), 10 << 30)
    assert (config.journal.retention, config.journal.memory) == (7 * 86400, 64 << 20)
    assert config.parked.retention == 90 * 86400
    assert (config.runtime.drain, config.log.level, config.log.format) == (10, "info", "auto")
    assert config.sources["s"].plugin is registry.get_source("hook")
    assert config.connectors["c"].plugin("c", config.connectors["c"].settings, folder=tmp_path).settings.timeout == 30


def test_equal_files_make_equal_configurations_and_a_change_shows(tmp_path, registry):
    write(tmp_path, a=SOURCE, b=CONNECTOR)
    before = load([tmp_path], registry).config
    assert load([tmp_path], registry).config == before
    write(tmp_path, b=CONNECTOR + "rate = 5")
    after = load([tmp_path], registry).config
    assert after.sources == before.sources
    assert after.connectors != before.connectors


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        ('"0.0.0.0:80"', ["0.0.0.0:80"]),
        (
            '["localhost:0", "[::1]:8080", "unix:/run/relay.sock"]',
            ["localhost:0", "[::1]:8080", "unix:/run/relay.sock"],
        ),
    ],
)
def test_listen_takes_one_address_or_several(tmp_path, registry, listen, addresses):
    write(tmp_path, a=f"{SOURCE}{CONNECTOR}[ingest]\nlisten = {listen}")
    assert [str(address) for address in load([tmp_path], registry).config.ingest.listen] == addresses


def test_a_unix_address_is_a_path(tmp_path, registry):
    write(tmp_path, a='[ingest]\nlisten = "unix:/run/relay.sock"')
    assert load([tmp_path], registry).config.ingest.listen == (UnixAddress(Path("/run/relay.sock")),)


def test_five_mistakes_in_three_files_are_told_at_once(tmp_path, registry):
    write(
        tmp_path,
        **{
            "00_relay": '[journal]\nmax_size = "10 gigs"\n\n[jurnal]\npath = "x"\n',
            "20_braze": '[source.braze]\ntype = "hook"\npath = "/currents"\ntokens = ["hunter2"]\n',
            "60_heap": '[connector.heap]\ntype = "pots"\n\n[connector.two]\ntype = "post"\n# why\nevnts = ["email"]\n',
        },
    )
    first, *others = mistakes(tmp_path, registry)
    assert first.startswith('00-relay.toml:2: journal.max_size: expected a size such as "64MiB" (units: B, KiB, ')
    assert first.endswith("got '10 gigs'")
    assert others[:2] == [
        "00-relay.toml:4: jurnal: unknown table; known: ingest, journal, parked, erasure, runtime, admin, metrics, "
        "log, history, source, connector, filter, alert (did you mean journal?)",
        "20-braze.toml:4: source.braze.tokens[0]: a secret is a reference, never the secret itself: "
        '{ credential = "name" }, { file = "/path" } or { env = "NAME" }',
    ]
    assert others[2].startswith('60-heap.toml:2: connector.heap.type: there is no connector type "pots"; known ')
    assert others[2].endswith("(did you mean post?)")
    assert others[3:] == ["60-heap.toml:7: connector.two.evnts: unknown key (did you mean events?)"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = = 2\n", "2: not TOML: Invalid value (at line 2, column 5)"),
        ("[filter.f]\ntype = http", "2: not TOML: Invalid value (at line 2, column 8); strings need quotes"),
        ("path = /x", "1: not TOML: Invalid value (at line 1, column 8); strings need quotes"),
        (
            "a = 30s",
            "1: not TOML: Expected newline or end of document after a statement (at line 1, column 7); "
            "strings need quotes",
        ),
        ("a = [\n  email,\n]", "2: not TOML: Invalid value (at line 2, column 3); strings need quotes"),
        ("a = True", "1: not TOML: Invalid value (at line 1, column 5); true and false are lower case"),
        ("ingest = 5", "1: ingest: expected a table"),
        ("source = 5", "1: source: expected named tables, such as [source.example]"),
        ("[source]\npath = 1", "2: source.path: expected a named table, such as [source.example]"),
        ("[[connector.c]]", "1: connector.c: expected a named table, such as [connector.example]"),
        ("[filter.x]\ntype = 5", "2: filter.x.type: there is no filter type"),
        ("[filter.x]\n", "1: filter.x.type: is missing; known filter types: "),
        ("[filter.No]\ntype = 'shout'", "1: filter.No: a name is made of a-z, 0-9, _ and -,"),
        ("[filter.o]\ntype = 'odd'", "1: filter.o: could not be checked, which is a bug of plugin tiny ("),
        ("[source.s]\ntype = 'hook'", "1: source.s.path: is missing"),
        ("[log]\nlevel = 'loud'", "2: log.level: expected 'debug', 'info', 'warning' or 'error'"),
        ("[ingest]\nlisten = ':80'", "2: ingest.listen: expected an address such as "),
        ("[ingest]\nlisten = ['::1:80']", "2: ingest.listen: expected an address such as "),
        ("[ingest]\nlisten = []", "2: ingest.listen: expected an address such as "),
        ("[ingest]\nmax_body = '1GiB'", "2: ingest: max_in_flight must be at least max_body"),
        ("[admin]\nlisten = '0.0.0.0:81'", "2: admin: listen: 0.0.0.0:81 is no loopback address"),
        ("[admin]\nlisten = 'unix:/x'", "2: admin: listen: unix:/x is no loopback address"),
        ("[admin]\nlisten = '[::1]:81'", "2: admin: listen: every user of this machine could reach it: set tokens"),
        ("[admin]\ntokens = ['s3cr3t']", "2: admin.tokens[0]: a secret is a reference"),
        (CONNECTOR + "token = { fil = '/x' }", "3: connector.c.token: unknown key fil (did you mean file?); a secret "),
        (CONNECTOR + "token = { a = 'x', file = '/x' }", "3: connector.c.token: unknown key a; a secret is a ref"),
        (CONNECTOR + "token = { file = '/x', env = 'X' }", "3: connector.c.token: file and env: one of them; a sec"),
        (CONNECTOR + "token = { env = '' }", "3: connector.c.token: env: expected a name in quotes; a secret is"),
        (CONNECTOR + "token = { file = 5 }", "3: connector.c.token: file: expected a name in quotes; a secret is"),
        (CONNECTOR + "token = {}", "3: connector.c.token: a secret is a reference: {"),
        ("[admin]\ntokens = [{ env = 'RELAY_NOT_SET' }]", '2: admin.tokens[0]: { env = "RELAY_NOT_SET" } cannot be'),
        ("[metrics]\nlisten = 'nine'", "2: metrics.listen: expected an address such as "),
        ("[ingest]\nread_timeout = 30", '2: ingest.read_timeout: expected a duration such as "30s"'),
        ("[journal]\nmax_size = '1MiB'", "2: journal.max_size: must be at least 16MiB"),
        (CONNECTOR + "timeout = '2h'", "3: connector.c.timeout: must be at most 1h"),
        (CONNECTOR + "concurrency = 0", "3: connector.c.concurrency: must be at least 1"),
        (CONNECTOR + "concurrency = 'x'", "3: connector.c.concurrency: expected a whole number"),
        (CONNECTOR + "enabled = 'perhaps'", "3: connector.c.enabled: expected true or false"),
        (CONNECTOR + "filters = 'x'", "3: connector.c.filters: expected a list"),
        (CONNECTOR + "filters = [1]", "3: connector.c.filters[0]: expected a text in quotes"),
        (CONNECTOR + "batch = 5", "3: connector.c.batch: expected a table"),
        (CONNECTOR + "loud = 'yes'", "3: connector.c.loud: expected true or false"),
        (CONNECTOR + "enabled = 'no'", "3: connector.c.enabled: expected true or false"),
        (CONNECTOR + "concurrency = '4'", "3: connector.c.concurrency: expected a whole number"),
        (CONNECTOR + "window = 10.0", "3: connector.c.window: expected a whole number"),
        (CONNECTOR + "window = 1" + 30 * "0" + ".5", "3: connector.c.window: expected a whole number"),
        (CONNECTOR + "concurrency = 1" + 30 * "0", "3: connector.c.concurrency: is no integer of 64 bits"),
        (CONNECTOR + "rate = '100'", "3: connector.c.rate: expected a number"),
        (CONNECTOR + "rate = inf", "3: connector.c.rate: must be a finite number"),
        (CONNECTOR + "rate = nan", "3: connector.c.rate: must be a finite number"),
        (CONNECTOR + "rate = 1e300", f"3: connector.c.rate: {RATES}"),
        (CONNECTOR + "rate = 1e-300", f"3: connector.c.rate: {RATES}"),
        (SOURCE + "rate = inf", "4: source.s.rate: must be a finite number"),
        (CONNECTOR + "window = inf", "3: connector.c.window: expected a whole number"),
        (CONNECTOR + f"timeout = '{400 * '9'}d'", "3: connector.c.timeout: a duration is at most 36500d"),
        ("[runtime]\ndrain = '36501d'", "2: runtime.drain: a duration is at most 36500d"),
        (f"[journal]\nmin_free = '{400 * '9'}B'", "2: journal.min_free: a size is at most 8388607TiB"),
        ("[journal]\nmemory = '8388608TiB'", "2: journal.memory: a size is at most 8388607TiB"),
        (
            f"[ingest]\nlisten = 'unix:/{107 * 'x'}'",
            "2: ingest.listen: a unix socket's path has 107 bytes at most, this one has 108: take a shorter one",
        ),
        (SHARE + "rate = nan", "3: filter.some.rate: must be a finite number"),
        (CONNECTOR + "folder = 5", "3: connector.c.folder: expected a text in quotes"),
        (CONNECTOR + "retry.first = '10m'", "3: connector.c.retry: first (600s) must be at most max (300s)"),
        (
            CONNECTOR + "[connector.c.batch]\nsze = 5",
            "4: connector.c.batch.sze: unknown key (did you mean size?)",
        ),
        (
            CONNECTOR + "filters = ['shot']\n[filter.shout]\ntype = 'shout'",
            "3: connector.c.filters[0]: there is no [filter.shot] (did you mean shout?)",
        ),
        (SOURCE + SOURCE.replace("s]", "t]"), "6: source.t.path: /s is taken already by [source.s]"),
        (SOURCE.replace("/s", "/healthz"), "3: source.s.path: /healthz is taken already by relay itself"),
        (
            CONNECTOR + "token = { env = 'RELAY_NOT_SET' }",
            '3: connector.c.token: { env = "RELAY_NOT_SET" } cannot be read',
        ),
        (
            CONNECTOR + "keys.x = { file = '/not/there' }",
            '3: connector.c.keys.x: { file = "/not/there" } cannot be read',
        ),
        (
            CONNECTOR + "answers = { 20 = 'retry' }",
            "3: connector.c.answers.20: expected an HTTP status of three digits, such as 409, got '20'",
        ),
        (SOURCE + "tokens = [{ credential = 'x' }]", '4: source.s.tokens[0]: { credential = "x" } cannot be read'),
    ],
)
def test_each_kind_of_mistake_is_told_with_its_place(tmp_path, registry, text, expected):
    """Numbers that no arithmetic stands: the settings of sources, connectors, filters and of relay itself."""
    told = mistakes(write(tmp_path, a=text), registry)
    assert len(told) == 1
    assert told[0].startswith(f"a.toml:{expected}")


@pytest.mark.parametrize("text", ["a = 1 b", "a = = 2", "a b = 1", "[a", "[a b]", "a = 'x' y"])
def test_only_where_quotes_seem_to_be_missing_they_are_asked_for(tmp_path, registry, text):
    (told,) = mistakes(write(tmp_path, a=text), registry)
    assert told.endswith(")")


@pytest.mark.parametrize(
    "text",
    [
        'pasword = "hunter2"',
        'token = "hunter2"',
        'token = { file = "/x", value = "hunter2" }',
        'token = "hunter2',
        'token = ["x"\n"hunter2"]',
        'token = """\nhunter2',
        'url = "https://me:hunter2@host"',
        'url = "htps://me:hunter2@host"',
        'url = "htps://host?key=hunter2"',
        'headers = { Authorization = "Bearer hunter2", x = 5 }',
        'keys = { token = "hunter2", "x" = 5 }',
    ],
)
def test_no_mistake_repeats_a_secret(tmp_path, registry, text):
    with pytest.raises(ConfigError) as error:
        load([write(tmp_path, a=CONNECTOR + text)], registry)
    assert error.value.mistakes[0].line
    assert "hunter2" not in repr(error.value.mistakes)
    assert "hunter2" not in str(error.value)


def test_what_is_strictly_right_is_taken(tmp_path, registry):
    right = "rate = 5\nloud = true\nends = ['.a']\nfolder = 'x'\nretry = { first = '5m' }\nheaders = { env = 'prod' }\n"
    settings: Any = load([write(tmp_path, a=CONNECTOR + right)], registry).config.connectors["c"].settings
    assert (settings.rate, settings.loud, settings.ends, settings.folder) == (5, True, (".a",), Path("x"))
    assert settings.headers == {"env": "prod"}


def test_a_mistake_hides_no_other_in_its_table(tmp_path, registry):
    source = (
        "[source.s]\ntype = 'open'\npath = '/healthz'\ntokens = [{ file = '/no/a' }, 'hunter2', { file = '/no/b' }]\n"
    )
    connector = CONNECTOR + (
        "url = 'nowhere'\nfilters = ['gone', 5]\ntoken = { file = '/no/c' }\nevents = ['emial', '']\n"
        "keys = { x = { env = 'RELAY_NOT_SET' }, y = 'hunter2' }\n"
    )
    with pytest.raises(ConfigError) as error:
        load([write(tmp_path, a=source, b=connector)], registry)
    assert [mistake.key for mistake in error.value.mistakes] == [
        "source.s.path",
        "source.s.tokens[0]",
        "source.s.tokens[1]",
        "source.s.tokens[2]",
        "connector.c.url",
        "connector.c.filters[0]",
        "connector.c.filters[1]",
        "connector.c.token",
        "connector.c.events",
        "connector.c.keys.x",
        "connector.c.keys.y",
    ]
    assert [warning.key for warning in error.value.warnings] == ["connector.c.events[0]"]
    assert "hunter2" not in repr(error.value.mistakes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("retry = { first = '10s', max = '1s', giveup = 3 }", ["retry: first (10s) must", "retry.giveup: unknown"]),
        ("retry = { first = '10m', max = 'x' }", ["retry.max: expected a duration"]),
        (
            "type = 'heap'\nretry = { first = '10s', max = '1s' }\napp_id = '1'\nregion = 'eu'",
            [
                "endpoint is missing",
                'app_id is for mode = "api"',
                'region is for mode = "api"',
                "retry: first (10s) must",
            ],
        ),
        (
            "type = 'heap'\nmode = 'api'\nbatch = { events = 5000, age = 5 }\nenabled = 1",
            ["app_id is missing", "batch.age: expected a duration", "enabled: expected true"],
        ),
        ("type = 'heap'\nmode = 'apy'", ["mode: expected 'webhook' or 'api'"]),
        (
            "type = 'braze_cohorts'\ncluster = 'US-09'\npartner = 'heap'",
            ["cluster: there is no US-09", "partner_key is missing", "data_import_key is missing"],
        ),
        (
            "type = 'http'\nheaders = { Authorization = 'x', 'a b' = 'y' }\ntoken = { env = 'PATH' }",
            ["url: is missing", "headers: Authorization is already set", "headers: 'a b' cannot be"],
        ),
    ],
)
def test_a_wrong_setting_hides_no_conflict_between_other_settings(tmp_path, text, expected):
    table = text if "type" in text else f"type = 'stdout'\n{text}"
    told = mistakes(write(tmp_path, a=f"[connector.c]\n{table}\n"), Registry.discover(()))
    missing = [part for part in expected if not any(part in one for one in told)]
    assert (missing, len(told)) == ([], len(expected)), told


def test_a_check_that_needs_a_wrong_setting_hides_no_other_mistake(tmp_path, registry):
    told = mistakes(write(tmp_path, a="[connector.c]\ntype = 'frail'\nrate = 'x'\n"), registry)
    assert [one.split(": ")[1] for one in told] == ["connector.c.size", "connector.c.rate"]


@pytest.mark.parametrize("type", ["", "type = 'nothing'\n", "type = 5\n"])
def test_without_a_known_type_the_common_settings_are_checked(tmp_path, registry, type):
    text = (
        f"[source.s]\n{type}path = '/healthz'\ntokens = ['hunter2']\nother = 1\n"
        f"[connector.c]\n{type}rate = 'x'\nbatch = {{ sze = 1 }}\nfilters = ['gone']\ntoken = {{ file = '/no' }}\n"
    )
    assert {told.split(": ")[1] for told in mistakes(write(tmp_path, a=text), registry)} == {
        "source.s.type",
        "source.s.path",
        "source.s.tokens[0]",
        "connector.c.type",
        "connector.c.rate",
        "connector.c.batch.sze",
        "connector.c.filters[0]",
        "connector.c.token",
    }


@pytest.mark.parametrize(
    "wrong",
    ["tokens = { file = '/no' }", "tokens = [{ env = '' }]", "token = { file = '/no' }", "path = 'healthz'"],
)
def test_no_mistake_is_told_twice(tmp_path, registry, wrong):
    text = "[source.r]\ntype = 'hook'\npath = 'healthz'\n" + SOURCE.replace('path = "/s"\n', "")
    text += wrong if "path" in wrong else f"path = '/s'\n{wrong}"
    keys = [told.split(": ")[1] for told in mistakes(write(tmp_path, a=text), registry)]
    assert len(keys) == len(set(keys)) == 2


def test_a_broken_file_hides_no_mistake_of_another_and_invents_none(tmp_path, registry):
    write(tmp_path, a="[filter.x\n", b=CONNECTOR + "filters = ['x']\n[log]\nlevel = 1\n")
    assert [told.split(":")[:2] for told in mistakes(tmp_path, registry)] == [["a.toml", "1"], ["b.toml", "5"]]


def test_a_broken_file_does_not_hide_what_is_wrong_between_others(tmp_path, registry):
    write(tmp_path, a="[filter.x\n", b=SOURCE, c=SOURCE.replace("source.s", "source.t"))
    write(tmp_path, d=CONNECTOR + "filters = ['x']\nevents = ['emial']\n")
    with pytest.raises(ConfigError) as error:
        load([tmp_path], registry)
    assert [str(mistake) for mistake in error.value.mistakes][1:] == [
        "c.toml:3: source.t.path: /s is taken already by [source.s]"
    ]
    assert [str(warning) for warning in error.value.warnings] == [
        "a.toml could not be read: relay check may find more once that is corrected",
        'd.toml:4: connector.c.events[0]: "emial" matches no known event type (did you mean email?)',
    ]


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ("", True),
        ("events = ['*']", True),
        ("events = ['!no.such']", True),
        ("events = ['email']", False),
        ("enabled = false", False),
    ],
)
def test_a_connector_that_leaves_all_the_work_to_one_worker_is_a_warning(tmp_path, settings, warned):
    def told():
        return [one for one in warnings(tmp_path, Registry.discover([])) if "workers" in one]

    runtime = "[runtime]\nworkers = 3\n"
    write(tmp_path, a=runtime, b=f"[connector.c]\ntype = 'file'\npath = 'x'\n{settings}\n")
    assert len(told()) == warned
    if "events = ['*']" in settings:
        assert told() == [
            "b.toml:4: connector.c.events: takes all events, and by one worker alone: the other 2 of runtime.workers "
            "do nothing; name the types that it needs; or put {worker} into its path"
        ]
    write(tmp_path, b=f"[connector.c]\ntype = 'file'\npath = '{{worker}}'\n{settings}\n")
    assert not told()
    write(tmp_path, b=f"[connector.c]\ntype = 'stdout'\n{settings}\n")
    assert len(told()) == warned
    write(tmp_path, a="")
    assert not told()


@pytest.mark.parametrize(
    ("one", "other", "warned"),
    [
        ("path = 'out/{date}.ndjson'", "path = 'out/{date}.ndjson'", True),
        ("path = 'out/x.ndjson'", "path = 'out/../out/./x.ndjson'", True),
        ("path = 'x'\ncompress = 'gzip'", "path = 'x.gz'", True),
        ("path = 'x'\ncompress = 'gzip'", "path = 'x'", False),
        ("path = 'out/{date}.ndjson'", "path = 'out/{date}-b.ndjson'", False),
        ("path = 'x'\nenabled = false", "path = 'x'", False),
    ],
)
def test_two_connectors_that_write_to_one_file_are_a_warning(tmp_path, one, other, warned):
    """Beside it: `stdout`, of which there is but one, has a test of its own; other types write nothing here."""
    write(tmp_path, a=f"[connector.archive]\ntype = 'file'\n{one}\n[connector.backup]\ntype = 'file'\n{other}\n")
    told = [line for line in warnings(tmp_path, Registry.discover([])) if "same file" in line]
    assert len(told) == warned
    if "{date}" in one and warned:
        assert told == [
            "a.toml:6: connector.backup.path: [connector.archive] writes to the same file: "
            "their lines are mixed there; give each its own"
        ]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("batch = { align = '5m' }", []),
        ("batch = { align = '5m', group_by = 'hour' }\nenabled = false\norder_by = 'user.user_id'", []),
        (
            "order_by = 'user.user_id'\nbatch = { align = '5m', group_by = ['type'] }",
            [
                "a.toml:4: connector.c.batch.align: cannot be had with order_by:"
                " a batch has the events that may go next",
                "a.toml:4: connector.c.batch.group_by: cannot be had with order_by:"
                " a batch has the events that may go next",
            ],
        ),
        (
            "batch = { align = '5m', age = '1m' }",
            ["a.toml:3: connector.c.batch: age (60s) must be at least align (300s), or be left out"],
        ),
    ],
)
def test_batches_that_contradict_an_order_or_their_age_are_a_mistake(tmp_path, monkeypatch, settings, told):
    """Types that keep an order of their own are told as well."""
    write(tmp_path, a=f"[connector.c]\ntype = 'http'\n{settings}\nurl = 'https://a.example'\n")
    registry = Registry.discover([])
    assert (mistakes(tmp_path, registry) if told else warnings(tmp_path, registry) and []) == told
    monkeypatch.setenv("A", "x")
    table = "cluster = 'US-01'\npartner = 'heap'\npartner_key = { env = 'A' }\ndata_import_key = { env = 'A' }"
    write(tmp_path, a=f"[connector.c]\ntype = 'braze_cohorts'\n{table}\nbatch = {{ group_by = 'type' }}\n")
    (said,) = [line for line in mistakes(tmp_path, registry) if "group_by" in line]
    assert said.startswith("a.toml:7: connector.c.batch.group_by: cannot be had as its type keeps an order")


def test_a_file_that_is_none_is_a_warning(tmp_path):
    for path in ("/dev/null", tmp_path, tmp_path / "none", "relative"):
        write(tmp_path, a=f"[connector.archive]\ntype = 'file'\npath = '{path}'\n")
        told = [line for line in warnings(tmp_path, Registry.discover([])) if "regular" in line]
        said = f"a.toml:3: connector.archive.path: {path} is no regular file: it takes no events"
        assert told == ([said] if path in ("/dev/null", tmp_path) else [])


def test_a_missing_or_unreadable_configuration_is_a_mistake(tmp_path, registry):
    assert mistakes(tmp_path / "no", registry) == [f"there is no configuration folder; looked for {tmp_path / 'no'}"]
    (tmp_path / "a.toml").symlink_to(tmp_path / "gone")
    (tmp_path / "b.toml").write_bytes(b'a = "\xff"')
    assert mistakes(tmp_path, registry) == [
        "a.toml: cannot be read: No such file or directory",
        "b.toml:1: is not UTF-8: save it as UTF-8",
    ]


def test_filters_of_which_there_is_no_table_are_missing(tmp_path, registry):
    write(tmp_path, a="filter = 5\n" + CONNECTOR + "filters = ['x']")
    assert mistakes(tmp_path, registry)[1] == "a.toml:4: connector.c.filters[0]: there is no [filter.x]"


def test_a_file_that_anybody_may_write_is_refused(tmp_path, registry):
    write(tmp_path, a=SOURCE)
    (tmp_path / "a.toml").chmod(0o666)
    assert mistakes(tmp_path, registry) == [f"a.toml: anybody may write it: chmod o-w {tmp_path}/a.toml"]


def test_an_unread_credential_is_a_warning_only_without_systemd(tmp_path, registry, monkeypatch):
    write(tmp_path, a=SOURCE + "tokens = [{ credential = 'x' }]\n" + CONNECTOR)
    assert len(mistakes(tmp_path, registry)) == 1
    assert len(warnings(tmp_path, registry, secrets_required=False)) == 1
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert len(mistakes(tmp_path, registry, secrets_required=False)) == 1
    (tmp_path / "x").write_text("secret")
    assert warnings(tmp_path, registry) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[ingest]\nmax_body = '40MiB'\n[journal]\nmax_size = '64MiB'\n", "a.toml:2: ingest.max_body"),
        ("[ingest]\nmax_body = '32MiB'\n[journal]\nmax_size = '64MiB'\n", ""),
        ("[journal]\nmax_size = '16MiB'\n[ingest]\nmax_body = '8MiB'", ""),
    ],
)
def test_bodies_that_never_fit_into_the_journal_are_a_warning(tmp_path, registry, text, place):
    write(tmp_path, a=text)
    told = [one for one in warnings(tmp_path, registry) if "half of journal" in str(one)]
    reason = "bodies beyond 32MiB, half of journal.max_size, never fit into the journal: 413 for them;"
    reason += " lower max_body, or raise max_size"
    assert [*map(str, told)] == ([f"{place}: {reason}"] if place else [])


def test_what_is_switched_off_is_checked_but_not_active(tmp_path, registry):
    off = CONNECTOR + "enabled = false\nevents = ['emial']\ntoken = { env = 'RELAY_NOT_SET' }\n"
    write(tmp_path, a=SOURCE + off, b=SOURCE.replace("s]", "t]") + "enabled = false")
    loaded = load([tmp_path], registry)
    assert (list(loaded.config.sources), list(loaded.config.connectors)) == (["s"], [])
    assert [warning.key for warning in loaded.warnings] == ["", "connector.c.token"]
    write(tmp_path, a=SOURCE + off + "rate = 'x'")
    assert mistakes(tmp_path, registry) == ["a.toml:9: connector.c.rate: expected a number"]


def test_a_selection_of_nothing_known_is_a_warning(tmp_path, registry):
    write(tmp_path, a=SOURCE + CONNECTOR + 'events = [\n  "email",\n  "emial",\n]')
    assert warnings(tmp_path, registry) == [
        'a.toml:8: connector.c.events[1]: "emial" matches no known event type (did you mean email?)'
    ]


def test_an_erasure_on_what_is_no_event_is_a_warning(tmp_path, registry):
    on = 'on = ["users.UserDeleteRequest", "users.UserOrfan"]'
    write(tmp_path, a=SOURCE + CONNECTOR, b=f"[erasure]\n{on}")
    assert warnings(tmp_path, registry) == [
        'b.toml:2: erasure.on[1]: "users.UserOrfan" is no known event type (did you mean users.UserOrphan?)'
    ]


def test_a_source_that_anybody_may_send_to_is_a_warning(tmp_path, registry):
    for name, more in {"a": "", "b": "tokens = []", "c": "tokens = [{ env = 'PATH' }]", "d": "enabled = false"}.items():
        write(tmp_path, **{name: f"[source.{name}]\ntype = 'open'\npath = '/{name}'\n{more}\n"})
    write(tmp_path, e=SOURCE + CONNECTOR)
    assert warnings(tmp_path, registry) == [
        f"{name}.toml:1: source.{name}: has no `tokens`: everybody who reaches relay may send to it" for name in "ab"
    ]


def test_a_filter_that_no_connector_uses_is_a_warning(tmp_path, registry):
    filters = "[filter.used]\ntype = 'shout'\n[filter.spare]\ntype = 'shout'\n"
    write(
        tmp_path,
        a=SOURCE + CONNECTOR,
        b=CONNECTOR.replace(".c]", ".d]") + "enabled = false\nfilters = ['used']",
        c=filters,
    )
    assert warnings(tmp_path, registry) == ["c.toml:3: filter.spare: no connector uses this filter"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("headers = { Authorization = 'Bearer hunter2' }", "headers.Authorization"),
        ("[connector.c.headers]\nX-Api-Key = 'hunter2'", "headers.X-Api-Key"),
        ("url = 'https://a.example/x?a=1&api_key=hunter2'", "url"),
        ("url = 'https://a.example/?token=hunter2#x'", "url"),
    ],
)
def test_a_secret_in_plain_text_is_a_warning_that_does_not_show_the_secret(tmp_path, registry, text, key):
    found = load([write(tmp_path, a=SOURCE + CONNECTOR + text)], registry).warnings
    assert [warning.key for warning in found] == [f"connector.c.{key}"]
    assert "looks like a secret" in found[0].reason
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "text", ["headers = { X-Team = 'a' }", "url = 'https://a.example/?monkey=b'", "ends = ['?key=x']"]
)
def test_what_does_not_look_like_a_secret_is_no_warning(tmp_path, registry, text):
    assert warnings(write(tmp_path, a=SOURCE + CONNECTOR + text), registry) == []


def test_a_configuration_that_does_nothing_is_a_warning(tmp_path, registry):
    assert warnings(tmp_path, registry) == [
        "no [source.NAME] is enabled: relay will take no events",
        "no [connector.NAME] is enabled: relay will deliver no events",
    ]


def test_a_source_is_asked_for_what_its_senders_have(tmp_path):
    for name, more in {"a": "", "b": "tokens = [{ env = 'PATH' }]", "c": "secret = { env = 'PATH' }"}.items():
        write(tmp_path, **{name: f"[source.{name}]\ntype = 'heap_segments'\npath = '/{name}'\n{more}\n"})
    write(tmp_path, d="[connector.d]\ntype = 'stdout'\nevents = ['cohort.*']\n")
    assert warnings(tmp_path, Registry.discover(())) == [
        "a.toml:1: source.a: has no `secret`: everybody who reaches relay may send to it",
        "b.toml:4: source.b.tokens: senders of this type have no token and are answered 401: set `secret` instead",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app_id = '1'\nendpoint = 'https://h.example'", '4: connector.c: app_id is for mode = "api"'),
        ("mode = 'api'", "4: connector.c: app_id is missing"),
        ("app_id = '1'\nmode = 'api'\n[connector.c.batch]\nevents = 5000", "6: connector.c: batch.events: "),
        ("app_id = '1'\nmode = 'api'\nregion = 'eu'\nendpoint = 'https://h.example'", "6: connector.c: endpoint is "),
        ("app_id = 'a1'\nmode = 'api'", "4: connector.c.app_id: expected digits alone"),
        ("", "2: connector.c: endpoint is missing"),
    ],
)
def test_a_mistake_between_settings_is_told_where_the_first_of_them_stands(tmp_path, text, expected):
    (told,) = mistakes(write(tmp_path, a=f"\n[connector.c]\ntype = 'heap'\n{text}\n"), Registry.discover(()))
    assert told.startswith(f"a.toml:{expected}")


def test_what_ids_are_is_wanted_in_words(tmp_path):
    text = "[source.s]\ntype = 'heap_segments'\npath = '/s'\nmatch = 'alias'\n"
    assert mistakes(write(tmp_path, a=text), Registry.discover(())) == [
        'a.toml:4: source.s.match: expected "external_id", "device_id", "email", "prefix" or "alias:..."'
    ]


HEAP = "[connector.h]\ntype = 'heap'\nmode = 'api'\napp_id = '1'\n"


def test_a_name_for_a_type_that_is_not_known_is_a_warning(tmp_path):
    names = '"users.behaviors.Purchas" = "Bought", "users.behaviors.Purchase" = "Bought"'
    text = f"{HEAP}names = {{ {names} }}\n[source.s]\ntype = 'json'\npath = '/s'\ntokens = [{{ env = 'PATH' }}]\n"
    assert warnings(write(tmp_path, a=text), Registry.discover(())) == [
        'a.toml:5: connector.h.names.users.behaviors.Purchas: "users.behaviors.Purchas" is no known event type '
        "(did you mean users.behaviors.Purchase?)"
    ]


def test_where_users_to_be_erased_would_stay_is_a_warning(tmp_path):
    source = "[source.s]\ntype = 'json'\npath = '/s'\ntokens = [{ env = 'PATH' }]\n"
    write(tmp_path, a=f"{source}{HEAP}", b="[erasure]\non = ['users.UserDeleteRequest']\n")
    assert warnings(tmp_path, Registry.discover(())) == [
        "a.toml:5: connector.h: has no `api_key`: users whom relay erases stay in this destination"
    ]
    write(tmp_path, a=f"{source}{HEAP}api_key = {{ env = 'PATH' }}\n")
    assert warnings(tmp_path, Registry.discover(())) == []
    webhook = "[connector.h]\ntype = 'heap'\nendpoint = 'https://heap.example'\n"
    write(tmp_path, a=f"{source}{webhook}")
    assert len(warnings(tmp_path, Registry.discover(()))) == 1
    write(tmp_path, a=f"{source}{webhook}app_id = '1'\napi_key = {{ env = 'PATH' }}\n")
    assert warnings(tmp_path, Registry.discover(())) == []


def test_emitted_types_and_authentication_of_a_source_cause_no_warning(tmp_path):
    (tmp_path / "a.toml").write_text(
        '[source.a]\ntype = "heap_segments"\npath = "/a"\nsecret = { env = "PATH" }\n'
        '[connector.c]\ntype = "stdout"\nevents = ["cohort.*", "!cohort.Change", "cohorts.*"]\n'
    )
    warnings = load([tmp_path], Registry.discover(())).warnings
    assert [warning.key for warning in warnings] == ["source.a", "connector.c.events[2]"]


@pytest.mark.parametrize(
    ("connector", "taken"),
    [
        ('type = "stdout"', False),
        ('type = "stdout"\nevents = ["*"]', False),
        ('type = "stdout"\nevents = ["!email"]', False),
        ('type = "stdout"\nevents = ["*", "cohort.Change"]', True),
        ('type = "stdout"\nevents = ["cohort.*"]', True),
        ('type = "stdout"\nevents = ["cohort.*", "!cohort.Change"]', False),
        ('type = "heap"\nendpoint = "https://heap.example"', False),
        ('type = "braze_cohorts"\nmode = "attribute"\ncluster = "US-01"\nrest_key = { env = "PATH" }', True),
        ('type = "stdout"\nevents = ["cohort.Change"]\nenabled = false', False),
    ],
)
def test_segments_whose_changes_nobody_takes_are_a_warning(tmp_path, connector, taken):
    source = '[source.s]\ntype = "heap_segments"\npath = "/s"\nsecret = { env = "PATH" }\n'
    told = warnings(write(tmp_path, a=source, b=f"[connector.c]\n{connector}\n"), Registry.discover(()))
    expected = (
        "a.toml:1: source.s: no connector takes cohort.Change, which it makes: name that in `events`, `*` leaves it out"
    )
    assert [one for one in told if "cohort" in one] == ([] if taken else [expected])


def test_types_that_filters_make_are_known_to_the_connector_behind_them(tmp_path):
    """Looked at: what a connector takes, and its tables by event type."""
    plugin = """
from relay.api import Connector, ConnectorSettings, Event, Filter

class Takes(Connector, type="takes"):
    accepted_types, per_type_settings = ("shop.Item",), ("names",)

    class Settings(ConnectorSettings):
        names: dict[str, str] = {}

    async def deliver(self, batch):
        pass

class Makes(Filter, type="makes"):
    emitted_types = ("shop.Item",)

    def apply(self, event):
        return event.with_type("shop.Item")
"""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "item.py").write_text(plugin)
    registry = Registry.discover([tmp_path / "plugins"])
    source = "[source.s]\ntype = 'json'\npath = '/s'\ntokens = [{ env = 'PATH' }]\n[filter.made]\ntype = 'makes'\n"
    table = "[connector.c]\ntype = 'takes'\nevents = ['users.*']\nnames = { 'shop.Item' = 'Item' }\n"
    (tmp_path / "conf.d").mkdir()
    told = warnings(write(tmp_path / "conf.d", a=source, b=table), registry)
    assert {word for one in told for word in ("nothing will come", "no known event type") if word in one} == {
        "nothing will come",
        "no known event type",
    }
    assert warnings(write(tmp_path / "conf.d", a=source, b=f"{table}filters = ['made']\n"), registry) == []


def test_a_connector_that_will_get_nothing_it_can_use_or_more_is_a_warning(tmp_path):
    table = "type = 'braze_cohorts'\nmode = 'attribute'\ncluster = 'US-01'\nrest_key = { env = 'PATH' }\n"
    events = {"a": "['users.*']", "b": "['*']", "c": "['cohort.*', '!users.*']", "d": "['cohort.Change']"}
    texts = {name: f"[connector.{name}]\n{table}events = {chosen}\n" for name, chosen in events.items()}
    source = "[source.s]\ntype = 'json'\npath = '/s'\ntokens = [{ env = 'PATH' }]\n"
    assert warnings(write(tmp_path, **texts, s=source), Registry.discover(())) == [
        "a.toml:6: connector.a.events: does not select cohort.Change, all that this type takes: nothing will come",
        "b.toml:6: connector.b.events: selects more than cohort.Change, all that this type takes: the rest is parked",
    ]
