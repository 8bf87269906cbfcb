"""On how many servers an acknowledged event is, in words."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from relay.postgres.connection import Database
from relay.postgres.durability import Durability, check_durable, parse_rule, read_durability
from relay.store import StandbyCounts, Unavailable
from tests.postgres.server import Server, find_program, run_server

ALONE = "on the disk of this database server alone"
BELOW = "relay cannot see what replicates below SQL, as managed databases do"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of its own: its settings change."""
    with run_server() as server:
        yield server


@contextmanager
def follow(server: Server, name: str, folder: Path) -> Iterator[None]:
    """Follow a server with something that confirms what it has on disk, as a standby does."""
    folder.mkdir()
    dsn = f"{server.dsn} application_name={name}"
    command = [find_program("pg_receivewal"), "--synchronous", "-D", str(folder), "-d", dsn]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 30
            following = f"SELECT 1 FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
            while not server.execute(following):
                assert time.monotonic() < until
                time.sleep(0.05)
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        ("", ("FIRST", 0, [])),
        ("ANY 1 (b, c)", ("ANY", 1, ["b", "c"])),
        ('first 2 ( b , "c d", e )', ("FIRST", 2, ["b", "c d", "e"])),
        ("2 (b, c)", ("FIRST", 2, ["b", "c"])),
        ("b, c", ("FIRST", 1, ["b", "c"])),
        ("*", ("FIRST", 1, ["*"])),
    ],
)
def test_the_rule_of_synchronous_standbys_is_understood(written: str, parsed: tuple[str, int, list[str]]) -> None:
    assert parse_rule(written) == parsed


@pytest.mark.parametrize(
    ("rule", "standbys", "said"),
    [
        ("", [], f"{ALONE}; {BELOW}"),
        ("", ["b"], f"{ALONE}; COMMIT waits for none of its standbys: b; {BELOW}"),
        ("ANY 1 (b, c)", ["B", "c", "d"], "on the disk of 2 of 3 servers (ANY 1 of b, c)"),
        ("b, c", ["c"], "on the disk of 2 of 3 servers (FIRST 1 of b, c)"),
        ("ANY 2 (*)", ["b", "c", "d"], "on the disk of 3 of 4 servers (ANY 2 of *)"),
        (
            "ANY 2 (b, c)",
            ["c", "d"],
            "on the disk of 3 of 3 servers (ANY 2 of b, c); COMMIT does not return, as too few of them are connected: "
            "c",
        ),
        (
            "*",
            [],
            "on the disk of 2 of 2 servers (FIRST 1 of *); COMMIT does not return, as too few of them are connected: "
            "none",
        ),
    ],
)
def test_durability_is_told_in_words(rule: str, standbys: list[str], said: str) -> None:
    found = Durability(*parse_rule(rule), standbys)
    assert str(found) == said
    assert found.is_stuck == ("COMMIT does not return" in said)


def test_what_a_server_promises_is_read_from_it(server: Server, tmp_path: Path) -> None:
    with closing(Database(server.dsn, "none")) as database, database.use() as db:
        assert str(read_durability(db)).startswith(ALONE)
        server.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (b, c)'")
        server.execute("SELECT pg_reload_conf()")
        with follow(server, "b", tmp_path / "b"):
            found = read_durability(db)
            assert str(found) == "on the disk of 2 of 3 servers (ANY 1 of b, c)"
            assert found.counts == StandbyCounts(named=2, needed=1, connected=1)


def test_a_role_without_rights_learns_as_much(server: Server, tmp_path: Path) -> None:
    server.execute("CREATE ROLE low LOGIN")
    server.stop()
    server.start(synchronous_standby_names="b")
    low = Database(server.dsn.replace("user=relay", "user=low"), "none")
    with closing(low), low.use() as db, follow(server, "b", tmp_path / "b"):
        assert str(read_durability(db)) == "on the disk of 2 of 2 servers (FIRST 1 of b)"


def test_a_server_that_may_lose_commits_is_refused(server: Server) -> None:
    with closing(Database(server.dsn, "none")) as database:
        with database.use() as db:
            check_durable(db)
        server.stop()
        server.start(fsync="off", full_page_writes="off")
        expected = (
            "the database server has fsync = off and full_page_writes = off, and a crash may destroy events that were "
            "answered 2xx: set both on in postgresql.conf, and reload the server"
        )
        with pytest.raises(Unavailable) as caught, database.use() as db:
            check_durable(db)
        assert str(caught.value) == expected
