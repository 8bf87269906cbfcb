"""`relay send`: posts events from a file to a running relay."""

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from random import Random
from typing import IO, Any, Final

import aiohttp
import click
import orjson
from yarl import URL

from relay.api import retry_after
from relay.api.internal import cut, find_closest, one_line
from relay.cli.event_file import read_events
from relay.cli.options import complete_entry, warn_of_plain_http
from relay.cli.output import get_plain
from relay.sandbox import list_types, make_event
from relay.words import escape_text, format_count

TRIES: Final = 8
TIMEOUT_S: Final = 60.0
SLOW_S: Final = 2.0
"""A batch without an answer for so long makes sure that anybody answers at all."""
ALIVE_S: Final = 2.0
"""Whoever takes connections says something within so many seconds, if only that there is no such path."""
HANG_UP_S: Final = 2.0
"""A server that does not accept the sender's certificate hangs up within so long."""
PEM: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
ADVICE: Final = {
    400: "\nIt was sent in the form `{shape}`, for a source of type {takes}: is this one of another type?",
    404: "\nNo source has this path: --url names another address or path.",
    401: "\nThe token is taken from the environment: set RELAY_TOKEN, or name another variable by --token-env.",
}
"""What to do about a status that no further try changes."""
ENVELOPES: Final = {"events": (b'{"events":[', b",", b"]}"), "array": (b"[", b",", b"]"), "ndjson": (b"", b"\n", b"\n")}


@click.command
@click.argument("file", type=click.File("rb"), required=False)
@click.option(
    "--sample",
    metavar="TYPE",
    shell_complete=complete_entry,
    help="Send one made-up event of this Currents type instead of FILE.",
)
@click.option("--url", default="http://127.0.0.1:8080/currents", show_default=True, help="The source to send to.")
@click.option("--token-env", metavar="NAME", default="RELAY_TOKEN", show_default=True, help="Variable with the token.")
@click.option("--batch", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Events per request.")
@click.option(
    "--as", "shape", default="events", show_default=True, type=click.Choice(list(ENVELOPES)), help="Body form."
)
@click.option("--ca", metavar="FILE", type=PEM, help="Who vouches for relay's certificate (default: the system's).")
@click.option("--cert", metavar="FILE", type=PEM, help="The sender's own certificate, if relay wants one.")
@click.option("--key", metavar="FILE", type=PEM, help="Its private key, if that is not in the same file.")
@click.option("--quiet", is_flag=True, help="Say only what goes wrong.")
def send(
    file: IO[bytes] | None,
    sample: str | None,
    url: str,
    token_env: str,
    batch: int,
    shape: str,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    quiet: bool,
) -> None:
    """Post the events in FILE to a running relay.

    FILE (- for standard input) holds NDJSON, a JSON array, {"events": [...]}, or one event. relay gets the events byte
    for byte. With --sample the command sends one made-up event of a Currents type, with its own id and the fields that
    Braze sends. A source of type `json` takes --as array and --as ndjson.

    Answers 429 and 5xx are tried again. A batch that is too large is halved. A line that is no JSON is named and left
    out; with --as ndjson relay parks it. A certificate that is not accepted ends the command at once. What relay
    accepted before stays accepted.

    Exit codes: 0 all accepted; 1 lines were left out, or relay refused a batch.
    """
    if (file is None) == (sample is None):
        raise click.UsageError("name a FILE (- for standard input), or --sample TYPE")
    made = _make_sample(sample) if sample else {}
    context, token = _make_context(ca, cert, key), os.environ.get(token_env)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if token:
        warn_of_plain_http(url, f"${token_env}")
    torn: list[int] = []
    events = _read_all(file, None if shape == "ndjson" else torn) if file else iter([orjson.dumps(made)])
    with _show_progress(file, shown=not quiet and sys.stderr.isatty()) as advance:
        kept = asyncio.run(_send(events, batch, url, headers, shape, context, advance))
    left_out = f", {format_count(kept['duplicates'], 'duplicate')} left out" if kept["duplicates"] else ""
    if not quiet:
        click.echo(f"sent {made['id']}, see relay trace {made['id']}\n" if made else "", nl=False)
        click.echo(f"{kept['accepted']} accepted, {kept['parked']} parked as unreadable{left_out}")
    if torn:
        raise click.ClickException(
            f"{format_count(len(torn), 'line')} of FILE not sent, the first is line {torn[0]:,}: no JSON"
        )


def _make_context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """Make the TLS context of the options --ca, --cert and --key. Raises click.UsageError."""
    if key and not cert:
        raise click.UsageError("--key goes with --cert")
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert:
            context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise click.UsageError(f"--ca, --cert or --key cannot be used: {error}") from None
    return context


@contextmanager
def _show_progress(file: IO[bytes] | None, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar that moves by bytes, unless the size of the file is unknown."""
    if not shown or file is None or file.isatty() or not file.seekable():
        yield lambda count: None
        return
    with click.progressbar(length=os.fstat(file.fileno()).st_size, label="sending", file=get_plain(sys.stderr)) as bar:
        yield bar.update


async def _send(
    events: Iterator[bytes],
    size: int,
    url: str,
    headers: dict[str, str],
    shape: str,
    context: ssl.SSLContext,
    advance: Callable[[int], None],
) -> dict[str, int]:
    total, first = {"accepted": 0, "parked": 0, "duplicates": 0}, 1
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        while batch := list(islice(events, size)):
            try:
                kept = await _post_all(session, url, batch, shape, context)
            except click.ClickException as error:
                before = (
                    f"\n{total['accepted']:,} were accepted before it stopped, at event {first:,}" if first > 1 else ""
                )
                raise click.ClickException(error.message + before) from None
            if kept.get("parked"):
                where = f"events {first} to {first + len(batch) - 1}"
                click.echo(f"of {where} {kept['parked']} parked as unreadable (see relay parked list)", err=True)
            total, first = {key: total[key] + kept.get(key, 0) for key in total}, first + len(batch)
            advance(sum(map(len, batch)) + len(batch))
    return total


async def _request(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[aiohttp.ClientResponse, bytes]:
    """Post a body; return the answer and its body.

    After SLOW_S without an answer, check that the server answers anything. Raises ClickException if it does not, or if
    the URL is none.
    """

    async def post() -> tuple[aiohttp.ClientResponse, bytes]:
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
            return answer, await answer.read()

    posting = asyncio.get_running_loop().create_task(post(), name="post a batch")
    try:
        await asyncio.wait([posting], timeout=SLOW_S)
        if not posting.done():
            await _check_alive(session, url)
        return await posting
    except aiohttp.NonHttpUrlClientError:
        raise click.ClickException(f"{url!r} is no URL to send to: begin it with http:// or https://") from None
    except aiohttp.InvalidURL:
        raise click.ClickException(f"{url!r} is no URL such as http://127.0.0.1:8080/currents") from None
    finally:
        posting.cancel()


async def _check_alive(session: aiohttp.ClientSession, url: str) -> None:
    """Raise ClickException if the server answers nothing within ALIVE_S. The post reports every other problem."""
    with suppress(aiohttp.ClientError, ValueError, OSError):
        try:
            async with asyncio.timeout(ALIVE_S), session.get(URL(url).origin() / "healthz"):
                return
        except TimeoutError:
            raise click.ClickException(f"{url} does not answer within {ALIVE_S:g} s: is relay stopped?") from None


class _TooLarge(Exception):
    """relay answers 413."""


async def _post_all(
    session: aiohttp.ClientSession, url: str, events: Sequence[bytes], shape: str, context: ssl.SSLContext
) -> dict[str, int]:
    """Post events as one request. Halve a request that is too large, again and again."""
    start, between, end = ENVELOPES[shape]
    parts = map(one_line, events) if shape == "ndjson" else events
    try:
        return await _post(session, url, start + between.join(parts) + end, shape, context)
    except _TooLarge as error:
        if len(events) == 1:
            raise click.ClickException(f"an event of {len(events[0]):,} bytes is too large: {error}") from None
    middle = len(events) // 2
    halves = [await _post_all(session, url, half, shape, context) for half in (events[:middle], events[middle:])]
    return {key: sum(half.get(key, 0) for half in halves) for key in {key for half in halves for key in half}}


async def _post(
    session: aiohttp.ClientSession, url: str, body: bytes, shape: str, context: ssl.SSLContext
) -> dict[str, int]:
    for attempt in range(TRIES):
        said, wait = "", None
        try:
            answer, content = await _request(session, url, body)
            said = f"HTTP {answer.status}: {cut(escape_text(content.decode(errors='replace')), 300)}"
            if answer.ok:
                try:
                    return {key: int(count) for key, count in orjson.loads(content).items()}
                except (ValueError, TypeError, AttributeError):
                    raise click.ClickException(f"{url} takes the events, but it is no relay") from None
            if answer.status == 413:
                raise _TooLarge(said)
            if answer.status != 429 and answer.status < 500:
                takes = "currents" if shape == "events" else "json"
                raise click.ClickException(said + ADVICE.get(answer.status, "").format(shape=shape, takes=takes))
            wait = retry_after(answer.headers.get("Retry-After"), datetime.now(UTC))
        except (aiohttp.ClientError, TimeoutError) as error:
            if refused := await _explain_untrusted(error, url, context):
                raise click.ClickException(f"{url}: {refused}") from None
            is_refused = isinstance(getattr(error, "os_error", None), ConnectionRefusedError)
            said = "connection refused" if is_refused else f"{type(error).__name__}: {error}"
        if attempt + 1 < TRIES:
            click.echo(f"{said}, trying again ({attempt + 1}/{TRIES})", err=True)
            await asyncio.sleep(wait or min(0.2 * 2**attempt, 10))
    advice = "" if said.startswith("HTTP ") else "\nIs relay running? --url names another address of a source."
    raise click.ClickException(f"{url} does not take the events after {TRIES} tries: {said}{advice}")


async def _explain_untrusted(error: Exception, url: str, context: ssl.SSLContext) -> str | None:
    """Explain which side's certificate is not accepted; None for any other error.

    With TLS 1.3 a server refuses the sender after the handshake. Servers in Python then hang up without a word."""
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        unknown = any(word in cause.verify_message for word in ("issuer", "self-signed", "self signed"))
        advice = "; --ca names who vouches for it" if unknown else ""
        return f"its certificate is not good: {cause.verify_message}{advice}"
    place = URL(url)
    if place.scheme != "https" or not isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return None
    with suppress(OSError):  # a TimeoutError is one: it waits for what we have to say
        async with asyncio.timeout(HANG_UP_S):
            reader, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
            try:
                with suppress(ssl.SSLError, ConnectionResetError):
                    await reader.read(1)
                return "it hangs up after the TLS handshake: it wants another certificate of the sender, see --cert"
            finally:
                writer.transport.abort()
    return None


def _make_sample(type_name: str) -> dict[str, Any]:
    """Make an event of a Currents type. Raises click.UsageError if relay knows no sample of the type."""
    try:
        return make_event(type_name, Random(), time.time())
    except KeyError:
        near = find_closest(type_name, list_types(), cutoff=0.5)
        meant = f": did you mean {near}?" if near else ", see relay events"
        raise click.UsageError(f"there is no sample of the type {type_name}{meant}") from None


def _read_all(file: IO[bytes], torn: list[int] | None) -> Iterator[bytes]:
    """Yield the events of a file. Raises ClickException."""
    try:
        yield from read_events(file, torn)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
