"""Commands with a journal in PostgreSQL: `journal init`, `check --probe`, `doctor`, and those that need files."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import relay as command
from tests.postgres import Server, start_shared_server

Run = Callable[..., Result]
PASSWORD = "hunter2"


@pytest.fixture
def server() -> Server:
    return start_shared_server()


@pytest.fixture
def schema() -> str:
    return f"cli_{uuid4().hex[:6]}"


@pytest.fixture
def run(server: Server, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command with the configuration in a folder. No output repeats the password."""
    monkeypatch.setenv("DSN", f"{server.dsn} password={PASSWORD}")
    journal = f'[journal]\nbackend = "postgres"\ndsn = {{ env = "DSN" }}\nschema = "{schema}"\npartitions = 3\n'
    source = '[source.s]\ntype = "json"\npath = "/s"\nallow = ["unix"]\n'
    (tmp_path / "a.toml").write_text(journal)
    (tmp_path / "b.toml").write_text(f'{source}[connector.c]\ntype = "http"\nurl = "http://127.0.0.1:9"\n')

    def run(*words: str) -> Result:
        result = CliRunner().invoke(command, [*words, "--conf", str(tmp_path)])
        assert PASSWORD not in result.output
        return result

    yield run
    with suppress(AssertionError):
        server.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def test_init_makes_the_tables_once_and_says_what_it_made(run: Run, schema: str, tmp_path: Path) -> None:
    made = run("journal", "init")
    assert (made.exit_code, made.output.split()[:3]) == (0, ["made", "the", "schema"])
    assert made.output.endswith(" tables and 3 partitions\n")
    again = run("journal", "init")
    assert (again.exit_code, again.output) == (0, "nothing is lacking: all tables and partitions are there\n")
    (tmp_path / "a.toml").write_text((tmp_path / "a.toml").read_text().replace("= 3", "= 5"))
    assert run("journal", "init").output == "made 2 more partitions: there are 5\n"


def test_init_refuses_tables_of_a_newer_relay(run: Run, server: Server, schema: str) -> None:
    run("journal", "init")
    server.execute(f"UPDATE {schema}.cluster SET oldest = 99")
    result = run("journal", "init")
    said = "a newer relay has changed the tables (version 99; this relay knows 1): install the newer relay here, too"
    assert (result.exit_code, result.output) == (1, f"Error: {said}\n")


def test_init_prints_sql_that_another_role_can_run(run: Run, server: Server, schema: str) -> None:
    result = run("journal", "init", "--sql")
    assert result.exit_code == 0
    assert server.execute(f"SELECT to_regnamespace('{schema}')") == [(None,)]
    server.execute(result.output)
    assert run("journal", "init").output == "nothing is lacking: all tables and partitions are there\n"


def test_init_says_that_files_need_no_tables(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    result = run("journal", "init")
    assert (result.exit_code, result.output) == (
        1,
        'Error: journal.backend is "embedded": relay makes its files when it starts\n',
    )


def test_a_probe_tells_what_the_database_is(run: Run) -> None:
    run("journal", "init")
    result = run("check", "--probe")
    assert result.exit_code == 0
    told = dict(line.split(": ", 1) for line in result.output.splitlines() if ": " in line)
    assert told["server"].startswith("PostgreSQL ")
    assert told["tables"].startswith("3 partitions of the cluster ")
    assert told["durability"].startswith("an acknowledged event is on the disk of this database server alone")
    assert json.loads(run("check", "--probe", "--json").output)["probed"][-1].startswith("snapshots: ")


def test_a_probe_reports_problems_at_the_line_of_their_setting(run: Run, tmp_path: Path) -> None:
    result = run("check", "--probe")
    assert result.exit_code == 78
    assert "a.toml:4: journal.schema: tables: relay's tables are not there, in the schema " in result.output
    run("journal", "init")
    (tmp_path / "a.toml").write_text((tmp_path / "a.toml").read_text().replace("= 3", "= 2"))
    result = run("check", "--probe")
    assert result.exit_code == 78
    expected = "a.toml:5: journal.partitions: partitions: journal.partitions is 2, and 3 partitions exist; "
    assert f"{expected}set partitions = 3, for the number never shrinks\n" in result.output


def test_a_probe_of_a_server_that_is_away_blames_the_dsn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSN", f"host=127.0.0.1 port=1 password={PASSWORD}")
    result = run("check", "--probe")
    assert result.exit_code == 78
    assert result.output.startswith("a.toml:3: journal.dsn: PostgreSQL: connection to server at")
    assert run("check").exit_code == 0


def test_a_probe_without_a_database_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    assert "not probed: the journal is on the disk of this machine\n" in run("check", "--probe").output


def test_doctor_looks_at_the_database_instead_of_the_disk(run: Run, tmp_path: Path) -> None:
    run("journal", "init")
    found = json.loads(run("doctor", "--state", str(tmp_path / "state"), "--json").output)["findings"]
    told = {one["about"]: one for one in found}
    assert {"server", "tables", "nodes", "grants", "durability", "snapshots"} <= told.keys()
    assert {"relay.db", "file system", "room", "inodes", "fdatasync"}.isdisjoint(told)
    assert told["durability"]["level"] == "ok"


@pytest.mark.parametrize(
    ("words", "tools"),
    [
        (["journal", "repair"], "pg_amcheck and pg_checksums find damage"),
        (["backup", "copy"], "pg_basebackup"),
        (["restore", "copy"], "pg_restore"),
    ],
)
def test_commands_that_need_files_name_the_tools_of_the_database(
    run: Run, tmp_path: Path, words: list[str], tools: str
) -> None:
    result = run(*words, "--state", str(tmp_path / "state"))
    assert result.exit_code == 1
    assert result.output.startswith("Error: the events are in the database; use its own tools: ")
    assert tools in result.output


def test_a_mistake_elsewhere_does_not_turn_commands_to_the_disk(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[log]\nlevel = 'loud'\n")
    assert "the events are in the database" in run("journal", "repair").output
    (tmp_path / "a.toml").write_text("[journal]\nbackend = 'postgres'\n")
    result = run("journal", "repair")
    assert result.exit_code == 78
    assert 'a.toml:2: journal: backend = "postgres" needs dsn' in result.output


def test_a_credential_that_a_command_cannot_read_is_named_with_its_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[journal]\nbackend = "postgres"\ndsn = { credential = "relay-dsn" }\n')
    result = run("journal", "init")
    assert result.exit_code == 1
    assert "LoadCredential=relay-dsn:/PATH" in result.output
    assert result.output.endswith("a command finds it with CREDENTIALS_DIRECTORY=/etc/relay/credentials\n")


def test_a_command_of_a_plugin_finds_the_stores_in_the_database(run: Run, server: Server, schema: str) -> None:
    run("journal", "init")
    assert "has no database of a connector of type braze_cohorts" in run("cohorts", "list").output
    for connector in ("a", "b"):
        values = f"0, '{connector}', 'braze_cohorts', 'k', 'v'"
        server.execute(f"INSERT INTO {schema}.plugin_store (partition, connector, type, key, value) VALUES ({values})")
    assert "name one of the connectors by --connector: a, b" in run("cohorts", "list").output
    assert json.loads(run("cohorts", "list", "--connector", "a", "--json").output) == []
