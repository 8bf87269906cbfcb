"""Answers of the admin API: JSON of plain values, NDJSON for large answers, RFC 9457 problem bodies."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from relay.admin.acts import clean_name
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
)
"""The status for each exception that a handler may raise."""


def make_answer(value: Any) -> web.Response:
    """Make a JSON answer of a value; bytes become base64."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def read_asker(request: web.Request) -> str:
    """Return the admin's name from the header Relay-By, without secrets. It is not verified."""
    line = {"by": request.headers.get("Relay-By", "")}
    LOG.clean(line)
    return clean_name(line["by"])


async def read_content(request: web.Request, example: str) -> dict[str, Any]:
    """Return the JSON object of a request's body. `example`: a good body. Raises ValueError."""
    body = await request.read()
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        wrong = str(error) if body.strip() else "the body is empty"
        raise ValueError(f"{wrong}; expected a JSON object such as {example}") from None


def convert_content(given: Mapping[str, Any], type: type[T]) -> T:
    """Convert the content to a value of a class. Raises ValueError, also for unknown fields, which would select too
    much."""
    known = {field.name for field in msgspec.inspect.type_info(type).fields}  # type: ignore[attr-defined]
    if strange := given.keys() - known:
        raise ValueError(f"{sorted(strange)[0]} is not known here; known: {', '.join(sorted(known))}")
    return msgspec.convert(given, type, strict=False)


def make_problem(status: int, detail: str) -> web.Response:
    """Make an error answer, with the reason for its reader."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/problem+json")


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer the exceptions of handlers."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return make_problem(
            error.status, f"{request.method} {request.path}: {error.reason}; GET /openapi.yaml has it all"
        )
    except tuple(kind for kind, _ in STATUSES) as error:
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        said = error.args[0] if isinstance(error, LookupError) and error.args else error
        return make_problem(status, str(said))


async def send_lines(request: web.Request, portions: AsyncIterator[bytes]) -> web.StreamResponse:
    """Answer with lines of NDJSON as they come, at the client's speed."""
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    await response.prepare(request)
    async for portion in portions:
        await response.write(portion)
    await response.write_eof()
    return response
