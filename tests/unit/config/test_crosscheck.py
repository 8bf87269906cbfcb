"""Check settings against one another: what `relay check` warns of in a configuration without a mistake."""

import pytest

from relay.config.load import load
from relay.config.plugins.registry import Registry
from tests.unit.config.conf_files import CONNECTOR, SOURCE, mistakes, warnings, write


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
