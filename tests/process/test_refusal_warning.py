"""A real daemon warns of a source that refuses everything, also after a restart."""

import sqlite3
import time
from contextlib import closing

from click.testing import CliRunner

from relay.cli.main import relay
from tests.daemon import Daemon
from tests.unit.ingest.test_refusal_warning import HOUR, MESSAGE


async def test_a_real_source_goes_on_with_its_clock_and_the_audit_shows_it(daemon: Daemon) -> None:
    daemon.configure("10-source", '[source.braze]\ntype="currents"\npath="/currents"')
    daemon.configure("20-out", '[connector.out]\ntype="stdout"')
    await daemon.start()
    assert await daemon.stop() == 0
    now = time.time()
    with closing(sqlite3.connect(daemon.state / "relay.db")) as db, db:
        values = (now - 25 * HOUR, now - 23.9 * HOUR, now + 95 * HOUR)
        db.execute("UPDATE source SET failing_since=?, last=?, status=503, reason='full', deadline=?", values)
    await daemon.start()
    assert (await daemon.post(b"no json"))[0] == 400
    (line,) = await daemon.until(lambda: daemon.logged(MESSAGE), bool)
    assert (line["source"], line["hours"], line["status"]) == ("braze", 25.0, 400)
    assert await daemon.stop() == 0
    where = ["--state", str(daemon.state), "--conf", str(daemon.conf)]
    out = CliRunner().invoke(relay, ["audit", *where]).output
    assert "source braze: 0 duplicates left out; it has refused everything since" in out
    await daemon.start()
    assert (await daemon.post(b""))[0] == 200
    assert await daemon.stop() == 0
    assert "refused everything" not in CliRunner().invoke(relay, ["audit", *where]).output
