"""What the admin API answers: JSON of plain values, NDJSON where it may be much, RFC 9457 problem bodies."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import fields
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from relay.admin.acts import named_by
from relay.config import LOG

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NDJSON: Final = "application/x-ndjson"
STATUSES: Final = (
    (LookupError, 404),
    (ValueError, 400),
    (OverflowError, 400),
    (msgspec.MsgspecError, 400),
    (OSError, 503),
    (sqlite3.Error, 503),
)
"""What a handler raises, and how that is answered."""


def answer(value: Any) -> web.Response:
    """A value as JSON; bytes in it as base64."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def asker(request: web.Request) -> str:
    """Who asks, as they say, without secrets: the header Relay-By. Nobody has checked it."""
    line = {"by": request.headers.get("Relay-By", "")}
    LOG.clean(line)
    return named_by(line["by"])


async def content(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request's body. Raises ValueError."""
    return msgspec.json.decode(await request.read(), type=dict[str, Any])


def taken(given: Mapping[str, Any], type: type[T]) -> T:
    """What was given, as a value of a dataclass; what that does not have is refused: it would select too much.

    Raises ValueError."""
    known = {field.name for field in fields(type)}  # type: ignore[arg-type]
    if strange := given.keys() - known:
        raise ValueError(f"{sorted(strange)[0]} is not known here; known: {', '.join(sorted(known))}")
    return msgspec.convert(given, type, strict=False)


def problem(status: int, detail: str) -> web.Response:
    """An answer that says no, with the reason for the person who reads it."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/problem+json")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what handlers raise."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return problem(error.status, f"{request.method} {request.path}: {error.reason}; GET /openapi.yaml has it all")
    except tuple(kind for kind, _ in STATUSES) as error:
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        said = error.args[0] if isinstance(error, LookupError) and error.args else error
        return problem(status, str(said))


async def stream(request: web.Request, portions: AsyncIterator[bytes]) -> web.StreamResponse:
    """Answer with lines of NDJSON as they come; the client's pace is theirs."""
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    await response.prepare(request)
    async for portion in portions:
        await response.write(portion)
    await response.write_eof()
    return response
