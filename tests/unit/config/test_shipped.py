import re
from pathlib import Path
from typing import Any

import pytest

from relay.config.load import load
from relay.config.model import POSTGRES_ONLY, JournalSettings
from relay.config.plugins.registry import Registry
from tests.certificates import Authority

SHIPPED = Path(__file__).parents[3] / "conf.d"
SETTING = re.compile(r"^# (?=[a-z_]+ = )", re.MULTILINE)


@pytest.fixture(scope="module")
def registry():
    return Registry.discover([])


@pytest.fixture
def conf(tmp_path):
    for path in SHIPPED.glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text())
    return tmp_path


def test_the_shipped_configuration_is_good(registry):
    loaded = load([SHIPPED], registry)
    assert [warning.key for warning in loaded.warnings] == ["source.braze"]
    assert loaded.disabled == ("connector.heap",)
    assert (list(loaded.config.sources), list(loaded.config.connectors)) == (["braze"], ["archive"])


def test_the_shipped_archive_is_bounded_by_age_and_by_size(registry):
    archive: Any = load([SHIPPED], registry).config.connectors["archive"].settings
    assert (archive.keep, archive.max_total) == (30 * 86400, 20 * 10**9)


def test_an_archive_without_its_limits_is_warned_of(conf, registry, monkeypatch, tmp_path):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    path = conf / "50-archive.toml"
    path.write_text(re.sub(r"(?m)^(keep|max_total) = .*\n", "", path.read_text()))
    assert "connector.archive.path" in [warning.key for warning in load([conf], registry).warnings]


def test_what_is_commented_out_are_all_the_settings_with_their_defaults(conf, registry):
    before = load([conf], registry).config
    text = SETTING.sub("", (conf / "00-relay.toml").read_text())
    (conf / "00-relay.toml").write_text(text)
    after = load([conf], registry).config
    assert after == before
    for table in (after.ingest, after.journal, after.parked, after.runtime, after.admin, after.metrics, after.log):
        shown = {name for name, field in type(table).model_fields.items() if field.default is not None}
        assert table.model_fields_set == shown - {*POSTGRES_ONLY}


def test_the_settings_of_postgres_are_shown_too_with_their_defaults(conf, registry, monkeypatch, tmp_path):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "relay-dsn").write_text("host=db1 dbname=relay sslmode=verify-full")
    text = (conf / "00-relay.toml").read_text().replace('# backend = "embedded"', 'backend = "postgres"')
    before, mark, after = text.partition("# With backend")
    shown, rest = after.split("\n[parked]")
    shown = re.sub(r"(?m)^#  (?=[a-z_]+ = )", "", shown)
    (conf / "00-relay.toml").write_text(f"{before}{mark}{shown}\n[parked]{rest}")
    (conf / "50-archive.toml").unlink()  # its path has no {worker}
    journal = load([conf], registry).config.journal
    assert journal.model_fields_set == {*POSTGRES_ONLY, "backend"}
    assert journal == JournalSettings(backend="postgres", dsn=journal.dsn)


def test_tls_is_shown_too_which_has_no_default(conf, registry, tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("tls"))
    authority.issue()
    text = (conf / "00-relay.toml").read_text()
    (shown,) = re.findall(r"^#  (tls = .*)", text, re.MULTILINE)
    for name, path in {"fullchain": authority.certificate, "key": authority.key}.items():
        shown = re.sub(rf'"[^"]*{name}\.pem"', f'"{path}"', shown)
    (conf / "00-relay.toml").write_text(text.replace("\n[ingest]\n", f"\n[ingest]\n{shown}\n"))
    assert load([conf], registry).config.ingest.tls is not None


def test_an_override_switches_heap_on(conf, registry):
    (conf / "60-heap.toml.d").mkdir()
    (conf / "60-heap.toml.d" / "site.toml").write_text(
        '[connector.heap]\nenabled = true\nendpoint = "http://127.0.0.1:9/heap"\ntoken = { env = "PATH" }\n'
    )
    heap: Any = load([conf], registry).config.connectors["heap"]
    assert heap.settings.endpoint == "http://127.0.0.1:9/heap"
    assert heap.settings.filters == ("no_emails",)


@pytest.mark.parametrize("example", sorted(SHIPPED.glob("*.example")), ids=lambda path: path.name)
def test_an_example_works_once_it_is_renamed_and_shows_the_defaults(conf, registry, example):
    copy = conf / example.name.removesuffix(".example")
    copy.write_text(example.read_text())
    before = load([conf], registry, secrets_required=False)
    copy.write_text(SETTING.sub("", example.read_text()))
    after = load([conf], registry, secrets_required=False)
    assert after.config == before.config
    missing = len(re.findall(r"^[^#\n]*\{ credential =", example.read_text(), re.MULTILINE))
    others = [warning.key for warning in before.warnings if "credential" not in warning.reason]
    assert (others, len(before.warnings)) == (["source.braze"], 1 + missing)


def test_secrets_are_kept_where_the_unit_reads_them():
    unit = (SHIPPED.parent / "systemd" / "relay.service").read_text()
    (told,) = re.findall(r"LoadCredential=\S+", (SHIPPED / "20-braze.toml").read_text())
    assert f"# {told}\n" in unit
