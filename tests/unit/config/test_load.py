"""Load a configuration: defaults, and every mistake with its file and line."""

import sys
from pathlib import Path
from typing import Any

import pytest

from relay.config.address import TcpAddress, UnixAddress
from relay.config.load import load
from relay.config.merge import Merged
from relay.config.mistake import ConfigError
from relay.config.model import OWN_TABLES
from relay.config.plugins.registry import Registry
from relay.config.validation_errors import validate
from tests.unit.config.conf_files import CONNECTOR, SOURCE, mistakes, write

RATES = "a rate is 0, which is no limit, or from 0.000001 to 1000000000 events per second"


SHARE = '[filter.some]\ntype = "share"\n'


def test_defaults_stand_where_nothing_is_written(tmp_path, registry):
    config = load([write(tmp_path, a=SOURCE + CONNECTOR)], registry).config
    assert config.ingest.listen == (TcpAddress("127.0.0.1", 8080),)
    assert (config.ingest.max_body, config.ingest.max_in_flight, config.ingest.read_timeout) == (8 << 20, 64 << 20, 30)
    assert (config.journal.path, config.journal.max_size) == (Path("journal"), 10 << 30)
    assert (config.journal.retention, config.journal.memory) == (7 * 86400, 64 << 20)
    assert config.parked.retention == 90 * 86400
    assert (config.runtime.drain, config.log.level, config.log.format) == (10, "info", "auto")
    assert config.sources["s"].plugin is registry.get_type("source", "hook")
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
        "log, history, console, source, connector, filter, alert, test (did you mean journal?)",
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
        ("[journal]\ncompress = 'gzip'", "2: journal.compress: expected 'none' or 'zstd'"),
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


def test_compression_without_its_package_says_what_to_install(tmp_path, registry, monkeypatch):
    for name in ("backports", "compression"):
        monkeypatch.setitem(sys.modules, name, None)
    write(tmp_path, a='[journal]\nmemory = "1MiB"\ncompress = "zstd"')
    (found,) = mistakes(tmp_path, registry)
    assert found == "a.toml:3: journal.compress: zstd is not installed: install currents-relay[zstd]"


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


def test_what_is_switched_off_is_checked_but_not_active(tmp_path, registry):
    off = CONNECTOR + "enabled = false\nevents = ['emial']\ntoken = { env = 'RELAY_NOT_SET' }\n"
    write(tmp_path, a=SOURCE + off, b=SOURCE.replace("s]", "t]") + "enabled = false")
    loaded = load([tmp_path], registry)
    assert (list(loaded.config.sources), list(loaded.config.connectors)) == (["s"], [])
    assert [warning.key for warning in loaded.warnings] == ["", "connector.c.token"]
    write(tmp_path, a=SOURCE + off + "rate = 'x'")
    assert mistakes(tmp_path, registry) == ["a.toml:9: connector.c.rate: expected a number"]


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


def test_digests_name_the_tables_that_two_nodes_write_differently(tmp_path, registry):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", x=SOURCE, y=CONNECTOR + "[ingest]\nmax_body = '1MiB'\n")
    write(tmp_path / "b", x="[ingest]\nmax_body = '2MiB'\n[metrics]\nlisten = '127.0.0.1:0'\n", y=SOURCE)
    first, second = (load([tmp_path / folder], registry).config.digests for folder in "ab")
    assert {*first} == {"ingest", "source.s", "connector.c"}
    assert {name for name in first | second if first.get(name) != second.get(name)} == {"ingest", "connector.c"}
    merged = [Merged({"journal": {"node": node, "lease": "9s"}}).digest_tables(()) for node in "ab"]
    assert merged[0] == merged[1]


@pytest.mark.parametrize("name", OWN_TABLES)
def test_a_table_that_is_absent_has_the_settings_of_an_empty_table(name, tmp_path):
    """The settings of an absent table are made without a check of them."""
    config = load([tmp_path], Registry.discover(())).config
    checked = validate({}, OWN_TABLES[name])
    assert getattr(config, name) == checked
    assert getattr(config, name).model_dump_json() == checked.model_dump_json()
