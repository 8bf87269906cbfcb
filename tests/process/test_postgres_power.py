"""The power of the database's machine is cut under load: every event that was answered 2xx is there afterwards."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from relay.postgres.connection import Database
from tests.forks import Forks
from tests.postgres import Server, VolatileDisk, run_server
from tests.postgres.disk import NEEDS_ROOT
from tests.process.fleet import Fleet, Stream

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason=NEEDS_ROOT)]
UNSAFE = """
    CREATE OR REPLACE FUNCTION $.lock_log(part integer, lock_ms integer) RETURNS void LANGUAGE plpgsql AS $body$
    BEGIN
        PERFORM set_config('synchronous_commit', 'off', true);
        PERFORM pg_advisory_xact_lock((SELECT lock FROM $.cluster), 2 * part);
    END
    $body$;
    CREATE FUNCTION $.hurry() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        PERFORM set_config('synchronous_commit', 'off', true);
        RETURN NULL;
    END
    $body$;
    DO $body$
    DECLARE
        found name;
    BEGIN
        FOR found IN SELECT relname FROM pg_class WHERE relnamespace = 'relay'::regnamespace AND relkind = 'r' LOOP
            EXECUTE format('CREATE TRIGGER hurry BEFORE INSERT OR UPDATE OR DELETE ON $.%I
                            FOR EACH STATEMENT EXECUTE FUNCTION $.hurry()', found);
        END LOOP;
    END
    $body$
"""
"""What relay never does: the server may answer before the block is on disk. No other commit puts it there either."""


@asynccontextmanager
async def cut_power_under_load(folder: Path, forks: Forks, unsafe: bool) -> AsyncIterator[Stream]:
    """Cut the power of a database while a relay takes events and delivers none; yield the stream once what is left of
    the events is delivered."""
    stream = Stream("plain", "users.messages.email.Open")
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(VolatileDisk.mount())
        server: Server = stack.enter_context(run_server(disk.folder, wal_writer_delay="10s"))
        fleet = await stack.enter_async_context(Fleet.run(folder, forks, [server.dsn], [stream]))
        if unsafe:
            with Database(server.dsn, "relay").connect() as db:
                db.run(UNSAFE)
        disk.sync()
        stream.destination.behaviour = 503
        async with fleet.under_load():
            while len(stream.acknowledged) < 100:
                await asyncio.sleep(0.01)
            disk.cut_power()
            server.kill()
            await fleet.nodes[0].kill()
        disk.restore_power()
        server.start()
        stream.destination.behaviour = 200
        await fleet.nodes[0].start()
        await fleet.audit()
        yield stream


@pytest.mark.promise(1)
async def test_a_power_cut_of_the_database_loses_nothing(tmp_path: Path, relay_forks: Forks) -> None:
    async with cut_power_under_load(tmp_path, relay_forks, unsafe=False) as stream:
        assert not stream.find_missing(set(stream.acknowledged))


@pytest.mark.long  # quicker: only shows that the test above can fail
async def test_a_power_cut_loses_what_was_not_synced(tmp_path: Path, relay_forks: Forks) -> None:
    """The test above would see it."""
    async with cut_power_under_load(tmp_path, relay_forks, unsafe=True) as stream:
        assert stream.find_missing(set(stream.acknowledged))
