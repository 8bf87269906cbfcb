"""The connector type `http`: events as webhooks, in one request per batch or one per event."""

import asyncio
import gzip
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator

from relay.api import (
    DELIVERED,
    Batch,
    BearerToken,
    Connector,
    Contradiction,
    Event,
    HeaderSecret,
    HttpConnectorSettings,
    HttpUrl,
    Outcome,
    Reject,
    Retry,
    Secret,
    Unauthorized,
    check_headers,
    signed_headers,
    signing_key,
)

try:
    from isal import igzip

    compress: Callable[..., bytes] = igzip.compress
except ImportError:
    compress = gzip.compress

THREAD_BYTES: Final = 256 << 10
"""Compressing a body of this size takes longer than starting a thread."""
SINGLY_SHARE: Final = 0.9
"""Share of `timeout` for single events. Delivered events must be reported before the whole delivery fails."""


def _parse_header(value: object) -> str | Secret:
    if not isinstance(value, str):
        return HeaderSecret.parse(value)
    if not value.isprintable():
        raise ValueError("a header's value has no line breaks or control characters")
    return value


HeaderValue = Annotated[str | Secret, PlainValidator(_parse_header, json_schema_input_type=str | Secret)]
"""A string or, if the value is secret, a reference."""


class Http(Connector, type="http"):
    """Sends events to a URL.

    Each request has an `Idempotency-Key`: the id of the batch or, with `body = "single"`, the id of the event. The key
    stays the same when relay sends the request again.
    """

    class Settings(HttpConnectorSettings):
        """Where to send events, in which form, and how to prove where they come from."""

        url: HttpUrl
        """URL that gets the events. relay sends it byte for byte as it is written. Only spaces and characters beyond
        ASCII are percent-encoded."""
        method: Literal["POST", "PUT", "PATCH"] = "POST"
        """HTTP method of the requests."""
        headers: dict[str, HeaderValue] = Field(default_factory=dict)
        """Headers of every request. A secret value is a reference: `{ X-Key = { credential = "key" } }`.

        relay sets these headers by itself: Content-Length, Transfer-Encoding, Content-Encoding, Connection, Keep-Alive,
        Proxy-Connection, Expect, TE, Trailer and Upgrade.
        """
        token: BearerToken | None = None
        """A bearer token, sent as `Authorization: Bearer ...`."""
        body: Literal["events", "array", "single", "ndjson"] = "events"
        """Form of the body. `"events"`: `{"events": [...]}`. `"array"`: `[...]`. `"ndjson"`: one event per line.
        `"single"`: one request per event."""
        gzip: bool = False
        """Whether relay compresses bodies, with `Content-Encoding: gzip`."""
        signing_secret: Secret | None = None
        """Secret of Standard Webhooks (`whsec_...`), with which relay signs each request. The signature covers the body
        before compression."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield headers that relay cannot send, and a signing secret that is none."""
            yield from super().contradictions()
            for name in self.headers:
                if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                    yield "headers", f"headers: {name!r} cannot be the name of a header"
                try:
                    check_headers([name])
                except ValueError as error:
                    yield "headers", f"headers: {error}"
                if name.lower() == "content-encoding":
                    yield "headers", f"headers: {name} cannot be set: relay sends it with `gzip = true`"
                if name.lower() == "authorization" and self.token:
                    yield "headers token", "headers: Authorization is already set by token; leave one of them out"
            if self.signing_secret and not self.signing_secret.problem:
                try:
                    signing_key(self.signing_secret)
                except ValueError as error:
                    yield "signing_secret", str(error)

    settings: Settings

    def __init__(self, name: str, settings: Settings, *, folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        media_type = "application/x-ndjson" if settings.body == "ndjson" else "application/json"
        self._headers = {"content-type": media_type} | {
            name.lower(): value if isinstance(value, str) else value.reveal()
            for name, value in settings.headers.items()
        }
        if settings.token:
            self._headers["authorization"] = f"Bearer {settings.token.reveal()}"
        self._key = signing_key(settings.signing_secret) if settings.signing_secret else None

    async def probe(self) -> str:
        """Connect to the URL's host. Raises `Retry`."""
        return await self.reach(self.settings.url)

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        """Send the batch in one request or, with `body = "single"`, each event in its own request."""
        match self.settings.body:
            case "single":
                return await self._send_each(batch)
            case "ndjson":
                body = batch.lines()
            case "array":
                body = batch.joined(b"[", b"]")
            case "events":
                body = batch.joined(b'{"events":[', b"]}")
        await self._send(body, batch.id)
        return None

    async def _send_each(self, batch: Batch) -> list[Outcome]:
        """Send one event after the other. A retry ends the batch, so that no earlier event is sent twice."""
        deadline = asyncio.get_running_loop().time() + SINGLY_SHARE * self.settings.timeout
        outcomes: list[Outcome] = []
        for event in batch:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._send(event.body, _make_key(event))
                outcomes.append(DELIVERED)
            except Reject as reject:
                outcomes.append(reject)
            except (Retry, Unauthorized) as outcome:
                return outcomes + [outcome] * (len(batch) - len(outcomes))
            except TimeoutError:
                late = Retry(f"not all of the batch could be sent within {SINGLY_SHARE:.0%} of `timeout`")
                return outcomes + [late] * (len(batch) - len(outcomes))
        return outcomes

    async def _send(self, body: bytes, key: str) -> None:
        headers = self._headers | {"idempotency-key": key}
        if self._key is not None:
            headers |= signed_headers(self._key, key, body)
        if self.settings.gzip:
            headers["content-encoding"] = "gzip"
            squeeze = partial(compress, body, compresslevel=1, mtime=0)
            body = squeeze() if len(body) < THREAD_BYTES else await self.run_blocking(squeeze)
        await self.post(self.settings.url, body, headers, method=self.settings.method)


def _make_key(event: Event) -> str:
    """Return the event's id, or a digest of the event if a header cannot hold the id."""
    with suppress(ValueError, LookupError):
        if event.id.isascii() and event.id.isprintable():
            return event.id
    return blake2b(event.body, digest_size=16).hexdigest()
