"""The connector type `postgres`, against a real server: what arrives, and what each kind of failure means."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import orjson
import psycopg
import pytest

pytest.importorskip("asyncpg", reason="the connector takes the package currents-relay[postgres]")

from click.testing import CliRunner
from pydantic import ValidationError

from relay.api import DELIVERED, Batch, Block, Event, Kind, OtherId, Reject, Retry, Secret, Skipped, Unauthorized, User
from relay.cli.main import relay
from relay_plugins.postgres.connector import Postgres
from relay_plugins.postgres.table import make_table
from tests.postgres import Server, run_server, start_shared_server

SEND = Kind("braze", "users.messages.email.Send")
_tables = count(1)

Make = Callable[..., Postgres]


def event(number: int, **more: object) -> Event:
    data = {"id": f"id-{number}", "event_type": SEND.type, "time": 1_790_000_000, "user": {}, "properties": {}} | more
    return Event(orjson.dumps(data), SEND, number, 1_790_000_009.5)


def batch_of(*events: Event) -> Batch:
    return Batch([Block.of(events)])


@pytest.fixture
def server() -> Server:
    return start_shared_server()


@pytest.fixture
def table(server: Server) -> str:
    name = f"Events {next(_tables)}"
    server.execute(make_table(name))
    return name


@pytest.fixture
async def connect(tmp_path: Path, server: Server, table: str) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def make(**settings: object) -> Postgres:
            url = settings.pop("url", f"postgresql://relay@127.0.0.1:{server.port}/postgres")
            (tmp_path / "dsn").write_text(str(url))
            given = {"type": "postgres", "dsn": Secret("file", str(tmp_path / "dsn")), "table": table} | settings
            made = Postgres("lake", Postgres.Settings.model_validate(given), folder=tmp_path)
            stack.push_async_callback(made.release)
            return made

        yield make


def count_rows(server: Server, table: str) -> int:
    return server.execute(f'SELECT count(*) FROM "{table}"')[0][0]


async def test_every_sample_is_in_the_table_field_by_field(connect, server, table, samples) -> None:
    bodies = [orjson.loads(body) | {"id": name} for name, body in samples.items()]  # some samples share an id
    events = [
        Event(orjson.dumps(body), Kind("braze", body["event_type"]), number, 1_790_000_000.25)
        for number, body in enumerate(bodies)
    ]
    connector = connect()
    assert await connector.deliver(batch_of(*events)) is None
    columns = (
        "id, type, extract(epoch FROM time)::float8, extract(epoch FROM received)::float8, source,"
        " user_id, external_user_id, device_id, event::text, event->>'id'"
    )
    rows = {row[0]: row for row in server.execute(f'SELECT {columns} FROM "{table}"')}
    for one in events:
        sent = json.loads(one.body)
        user = [sent["user"].get(field) for field in ("user_id", "external_user_id", "device_id")]
        *columns, stored, id_inside = rows[sent["id"]]
        assert columns == [sent["id"], sent["event_type"], one.time, 1_790_000_000.25, "braze", *user]
        assert (json.loads(stored), id_inside) == (sent, sent["id"])
    assert len(rows) == len(samples)


async def test_an_event_that_comes_again_is_there_once_as_it_was(connect, server, table) -> None:
    connector = connect()
    await connector.deliver(batch_of(event(1, properties={"n": 1}), event(2), event(2)))
    await connector.deliver(batch_of(event(1, properties={"n": 2}), event(3)))
    assert server.execute(f"SELECT id, event #>> '{{properties,n}}' FROM \"{table}\" ORDER BY id") == [
        ("id-1", "1"),
        ("id-2", None),
        ("id-3", None),
    ]


async def test_odd_but_good_events_arrive_whole(connect, server, table) -> None:
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    odd = event(1, properties={"big": 2**53 + 1, "deep": deep, "text": "Zoë 🦉 \t\x7f", "long": "x" * 900_000})
    bare = Event(b'{ "id" : 7 ,\n"n": 12345678901234567890.5 }', SEND, 2, 0.0)
    await connect().deliver(batch_of(odd, bare, event(3, user={"user_id": "", "external_user_id": "[REDACTED]"})))
    rows = dict(server.execute(f'SELECT id, event::text FROM "{table}"'))
    assert json.loads(rows["id-1"]) == json.loads(odd.body)
    assert rows["7"] == '{"n": 12345678901234567890.5, "id": 7}'
    assert server.execute(f"SELECT user_id, external_user_id, time IS NULL FROM \"{table}\" WHERE id <> 'id-1'") == [
        (None, None, True),
        (None, None, False),
    ]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"properties": {"text": "a\0b"}}, "22P05"),
        ({"id": "a\0b"}, "22021"),
        ({"time": 1e300}, "22008"),
        ({"id": "".join(map(str, range(9000)))}, "54000"),
    ],
)
async def test_an_event_that_cannot_be_stored_is_refused(connect, server, table, bad, said) -> None:
    connector = connect()
    with pytest.raises(Reject, match=said) as refusal:
        await connector.deliver(batch_of(event(1), event(2, **bad)))
    assert refusal.value.status is None
    assert count_rows(server, table) == 0
    await connector.deliver(batch_of(event(1)))
    assert count_rows(server, table) == 1


async def test_a_constraint_of_the_admin_refuses_single_events(connect, server, table) -> None:
    server.execute(f'ALTER TABLE "{table}" ADD CHECK (user_id IS NOT NULL)')
    with pytest.raises(Reject, match="23514"):
        await connect().deliver(batch_of(event(1)))


async def test_what_an_admin_has_to_mend_makes_events_wait_and_is_named(connect, server, table) -> None:
    missing = connect(table="Nothing")
    with pytest.raises(
        Unauthorized, match=r'"Nothing" does not exist .42P01.; make the table: `relay postgres create`'
    ):
        await missing.deliver(batch_of(event(1)))
    with pytest.raises(Unauthorized, match="42P01"):
        await connect(table="nowhere.events").deliver(batch_of(event(1)))
    server.execute(f'ALTER TABLE "{table}" DROP COLUMN device_id')
    with pytest.raises(Unauthorized, match=r'column "device_id" .* does not exist .42703.; add the column'):
        await connect().deliver(batch_of(event(1)))
    url = f"postgresql://relay@127.0.0.1:{server.port}/nowhere"
    with pytest.raises(Unauthorized, match='database "nowhere" does not exist'):
        await connect(url=url).deliver(batch_of(event(1)))
    for url in ("postgresql://relay:se@cret@127.0.0.1:port/x", "postgresql://relay:cret@127.0.0.1/x?sslmode=cret"):
        with pytest.raises(Unauthorized, match="dsn: ") as wrong:
            await connect(url=url).deliver(batch_of(event(1)))
        assert "cret" not in repr(wrong.value)


async def test_a_wrong_password_and_a_missing_right_make_events_wait(connect, server, table) -> None:
    server.execute("SELECT set_config('password_encryption', 'scram-sha-256', false)")
    server.execute("CREATE ROLE reader LOGIN PASSWORD 'right'")
    rules = server.folder.joinpath("pg_hba.conf").read_text().splitlines()
    server.admit("host all reader 127.0.0.1/32 scram-sha-256")
    try:
        url = f"postgresql://reader:%s@127.0.0.1:{server.port}/postgres"
        for call in (lambda one: one.deliver(batch_of(event(1))), lambda one: one.probe()):
            with pytest.raises(Unauthorized, match="28P01") as wrong:
                await call(connect(url=url % "wrong-secret"))
            assert "wrong-secret" not in repr(wrong.value)
            with pytest.raises(Unauthorized, match=r"42501.; the user of the dsn needs USAGE on the schema, INSERT on"):
                await call(connect(url=url % "right"))
        server.execute(f'GRANT INSERT, SELECT (id) ON "{table}" TO reader')
        writer = connect(url=url % "right")
        await writer.probe()
        await writer.deliver(batch_of(event(1)))
        with pytest.raises(Unauthorized, match="42501"):
            await writer.erase([User("5f")])
        server.execute(f'GRANT SELECT, DELETE ON "{table}" TO reader')
        assert await writer.erase([User("5f")]) == [DELIVERED]
    finally:
        server.admit(*rules)
        server.execute("DROP OWNED BY reader; DROP ROLE reader")


async def test_a_lock_a_time_out_and_a_read_only_server_are_tried_again(connect, server, table) -> None:
    base = f"postgresql://relay@127.0.0.1:{server.port}/postgres"
    stuck = connect(url=f"{base}?lock_timeout=50")
    await stuck.deliver(batch_of(event(0)))
    with psycopg.connect(server.dsn) as locking:
        locking.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE'.encode())
        with pytest.raises(Retry, match="55P03"):
            await stuck.deliver(batch_of(event(1)))
        with pytest.raises(Retry, match="57014"):
            await connect(url=f"{base}?statement_timeout=50").deliver(batch_of(event(1)))
    read_only = connect(url=f"{base}?default_transaction_read_only=on")
    with pytest.raises(Retry, match="25006"):
        await read_only.deliver(batch_of(event(1)))
    with pytest.raises(Retry, match="read-only"):
        await read_only.probe()
    await stuck.deliver(batch_of(event(1)))
    assert count_rows(server, table) == 2


async def test_a_cancelled_delivery_leaves_no_connection_and_no_statement(connect, server, table) -> None:
    connector = connect()
    own = "FROM pg_stat_activity WHERE application_name = 'relay lake'"
    with psycopg.connect(server.dsn) as locking:
        locking.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE'.encode())
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(connector.deliver(batch_of(event(1))), name="delivery")
            while server.execute(f"SELECT count(*) {own} AND wait_event_type = 'Lock'") == [(0,)]:
                await asyncio.sleep(0.01)
            task.cancel()
        assert server.execute(f"SELECT pid {own}") == []
    await connector.deliver(batch_of(event(1)))
    assert count_rows(server, table) == 1


async def test_a_server_that_restarts_hangs_or_dies_is_tried_again(connect) -> None:
    with run_server() as own:
        own.execute(make_table("events"))
        connector = connect(url=f"postgresql://relay@127.0.0.1:{own.port}/postgres", table="events")
        await connector.deliver(batch_of(event(1)))
        own.stop()
        with pytest.raises((Retry, OSError)):
            await connector.deliver(batch_of(event(2)))
        own.start()
        await connector.deliver(batch_of(event(2)))
        own.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connector.deliver(batch_of(event(3)))
        own.thaw()
        await connector.deliver(batch_of(event(3)))
        own.kill()
        with pytest.raises((Retry, OSError)):
            await connector.deliver(batch_of(event(4)))
        own.start()
        await asyncio.gather(*(connector.deliver(batch_of(event(number))) for number in range(4, 12)))
        assert own.execute("SELECT count(*) FROM events") == [(11,)]


async def test_probe_tells_the_server_and_changes_nothing(connect, server, table) -> None:
    said = await connect().probe()
    assert said.startswith("PostgreSQL ")
    assert said.endswith(f"takes events into the table {table}")
    assert count_rows(server, table) == 0
    server.execute(f'ALTER TABLE "{table}" DROP CONSTRAINT "{table}_pkey"')
    with pytest.raises(Unauthorized, match=r"42P10.; the column id needs a primary key"):
        await connect().probe()


async def test_an_erasure_deletes_the_rows_of_a_user_and_no_others(connect, server, table) -> None:
    connector = connect()
    users = [
        {"user_id": "5f", "external_user_id": "anna"},
        {"external_user_id": "anna"},
        {"external_user_id": "bert", "device_id": "d-1"},
        {"device_id": "d-1"},
        {"device_id": "d-2"},
        {},
    ]
    await connector.deliver(batch_of(*(event(number, user=user) for number, user in enumerate(users))))
    anna = User("5f", ("anna",), (OtherId("device_id", "d-1"), OtherId("email", "d-2")))
    nobody = User(None, (), (OtherId("email", "x@example.com"),))
    for _ in range(2):
        done, skipped = await connector.erase([anna, nobody])
        assert done == DELIVERED
        assert isinstance(skipped, Skipped)
        assert server.execute(f'SELECT id FROM "{table}" ORDER BY id') == [("id-2",), ("id-4",), ("id-5",)]


def test_a_server_is_verified_by_a_named_or_usual_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(url: str) -> None:
        (tmp_path / "dsn").write_text(url)
        Postgres.Settings(type="postgres", dsn=Secret("file", str(tmp_path / "dsn")))

    monkeypatch.setenv("HOME", str(tmp_path))
    url = "postgresql://relay:cret@db1/analytics?sslmode=verify-full"
    with pytest.raises(ValidationError, match="dsn: sslmode verifies the server: add sslrootcert=FILE") as wrong:
        check(url)
    assert "cret@" not in str(wrong.value)
    check(f"{url}&sslrootcert=/etc/relay/tls/db.pem")
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    check(url)


def test_settings_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("host=db1 dbname=analytics")
    dsn = Secret("file", str(tmp_path / "dsn"))
    with pytest.raises(ValidationError, match="dsn: expected a URL such as postgresql://relay:PASSWORD@db1:5432/a"):
        Postgres.Settings(type="postgres", dsn=dsn)
    (tmp_path / "dsn").write_text("postgresql:///analytics?host=/run/postgresql")
    dsn = Secret("file", str(tmp_path / "dsn"))
    for name in ("", "a.b.c", "a.", "a\nb", "ä" * 32):
        with pytest.raises(ValidationError, match="table"):
            Postgres.Settings(type="postgres", dsn=dsn, table=name)
    assert Postgres.Settings(type="postgres", dsn=dsn, table="analytics.events").table == "analytics.events"


def test_the_command_makes_the_table_and_finds_it_made(tmp_path: Path, server: Server) -> None:
    server.execute("CREATE SCHEMA made")
    (tmp_path / "dsn").write_text(f"postgresql://relay@127.0.0.1:{server.port}/postgres\n")
    words = ["postgres", "create", "--table", 'made.my "events"', "--dsn-file", str(tmp_path / "dsn")]
    for _ in range(2):
        said = CliRunner().invoke(relay, words)
        assert (said.exit_code, said.output) == (0, 'the table made.my "events" is there\n')
    assert server.execute('SELECT count(*) FROM made."my ""events"""') == [(0,)]
    printed = CliRunner().invoke(relay, [*words[:4], "--print"])
    assert printed.output == make_table('made.my "events"') + "\n"
    nowhere = CliRunner().invoke(relay, [*words[:3], "nowhere.events", *words[4:]])
    assert nowhere.exit_code == 1
    assert 'schema "nowhere" does not exist; make the schema first: CREATE SCHEMA' in nowhere.output
    assert CliRunner().invoke(relay, words[:4]).exit_code == 2
