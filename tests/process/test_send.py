"""`relay send` posts files of every shape to a running relay."""

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from click.testing import CliRunner

from relay.cli.main import relay
from relay.testing import Answer, Destination, make_event
from tests.certificates import Authority
from tests.daemon import Daemon

EVENTS = [make_event(n=n) for n in range(250)]
LOADED = [orjson.loads(event) for event in EVENTS]


async def send(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, str, str]:
    async with asyncio.timeout(30):
        result = await asyncio.to_thread(CliRunner().invoke, relay, ["send", *arguments], stdin, env)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "text",
    [
        b"\n".join(EVENTS),
        b"[" + b",".join(EVENTS) + b"]",
        b'{"events":[' + b",".join(EVENTS) + b"]}",
        orjson.dumps(LOADED, option=orjson.OPT_INDENT_2),
    ],
    ids=["ndjson", "array", "events", "pretty"],
)
async def test_a_file_of_any_shape_is_sent_in_batches(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "events").write_bytes(text)
    async with Destination() as relay:
        relay.behaviour = Answer(body=b'{"accepted":100,"parked":0}')
        code, out, err = await send(str(tmp_path / "events"), "--url", relay.url + "x?y=1")
        assert (code, out) == (0, "300 accepted, 0 parked as unreadable\n"), err
        assert relay.events() == LOADED
        assert [len(request.bodies()) for request in relay.requests] == [100, 100, 50]


ODD = [
    b'{"id":"a","event_type":"t","n":12345678901234567890123,"m":1.10,"e":1E5}',
    b'{"id":"b","event_type":"t","x":1,"x":2,"t":"caf\\u00e9 \\ud83d \xe2\x80\xa8"}',
    b'{\n  "id" : "c",\r\n  "event_type" : "t", "list":[ 1 , 2 ]\n}',
]


@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        (b"[", b",", b"]"),
        (b"\xef\xbb\xbf[\n", b"\n,\n", b"\n]\n"),
        (b'{"events":[', b",", b"]}"),
        (b'{ "from" : [[]],\n "events" :\n[ ', b" , ", b' ], "events_end":1 }'),
    ],
)
@pytest.mark.parametrize("shape", ["events", "array", "ndjson"])
async def test_what_is_sent_is_what_is_in_the_file(shape: str, before: bytes, between: bytes, after: bytes) -> None:
    """Looked at as well: NDJSON and a single event, and files of `relay parked export`, which are NDJSON."""
    whole = before + between.join(ODD) + after
    for text, events in ((whole, ODD), (ODD[2], ODD[2:]), (b"\xef\xbb\xbf\n" + b"\r\n".join(ODD[:2]), ODD[:2])):
        async with Destination() as relay:
            relay.behaviour = Answer(body=b'{"accepted":1,"parked":0}')
            assert (await send("-", "--url", relay.url, "--as", shape, stdin=text))[0] == 0
            sent = b"".join(request.body for request in relay.requests)
            if shape == "ndjson":
                assert sent.splitlines() == [one.replace(b"\n", b" ").replace(b"\r", b" ") for one in events]
            else:
                assert b",".join(events) in sent


@pytest.mark.parametrize(
    "text", [b"[", b'{"events":[{}', b"[{}] {}", b'{"events":7}', b"hello", b'{"a":1', "{}".encode("utf-16")]
)
async def test_what_is_no_file_of_events_is_told(text: bytes) -> None:
    code, _, err = await send("-", "--url", "http://127.0.0.1:9/", stdin=text)
    assert (code, "neither NDJSON nor JSON" in err) == (1, True)


async def test_it_waits_for_a_busy_relay_and_stops_at_a_refusal() -> None:
    async with Destination(503, Answer(status=429, headers={"Retry-After": "0"}), 500) as relay:
        relay.behaviour = Answer(body=b'{"accepted":1,"parked":0}')
        code, out, _ = await send("-", "--url", relay.url, stdin=EVENTS[0])
        assert (code, out) == (0, "1 accepted, 0 parked as unreadable\n")
        assert [request.body for request in relay.requests] == [b'{"events":[' + EVENTS[0] + b"]}"] * 4
        relay.behaviour = Answer(status=401, body=b"wrong bearer token")
        code, _, err = await send("-", "--url", relay.url, stdin=EVENTS[0])
        assert code == 1
        assert "401: wrong bearer token" in err


async def test_it_sends_the_token_to_a_real_relay(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("right")
    daemon.configure(
        "10-all", f'[source.braze]\ntype="currents"\npath="/currents"\ntokens=[{{ file="{tmp_path / "token"}" }}]'
    )
    await daemon.start()
    code, out, err = await send(
        "-", "--url", daemon.url + "/currents", stdin=b"\n".join(EVENTS), env={"RELAY_TOKEN": "right"}
    )
    assert (code, out) == (0, "250 accepted, 0 parked as unreadable\n"), err


async def test_where_nobody_listens_it_says_so_in_few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Destination() as gone:
        url = gone.url
    tried: list[float] = []

    async def rest(seconds: float) -> None:
        tried.append(seconds)

    monkeypatch.setattr("relay.cli.commands.running.send.asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": rest}))
    result = await asyncio.to_thread(CliRunner().invoke, relay, ["send", "-", "--url", url], EVENTS[0])
    assert result.exit_code == 1
    said = result.stderr.splitlines()
    assert said[:7] == [f"connection refused, trying again ({number}/8)" for number in range(1, 8)]
    assert said[7:] == [
        f"Error: {url} does not take the events after 8 tries: connection refused",
        "Is relay running? --url names another address of a source.",
    ]


async def test_where_no_source_has_the_path_it_names_the_option(daemon: Daemon) -> None:
    daemon.configure("10-all", '[source.braze]\ntype="currents"\npath="/currents"')
    await daemon.start()
    code, _, err = await send("-", "--url", daemon.url + "/nowhere", stdin=EVENTS[0])
    assert code == 1
    assert "No source has this path: --url names another address or path." in err


async def test_it_says_where_in_the_file_and_for_what_source(daemon: Daemon) -> None:
    daemon.configure("10-all", '[source.braze]\ntype="currents"\npath="/currents"')
    await daemon.start()
    url = ("--url", daemon.url + "/currents")
    lines = [*EVENTS[:149], b'{"no": "event"}', *EVENTS[150:]]
    code, out, err = await send("-", *url, stdin=b"\n".join(lines))
    assert (code, out) == (0, "249 accepted, 1 parked as unreadable\n")
    assert err == "of events 101 to 200 1 parked as unreadable (see relay parked list)\n"
    assert await send("-", *url, "--quiet", stdin=EVENTS[0]) == (0, "", "")
    code, _, err = await send("-", *url, "--as", "array", stdin=EVENTS[0])
    assert code == 1
    assert err.endswith("It was sent in the form `array`, for a source of type json: is this one of another type?\n")


async def test_send_trusts_the_given_authority_and_gives_up_on_others(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "mine").mkdir()
    theirs, mine = Authority(tmp_path / "theirs"), Authority(tmp_path / "mine")
    theirs.issue()
    mine.issue()
    daemon.configure("05-tls", theirs.table(client_ca=str(mine.ca)))
    daemon.configure("10-all", '[source.braze]\ntype="currents"\npath="/currents"')
    await daemon.start()
    url = ("--url", daemon.url + "/currents")
    shown = ("--cert", str(mine.certificate), "--key", str(mine.key))
    good = await send("-", *url, "--ca", str(theirs.ca), *shown, stdin=EVENTS[0])
    assert good == (0, "1 accepted, 0 parked as unreadable\n", "")
    for given, said in (
        (shown, "its certificate is not good: unable to get local issuer certificate; --ca names who vouches for it"),
        (("--ca", str(theirs.ca)), "it hangs up after the TLS handshake: it wants another certificate"),
        (("--ca", str(theirs.ca), "--cert", str(theirs.certificate), "--key", str(theirs.key)), "it hangs up after"),
    ):
        code, out, err = await send("-", *url, *given, stdin=EVENTS[0])
        assert (code, out) == (1, "")
        assert err.startswith(f"Error: {url[1]}: {said}")
        assert "trying again" not in err
    code, _, err = await send("-", *url, "--key", str(mine.key), stdin=EVENTS[0])
    assert (code, "--key goes with --cert" in err) == (2, True)
    assert (await send("-", *url, "--ca", str(mine.key), stdin=EVENTS[0]))[0] == 2


async def test_send_to_an_expired_certificate_gives_no_advice_on_authorities(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue(days=-1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate, authority.key)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/currents"
        answer = await send("-", "--url", url, "--ca", str(authority.ca), stdin=EVENTS[0])
    assert answer == (1, "", f"Error: {url}: its certificate is not good: certificate has expired\n")


async def test_a_line_that_is_no_json_is_named_and_costs_no_other_line(daemon: Daemon) -> None:
    """Also one that would end the list of events around it; relay itself parks such lines of NDJSON."""
    daemon.configure(
        "10-all", '[source.braze]\ntype="currents"\npath="/currents"\n[source.own]\ntype="json"\npath="/own"'
    )
    daemon.configure("20-file", '[connector.file]\ntype="file"\npath="out.ndjson"')
    await daemon.start()
    text = b"\n".join(
        [EVENTS[0], b'{"id":"b","event_type":"t"}],"events":[{"id":"c","event_type":"t"}', EVENTS[1], b"torn {"]
    )
    code, out, err = await send("-", "--url", daemon.url + "/currents", stdin=text)
    assert (code, out) == (1, "2 accepted, 0 parked as unreadable\n")
    assert "2 lines of FILE not sent, the first is line 2: no JSON" in err
    await daemon.settled("file", 2)
    assert (daemon.state / "out.ndjson").read_bytes() == EVENTS[0] + b"\n" + EVENTS[1] + b"\n"
    code, out, err = await send("-", "--url", daemon.url + "/own", "--as", "ndjson", stdin=text)
    assert (code, out) == (0, "2 accepted, 2 parked as unreadable\n"), err


async def test_a_batch_that_is_too_large_is_halved_and_an_event_that_is_is_named(daemon: Daemon) -> None:
    daemon.configure("10-all", '[ingest]\nmax_body="20kB"\n[source.braze]\ntype="currents"\npath="/currents"')
    await daemon.start()
    large = [make_event(text="x" * 3000, n=n) for n in range(40)]
    code, out, err = await send("-", "--url", daemon.url + "/currents", stdin=b"\n".join(large))
    assert (code, out) == (0, "40 accepted, 0 parked as unreadable\n"), err
    huge = make_event(text="x" * 30_000)
    code, _, err = await send(
        "-", "--url", daemon.url + "/currents", "--batch", "2", stdin=b"\n".join([*large[:2], huge])
    )
    assert code == 1
    assert "bytes is too large: HTTP 413" in err
    assert "2 were accepted before it stopped, at event 3" in err
