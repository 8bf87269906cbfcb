"""What a server says to a relay that it does not let in: relay passes the words on, and says what to do."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from relay.postgres.connection import Database, Lasting, Overdue, PostgresConnection
from relay.store import Unavailable, UnavailableReason
from tests.certificates import Authority
from tests.postgres import Pooler, Server, run_server, start_shared_server
from tests.postgres.replicated import make_dsn

RULES = [
    "hostssl all certified 127.0.0.1/32 cert",
    "hostssl all secret 127.0.0.1/32 scram-sha-256",
]
ROLES = """
    CREATE ROLE certified LOGIN CONNECTION LIMIT 1;
    CREATE ROLE secret LOGIN PASSWORD 'hush-hush';
"""


class Guarded:
    """A server with TLS that asks each role who it is, and what a client has for that."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.authority, self.stranger = Authority(folder / "own"), Authority(folder / "stranger")
        self.authority.issue()
        server.use_certificate(self.authority)
        server.execute(ROLES)
        server.admit(*RULES)

    def make_dsn(self, user: str, more: str = "") -> str:
        """Return a dsn that has the server's certificate verified."""
        verified = f"sslmode=verify-full sslrootcert={self.authority.ca}"
        return f"host=127.0.0.1 port={self.server.port} dbname=postgres user={user} {verified} {more}"

    def certify(self, name: str = "certified", days: float = 1, by: Authority | None = None) -> str:
        """Return a dsn with a certificate for a client."""
        began = datetime.now(UTC) - timedelta(days=9)
        signer = (by or self.authority)._ca
        made = signer.issue_cert(common_name=name, not_before=began, not_after=datetime.now(UTC) + timedelta(days=days))
        certificate, key = self.folder / "client.pem", self.folder / "client.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        key.chmod(0o600)
        return self.make_dsn("certified", f"sslcert={certificate} sslkey={key}")

    def write_password(self, password: str) -> str:
        """Return a dsn with a password file."""
        path = self.folder / "passfile"
        path.write_text(f"127.0.0.1:*:*:secret:{password}\n")
        path.chmod(0o600)
        return self.make_dsn("secret", f"passfile={path}")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with run_server() as server:
        yield Guarded(server, tmp_path_factory.mktemp("certificates"))


def connect(dsn: str) -> tuple[object, ...] | None:
    with Database(dsn, "none").connect() as db:
        return db.run("SELECT current_user::text, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()


def refuse(dsn: str) -> tuple[UnavailableReason, str]:
    """Return the reason and the words of the error of a connection."""
    with pytest.raises(Unavailable) as caught, Database(dsn, "none").use() as db:
        db.run("SELECT 1")
    assert "hush" not in str(caught.value)
    return caught.value.reason, str(caught.value)


def test_a_client_certificate_is_a_way_in(guarded: Guarded) -> None:
    assert connect(guarded.certify()) == ("certified", True)


def test_a_password_file_is_a_way_in(guarded: Guarded) -> None:
    assert connect(guarded.write_password("hush-hush")) == ("secret", True)


def test_the_first_server_that_writes_is_the_one(guarded: Guarded) -> None:
    with run_server(default_transaction_read_only="on") as standby:
        ports = [1, standby.port, guarded.server.port]
        with Database(make_dsn(ports), "none").connect() as db:
            assert db.info.port == guarded.server.port
        reason, said = refuse(make_dsn(ports[:2]))
    assert (reason, said.count("failed:")) == ("", 2)
    assert "Connection refused" in said
    assert "session is read-only; the server is a standby: set target_session_attrs" in said


def test_a_changed_password_names_the_secret(guarded: Guarded) -> None:
    reason, said = refuse(guarded.make_dsn("secret", "password=hush"))
    assert (reason, "correct the secret that journal.dsn names" in said) == ("denied", True)
    reason, said = refuse(guarded.make_dsn("secret"))
    assert (reason, "into its passfile" in said) == ("denied", True)


def test_a_certificate_of_the_server_that_ended_is_to_be_renewed(guarded: Guarded) -> None:
    guarded.authority.issue(days=-1)
    guarded.server.use_certificate(guarded.authority)
    reason, said = refuse(guarded.write_password("hush-hush"))
    guarded.authority.issue()
    guarded.server.use_certificate(guarded.authority)
    assert (reason, "renew the server's certificate" in said) == ("denied", True)


def test_a_server_that_a_stranger_certified_is_not_talked_to(guarded: Guarded) -> None:
    dsn = guarded.write_password("hush-hush").replace(str(guarded.authority.ca), str(guarded.stranger.ca))
    reason, said = refuse(dsn)
    assert (reason, "set sslrootcert in journal.dsn" in said) == ("denied", True)


def test_a_server_of_another_name_is_not_talked_to(guarded: Guarded) -> None:
    reason, said = refuse(guarded.make_dsn("secret", "hostaddr=127.0.0.1").replace("host=127.0.0.1", "host=db.invalid"))
    assert (reason, "use a host in journal.dsn that the server's certificate names" in said) == ("denied", True)


@pytest.mark.parametrize(
    ("client", "advice"),
    [
        ({"days": -1}, "renew the certificate that sslcert"),
        ({"name": "somebody"}, "needs the name of the role"),
    ],
)
def test_a_client_certificate_that_is_refused_says_why(
    guarded: Guarded, client: dict[str, object], advice: str
) -> None:
    reason, said = refuse(guarded.certify(**client))
    assert (reason, advice in said) == ("denied", True)


def test_a_client_certificate_of_a_stranger_says_so(guarded: Guarded) -> None:
    reason, said = refuse(guarded.certify(by=guarded.stranger))
    assert (reason, "does not know who signed" in said) == ("denied", True)


def test_a_role_without_its_certificate_is_told_to_set_it(guarded: Guarded) -> None:
    reason, said = refuse(guarded.make_dsn("certified"))
    assert (reason, "set sslcert and sslkey in journal.dsn" in said) == ("denied", True)


def test_a_key_that_everybody_may_read_is_named(guarded: Guarded) -> None:
    dsn = guarded.certify()
    (guarded.folder / "client.key").chmod(0o644)
    reason, said = refuse(dsn)
    assert (reason, "let only relay's user read that file" in said) == ("denied", True)


def test_a_connection_without_tls_is_told_of_pg_hba(guarded: Guarded) -> None:
    reason, said = refuse(guarded.make_dsn("secret").replace("verify-full", "disable"))
    assert (reason, "add a line for this role and host to pg_hba.conf" in said) == ("denied", True)


def test_a_server_without_room_for_connections_is_busy(guarded: Guarded) -> None:
    with psycopg.connect(guarded.certify()):
        reason, said = refuse(guarded.certify())
    assert (reason, "raise its CONNECTION LIMIT (ALTER ROLE)" in said) == ("busy", True)


@pytest.mark.parametrize(
    ("words", "reason", "advice"),
    [
        ("dbname=nowhere", "denied", "correct dbname in journal.dsn, or have an admin run CREATE DATABASE"),
        ("user=nobody", "denied", "correct user in journal.dsn, or have an admin of the database run CREATE ROLE"),
        ("host=db.invalid", "", "correct host in journal.dsn, or look at the DNS of this machine"),
        ("port=1", "", "start the server, or correct host and port in journal.dsn"),
        ("host=/nowhere", "", "start the server, or set host in journal.dsn to its address"),
        ("service=nothing", "denied", "correct service in journal.dsn, or the service file of libpq"),
    ],
)
def test_a_mistaken_dsn_is_told_which_word_to_correct(words: str, reason: str, advice: str) -> None:
    found, said = refuse(f"{start_shared_server().dsn} {words}")
    assert (found, said.partition("; " + advice)[1]) == (reason, "; " + advice), said


def test_a_server_that_hangs_is_given_up_after_the_time_of_the_dsn(guarded: Guarded) -> None:
    with ExitStack() as stack:
        guarded.server.freeze()
        stack.callback(guarded.server.thaw)
        _, said = refuse(guarded.make_dsn("secret", "connect_timeout=2"))
    assert "timeout expired" in said
    assert "look at the network and the firewalls" in said


def test_a_pooler_without_room_for_connections_is_busy(guarded: Guarded) -> None:
    with Pooler.run(guarded.server, clients=1) as pooler, psycopg.connect(pooler.dsn):
        reason, said = refuse(pooler.dsn)
    assert (reason, "raise max_client_conn of the pooler" in said) == ("busy", True)


def test_a_pooler_that_does_not_know_the_database_is_no_outage(guarded: Guarded) -> None:
    with Pooler.run(guarded.server) as pooler:
        reason, said = refuse(pooler.dsn.replace("dbname=postgres", "dbname=absent"))
    assert (reason, "correct dbname in journal.dsn" in said) == ("denied", True)


def test_a_pooler_that_does_not_reach_the_server_says_so(guarded: Guarded) -> None:
    with Pooler.run(guarded.server) as pooler:
        guarded.server.stop(signal.SIGQUIT)
        try:
            (_, first), (_, second) = refuse(pooler.dsn), refuse(pooler.dsn)
        finally:
            guarded.server.start()
    assert "the pooler has no connection to the server" in first
    assert "the pooler does not reach the server" in second


def test_a_dropped_schema_names_the_command_that_makes_it(guarded: Guarded) -> None:
    database = guarded.server.make_database()
    with database.use() as db:
        db.run("DROP SCHEMA $. CASCADE".replace("$.", database.schema))
    for statement in ("SELECT * FROM $.lease", "SELECT $.hold(0, 1)"):
        with pytest.raises(Unavailable, match="relay journal init") as caught, database.use() as db:
            db.run(statement)
        assert caught.value.reason == "missing"
    database.close()


def test_a_server_that_has_become_a_standby_is_left(guarded: Guarded) -> None:
    database = guarded.server.make_database()
    lasting = Lasting(database)
    with lasting.use() as former:
        former.run("SET default_transaction_read_only = on")
    with pytest.raises(Unavailable, match="target_session_attrs=read-write"), lasting.use() as db:
        db.run("UPDATE $.partition SET changes = 1")
    assert former.closed
    with lasting.use() as db:
        db.run("UPDATE $.partition SET changes = 1")
    lasting.close()
    database.close()


def test_a_server_that_hangs_costs_its_users_one_deadline(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    late, finish = list[PostgresConnection](), PostgresConnection.wait

    def wait(db: PostgresConnection, *given: Any) -> Any:
        try:
            return finish(db, *given)
        except Overdue:
            late.append(db)
            raise

    monkeypatch.setattr(PostgresConnection, "wait", wait)
    monkeypatch.setattr(PostgresConnection, "deadline_s", 0.5)
    database = Database(f"{guarded.server.dsn} connect_timeout=2", "none")
    with database.use(), database.use(), database.use():
        pass
    with ExitStack() as stack:
        guarded.server.freeze()
        stack.callback(guarded.server.thaw)
        with pytest.raises(Unavailable, match="timeout expired"), database.use():
            pass
    assert len(late) == 1
