"""`relay journal copy` as an admin gives it, with a database on a real PostgreSQL."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import relay
from relay.postgres import Database
from relay.state import EmbeddedStores
from tests.postgres import start_shared_server
from tests.unit.copy.filled import make_state

EMPTY = """
[journal]
backend = "postgres"
dsn = { file = "%s" }
schema = "%s"
partitions = 2
"""


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(start_shared_server().make_database(partitions=2)) as database:
        yield database


@pytest.fixture
def conf(database: Database, tmp_path: Path) -> Path:
    """The folder of a configuration with the database."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "dsn").write_text(start_shared_server().dsn)
    (tmp_path / "conf" / "00.toml").write_text(EMPTY % (tmp_path / "dsn", database.schema.strip('"')))
    return tmp_path / "conf"


CHANGES = [
    ("parked", "replay", "1"),
    ("parked", "drop", "1"),
    ("pause", "hook"),
    ("resume", "hook"),
    ("forget", "hook", "--yes"),
    ("replay", "cancel", "1"),
    ("erasures", "request", "--external-id", "anna"),
    ("accept", "clock", "--yes"),
]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(relay, [*map(str, arguments)])


def copy(*arguments: str | Path) -> Result:
    return call("journal", "copy", *arguments)


def assert_abandoned(where: tuple[str | Path, ...], *said: str) -> None:
    """Check that commands change nothing there, say where the journal went and how it comes back, and read."""
    for command in CHANGES:
        told = call(*command, *where)
        assert (told.exit_code, *(one in told.stderr for one in said)) == (1, *(True for _ in said)), told.output
    assert call("parked", "list", *where).exit_code == 0
    status = call("status", *where)
    assert (status.exit_code, *(one in " ".join(status.output.split()) for one in said)) == (1, *(True for _ in said))


async def test_there_and_back_with_the_dsn_of_the_configuration(conf: Path, tmp_path: Path) -> None:
    make_state(tmp_path / "state")
    where = ("--state", tmp_path / "state", "--conf", conf)
    bulk = copy("--to", "postgres", *where)
    assert (bulk.exit_code, bulk.stdout.splitlines()[0]) == (0, "partition 0: 3 segments copied with 840 events")
    assert "rows of journal_state (2), cursor (4), parked (8)" in bulk.stdout
    last = copy("--to", "postgres", "--last", *where)
    assert last.exit_code == 0, last.output
    assert "partition 1          parked         4     4\n" in last.stdout
    assert "audit of partition 1: copy: everything balances" in last.stdout
    (tmp_path / "embedded").mkdir()
    folder = ("--state", tmp_path / "state", "--conf", tmp_path / "embedded")
    assert_abandoned(folder, "its journal was copied to PostgreSQL (host 127.0.0.1", "copy --to embedded --last")
    shutil.rmtree(tmp_path / "state")
    back = copy("--to", "embedded", "--last", *where)
    assert back.exit_code == 0, back.output
    assert [
        *(tmp_path / "state" / "journal").glob("compressed events need*")
    ]  # else an earlier relay would begin with it
    assert_abandoned(where, f"copied to the state folder {tmp_path / 'state'}", "copy --to postgres --last")
    assert call("resume", "hook", *folder).exit_code == 0
    told = CliRunner().invoke(relay, ["history", "--state", str(tmp_path / "state")])
    assert f"the journal was copied here from the state folder {tmp_path / 'state'}" in told.stdout
    assert "the journal was copied here from PostgreSQL (host 127.0.0.1" in told.stdout
    assert EmbeddedStores(tmp_path / "state").list_connectors("braze_cohorts") == ["vips"]


async def test_more_workers_than_partitions_are_refused(conf: Path, tmp_path: Path) -> None:
    make_state(tmp_path / "state", workers=3)
    found = copy("--to", "postgres", "--state", tmp_path / "state", "--conf", conf)
    assert (found.exit_code, "has 3 workers, and PostgreSQL" in found.stderr) == (1, True)
    assert "set journal.partitions = 3, and run relay journal init again" in found.stderr


async def test_a_dsn_needs_no_configuration_and_shows_no_password(database: Database, tmp_path: Path) -> None:
    make_state(tmp_path / "state", workers=1)
    dsn = f"{start_shared_server().dsn} password=hush"
    found = copy("--to", dsn, "--schema", database.schema.strip('"'), "--state", tmp_path / "state", "--last")
    assert found.exit_code == 0, found.output
    assert ("relay starts with PostgreSQL (host 127.0.0.1" in found.stdout, "hush" in found.output) == (True, False)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("postgres", 'journal.backend of the configuration is "embedded": give a DSN, or another --conf'),
        ("hush", "cannot be read by libpq: put a value with spaces"),
        ("host=127.0.0.1 port=1 password=hush", "refused"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(tmp_path: Path, to: str, said: str) -> None:
    (tmp_path / "conf").mkdir()
    found = copy("--to", to, "--state", tmp_path / "state", "--conf", tmp_path / "conf")
    assert (found.exit_code, said in found.stderr, "hush" in found.output) == (1, True, False), found.output


def test_an_empty_state_folder_is_nothing_to_copy(conf: Path, tmp_path: Path) -> None:
    found = copy("--to", "postgres", "--state", tmp_path / "state", "--conf", conf)
    assert (found.exit_code, f"the state folder {tmp_path / 'state'} holds no journal" in found.stderr) == (1, True)
