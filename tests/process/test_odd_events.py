"""Events that JSON allows and decoders refuse: each passes or is parked alone, whoever reads it."""

import asyncio

from click.testing import CliRunner

from relay.cli.main import relay as cli
from relay.sandbox.heap.track import HeapApi
from relay.testing import Destination
from tests.daemon import Daemon
from tests.deep import IS_TAKEN, LEVELS

EVENT = b"".join(
    (
        b'{"event_type":"users.behaviors.CustomEvent","id":"%s","time":1790000000,',
        b'"user":{"external_user_id":"%s"},"properties":%s}',
    )
)
GOOD = EVENT % (b"good", b"u-good", b'{"name":"tapped"}')
CUT = EVENT % (b"cut", b"u-cut", rb'{"name":"tapped","text":"caf\u00e9 \ud83d"}')
HUGE = EVENT % (b"huge", b"u-huge", b'{"name":"tapped","amount":1e999}')
FLAT = EVENT % (b"flat", b"u-flat", b'{"name":"tapped","list":' + b"[" * 300 + b"]" * 300 + b"}")
DEEP = EVENT % (b"deep", b"u-deep", b'{"name":"tapped","list":' + b"[" * LEVELS + b"]" * LEVELS + b"}")
LATIN = EVENT % (b"latin", b"u-latin", b'{"name":"caf\xe9"}')
NAN = EVENT % (b"nan", b"u-nan", b'{"name":NaN}')
PASS = [GOOD, CUT, HUGE, FLAT] + [DEEP] * IS_TAKEN
"""What passes the source."""
ODD = [CUT, HUGE] + [DEEP] * IS_TAKEN
"""What passes the source, and not those who read all of it."""
SENT = [NAN, GOOD, CUT, HUGE, FLAT, DEEP, LATIN]


async def test_an_odd_event_is_passed_on_or_parked_alone_by_each_who_reads_it(daemon: Daemon) -> None:
    """Looked at: filters, order, names of files, `http`, `heap`, commands; erasure in its own tests."""
    async with HeapApi() as heap, Destination() as web:
        daemon.configure(
            "10-all",
            '[source.braze]\ntype="currents"\npath="/currents"\n[source.any]\ntype="json"\npath="/any"\n'
            '[connector.archive]\ntype="file"\npath="all.ndjson"\n'
            '[connector.dated]\ntype="file"\npath="{type}.{date}.ndjson"\n'
            '[connector.redacted]\ntype="file"\npath="redacted.ndjson"\nfilters=["some", "hidden"]\n'
            '[filter.some]\ntype="sample"\nkey="user.external_user_id"\nrate=1.0\n'
            '[filter.hidden]\ntype="redact"\nfields=["properties.text"]\n'
            f'[connector.ordered]\ntype="http"\nurl="{web.url}"\norder_by="user.external_user_id"\n'
            f'[connector.heap]\ntype="heap"\nmode="api"\napp_id="1"\nendpoint="{heap.url}"\n',
        )
        await daemon.start()
        for path, body in (
            ("/currents", b'{"events":[%s]}' % b",".join(SENT)),
            ("/any", b"[%s]" % b",".join(SENT)),
            ("/any", b"\n".join(SENT)),
        ):
            counted = {"accepted": len(PASS), "parked": len(SENT) - len(PASS), "duplicates": 0}
            assert await daemon.post(body, path) == (202, counted)
        passed = 3 * len(PASS)
        names = ("archive", "dated", "redacted", "ordered", "heap")
        books = {name: (await daemon.settled(name, passed)).counts for name in names}
        assert {name: one.delivered + one.parked for name, one in books.items()} == dict.fromkeys(names, passed)
        assert books["archive"].delivered == passed
        assert (daemon.state / "all.ndjson").read_bytes().splitlines() == PASS * 3
        assert books["ordered"].delivered == books["dated"].delivered == passed
        assert not daemon.logged("connector gave no key")
        parked = {(one.connector, one.cause, one.body) for one in daemon.parked() if one.connector}
        assert parked == {(*who, one) for who in (("redacted", "filter"), ("heap", "refused")) for one in ODD}
        state = ["--state", str(daemon.state)]
        for one in daemon.parked():
            for more in ([], ["--json"]):
                shown = await asyncio.to_thread(
                    CliRunner().invoke, cli, ["parked", "show", str(one.number), *state, *more]
                )
                assert (shown.exit_code, shown.exception) == (0, None)
        for event in ("cut", "huge", "deep"):
            shown = await asyncio.to_thread(CliRunner().invoke, cli, ["trace", event, *state])
            assert (shown.exit_code, event == "deep" or "offset" in shown.output) == (0, True), shown.output
        assert await daemon.stop() == 0
