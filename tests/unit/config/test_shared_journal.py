"""Check `[journal]` with PostgreSQL: settings of one backend alone, the dsn, and what several machines cannot share."""

import pytest

from relay.config.load import load
from relay.config.model import JournalSettings
from relay.config.plugins.registry import Registry
from tests.unit.config.conf_files import mistakes, warnings, write

JOURNAL = "[journal]\nbackend = 'postgres'\ndsn = { env = 'DSN' }\n"
VERIFIED = "host=db1 dbname=relay user=relay sslmode=verify-full sslrootcert=/etc/relay/ca.pem"


@pytest.fixture
def registry():
    return Registry.discover([])


@pytest.fixture(autouse=True)
def dsn(monkeypatch):
    monkeypatch.setenv("DSN", VERIFIED)


def test_settings_of_the_other_backend_are_refused_with_the_cure(tmp_path, registry):
    write(tmp_path, a=f"{JOURNAL}path = 'j'\nmin_free = 0\n")
    assert mistakes(tmp_path, registry) == [
        'a.toml:4: journal: path means nothing with backend = "postgres": the events are in the database that dsn and '
        "schema name; leave path out",
        'a.toml:5: journal: min_free means nothing with backend = "postgres": max_size limits the journal; leave '
        "min_free out, and watch the disk of the database server",
    ]
    write(tmp_path, a="[journal]\nschema = 'r'\nnode = 'a'\npartitions = 2\nlease = '5s'\n")
    assert mistakes(tmp_path, registry) == [
        f'a.toml:{line}: journal: {name} means nothing with backend = "embedded": set backend = "postgres", or leave '
        "it out"
        for line, name in ((2, "schema"), (3, "node"), (4, "partitions"), (5, "lease"))
    ]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("lease = '2900ms'", "journal.lease: must be at least 3s"),
        ("lease = '301s'", "journal.lease: must be at most 5m"),
        ("partitions = 0", "journal.partitions: must be at least 1"),
        ("schema = 'No'", "journal.schema: expected what matches the regular expression ^[a-z_][a-z0-9_]*$"),
        ("shema = 'x'", "journal.shema: unknown key (did you mean schema?)"),
    ],
)
def test_a_wrong_setting_is_refused_at_its_line(tmp_path, registry, written, reason):
    write(tmp_path, a=f"{JOURNAL}{written}\n")
    assert mistakes(tmp_path, registry) == [f"a.toml:4: {reason}"]


def test_a_missing_dsn_is_refused(tmp_path, registry):
    write(tmp_path, a="[journal]\nbackend = 'postgres'\n")
    (found,) = mistakes(tmp_path, registry)
    assert found.startswith('a.toml:2: journal: backend = "postgres" needs dsn, a reference to a secret: { credential')


def test_a_dsn_in_the_file_is_refused_and_not_shown(tmp_path, registry):
    write(tmp_path, a="[journal]\nbackend = 'postgres'\ndsn = 'host=db1 password=hunter2'\n")
    (found,) = mistakes(tmp_path, registry)
    assert found.startswith("a.toml:3: journal.dsn: a secret is a reference, never the secret itself: { credential")


def test_a_dsn_that_libpq_cannot_read_is_refused_and_not_repeated(tmp_path, registry, monkeypatch):
    monkeypatch.setenv("DSN", "host=db1 pass word=hunter2")
    write(tmp_path, a=JOURNAL)
    (found,) = mistakes(tmp_path, registry)
    assert found.startswith('a.toml:3: journal.dsn: { env = "DSN" } cannot be read by libpq: put a value with')
    assert "hunter2" not in found
    assert "word" not in found.partition("expected")[0]


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("host=db1 sslmod=verify-full", "has the unknown word sslmod: write sslmode"),
        ("postgresql://u:hush@db1/relay?sslmod=require", "has the unknown word sslmod: write sslmode"),
        ("host=db1 quark=1", "has the unknown word quark: expected words such as host=db1"),
        ("host=db1 password=hu sh=1", "cannot be read by libpq: put a value with spaces into single quotes"),
        ("host=db1 port=54x2", "has port=54x2: expected a number from 1 to 65535"),
        ("host=db1,db2 port=5432,70000", "has port=70000: expected a number from 1 to 65535"),
        ("postgresql://relay:hush/db", "has a port that is no number from 1 to 65535: in a URL write : / @ ?"),
        ("host=a,b,c port=1,2", "has 3 hosts and 2 ports: write one port for each host, or one for all"),
        ("host=db1 sslmode=verify-ful", "has sslmode=verify-ful: expected disable, allow, prefer"),
        ("host=a,b target_session_attrs=rw", "has target_session_attrs=rw: expected any, read-write"),
        ("host=db1 connect_timeout=3s", "has connect_timeout=3s: expected a number"),
    ],
)
def test_a_mistake_in_a_dsn_is_named_with_its_line_and_without_passwords(tmp_path, registry, monkeypatch, dsn, said):
    monkeypatch.setenv("DSN", dsn)
    write(tmp_path, a=JOURNAL)
    (found,) = mistakes(tmp_path, registry)
    assert found.startswith(f'a.toml:3: journal.dsn: {{ env = "DSN" }} {said}')
    assert "hush" not in found
    assert "sh=1" not in found


def test_a_missing_driver_is_refused_with_the_command_that_installs_it(tmp_path, registry, monkeypatch):
    for module in ("psycopg", "psycopg.pq"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    write(tmp_path, a=JOURNAL)
    (found,) = mistakes(tmp_path, registry)
    assert found.startswith("a.toml:2: journal.backend: the driver of PostgreSQL cannot be loaded")
    assert found.endswith("-m pip install 'currents-relay[postgres]'")


@pytest.mark.parametrize(
    ("dsn", "mode", "hosts"),
    [
        (VERIFIED, "", ""),
        ("host=db1 dbname=x", "prefer", "db1"),
        ("host=db1,127.0.0.1,db2 sslmode=verify-ca", "verify-ca", "db1 and db2"),
        ("postgresql://relay:hunter2@10.0.0.1/relay?sslmode=require", "require", "10.0.0.1"),
        ("host=localhost hostaddr=10.0.0.1", "prefer", "localhost"),
        ("host=db1 hostaddr=127.0.0.1", "", ""),
        ("host=localhost,::1,/run/postgresql target_session_attrs=read-write", "", ""),
        ("dbname=relay", "", ""),
    ],
)
def test_a_server_that_is_not_verified_is_a_warning(tmp_path, registry, monkeypatch, dsn, mode, hosts):
    monkeypatch.setenv("DSN", dsn)
    write(tmp_path, a=JOURNAL)
    expected = (
        f'a.toml:3: journal.dsn: {{ env = "DSN" }} has sslmode={mode}: relay does not verify that it talks to {hosts}; '
        "write sslmode=verify-full, and sslrootcert=/etc/ssl/certs/ca-certificates.crt or the file of your own "
        "authority"
    )
    assert [one for one in warnings(tmp_path, registry) if "dsn" in one] == ([expected] if hosts else [])


def test_a_server_that_cannot_be_verified_is_a_warning(tmp_path, registry, monkeypatch):
    cure = "sslrootcert=/etc/ssl/certs/ca-certificates.crt or the file of your own authority"
    monkeypatch.delenv("SSL_CERT_FILE")
    write(tmp_path, a=JOURNAL)

    def told():
        return [one for one in warnings(tmp_path, registry) if "dsn" in one]

    monkeypatch.setenv("DSN", "host=db1 sslmode=verify-full")
    no_authority = f"has no sslrootcert, without which no server is verified: write {cure}"
    assert told() == [f'a.toml:3: journal.dsn: {{ env = "DSN" }} {no_authority}']
    monkeypatch.setenv("DSN", "host=db1 sslrootcert=system")
    monkeypatch.setattr("psycopg.pq.__impl__", "binary")
    unknown = f"has sslrootcert=system, and the TLS of this driver knows no authorities: write {cure}"
    assert told() == [f'a.toml:3: journal.dsn: {{ env = "DSN" }} {unknown}']
    monkeypatch.setattr("psycopg.pq.__impl__", "c")
    assert told() == []


def test_several_servers_of_which_any_counts_are_a_warning(tmp_path, registry, monkeypatch):
    monkeypatch.setenv("DSN", f"{VERIFIED} host=db1,db2")
    write(tmp_path, a=JOURNAL)
    assert [one for one in warnings(tmp_path, registry) if "dsn" in one] == [
        'a.toml:3: journal.dsn: { env = "DSN" } names several servers, of which relay may reach one that is read-only: '
        "write target_session_attrs=read-write"
    ]


def test_connectors_that_write_on_one_machine_are_refused(tmp_path, registry):
    write(
        tmp_path,
        a=f"{JOURNAL}lease = '1s'\n",  # a mistake in the table hides nothing
        b="[connector.out]\ntype = 'stdout'\n[connector.archive]\ntype = 'file'\npath = 'a.ndjson'\n",
    )
    assert mistakes(tmp_path, registry)[1:] == [
        'b.toml:2: connector.out.type: is refused with journal.backend = "postgres": after a takeover the rest goes to '
        "another machine; deliver to a destination that all reach",
        'b.toml:5: connector.archive.path: is refused with journal.backend = "postgres": after a takeover the rest of '
        "a file lies on another machine; put {worker}, the partition's number, into the path",
    ]
    write(tmp_path, a="")
    assert load([tmp_path], registry)


def test_a_plugin_that_says_it_keeps_files_is_refused(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "keeper.py").write_text(
        "from pathlib import Path\n"
        "from relay.api import Connector\n"
        "class Keeper(Connector, type='keeper'):\n"
        "    async def deliver(self, batch): ...\n"
        "    @property\n"
        "    def local_path(self): return Path('kept')\n"
    )
    conf = write(tmp_path / "conf", a=f"{JOURNAL}[connector.k]\ntype = 'keeper'\n")
    (found,) = mistakes(conf, Registry.discover([tmp_path / "plugins"]))
    assert found.startswith('a.toml:4: connector.k.path: is refused with journal.backend = "postgres"')


def test_files_of_each_machine_are_a_warning(tmp_path, registry):
    file = "[connector.archive]\ntype = 'file'\npath = 'a/{worker}.ndjson'\nkeep = '1d'\nmax_size = '1MB'\n"
    write(tmp_path, a=JOURNAL, b=file)
    assert [one for one in warnings(tmp_path, registry) if "archive" in one] == [
        'b.toml:3: connector.archive.path: with journal.backend = "postgres" each machine has its part of the files, '
        "lost with the machine"
    ]


def test_more_workers_than_partitions_are_a_warning_with_the_number(tmp_path, registry):
    write(tmp_path, a=f"{JOURNAL}partitions = 3\n[runtime]\nworkers = 5\n")
    assert [one for one in warnings(tmp_path, registry) if "workers" in one] == [
        "a.toml:6: runtime.workers: 5 workers of this relay share journal.partitions = 3: 2 of them deliver nothing; "
        "raise partitions"
    ]
    write(tmp_path, a=f"{JOURNAL}partitions = 5\n[runtime]\nworkers = 5\n")
    assert not [one for one in warnings(tmp_path, registry) if "workers" in one]


def test_settings_for_another_process_have_no_secret(tmp_path, registry, monkeypatch):
    monkeypatch.setenv("DSN", f"{VERIFIED} password=hunter2")
    write(tmp_path, a=f"{JOURNAL}schema = 'other'\nlease = '20s'\n")
    written = load([tmp_path], registry).config.journal.write()
    assert "hunter2" not in written
    read = JournalSettings.read(written)
    assert (read.schema_name, read.lease, read.partitions) == ("other", 20.0, 4)
    assert read.dsn is not None
    assert read.dsn.reveal().endswith("hunter2")


def test_a_partition_has_room_for_the_smallest_journal_and_for_bodies(tmp_path, registry):
    write(tmp_path, a=f"{JOURNAL}partitions = 8\nmax_size = '100MiB'\n")
    assert mistakes(tmp_path, registry) == [
        "a.toml:5: journal: max_size must be at least 16MiB for each partition: 128MiB"
    ]
    write(tmp_path, a=f"{JOURNAL}partitions = 16\nmax_size = '256MiB'\n[ingest]\nmax_body = '9MiB'\n")
    assert [one for one in warnings(tmp_path, registry) if "max_body" in one] == [
        "a.toml:7: ingest.max_body: bodies beyond 8MiB, half of journal.max_size of one partition, never fit into the "
        "journal: 413 for them; lower max_body, or raise max_size"
    ]


@pytest.mark.parametrize(("settings", "warned"), [("order_by = 'user.user_id'", True), ("rate = 5", False)])
def test_a_connector_that_works_in_one_partition_alone_is_a_warning(tmp_path, registry, settings, warned):
    connector = f"[connector.c]\ntype = 'http'\nurl = 'https://a.example'\n{settings}\n"
    write(tmp_path, a=f"{JOURNAL}partitions = 3\n[runtime]\nworkers = 2\n", b=connector)
    expected = (
        "b.toml:1: connector.c.events: takes all events, and by one partition alone: the other 2 of journal.partitions "
        "do nothing; name the types that it needs"
    )
    assert [one for one in warnings(tmp_path, registry) if "alone" in one] == ([expected] if warned else [])
