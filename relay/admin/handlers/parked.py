"""Parked events and replays over the admin API."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, Final, Literal, TypeVar

import msgspec
from aiohttp import web

from relay.admin.acts import make_cancel_entry, make_parked_entry, make_replay_entry
from relay.admin.control import Control
from relay.admin.responses import convert_content, make_answer, read_asker, read_content, send_lines
from relay.api.internal import check_rate
from relay.store import CAUSES, Cursor, Parked, ParkedQuery, Replay, Store
from relay.threads import ADMIN

T = TypeVar("T")
END: Final = object()
QUERY: Final = ("cause", "connector", "reason", "since", "source", "type", "until")
"""Parameters of GET /parked/groups."""
LIST_QUERY: Final = (*QUERY, "after", "bodies", "limit", "number", "order")
"""Parameters of GET /parked."""
ORDERS: Final = ("oldest", "newest")
EXAMPLE: Final = '{"connector": "heap"}'
PORTION_BYTES: Final = 256 << 10
KINDS: Final[dict[str, Literal["parked_dropped", "parked_replayed"]]] = {
    "drop": "parked_dropped",
    "replay": "parked_replayed",
}


class ReplayRequest(msgspec.Struct):
    """The body of POST /replays."""

    connector: str
    start: int
    stop: int
    events: list[str] = msgspec.field(default_factory=lambda: ["*"])
    rate: float = 0.0
    worker: int = 0


class ParkedHandlers:
    """The handlers of parked events and replays."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def list_routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [
            web.get("/parked", self.get_parked),
            web.get("/parked/groups", self.get_groups),
            web.post("/parked/count", self.count),
            *(web.post(f"/parked/{name}", self.change) for name in KINDS),
            web.get("/replays", self.get_replays),
            web.post("/replays", self.request_replay),
            web.delete("/replays/{number:[0-9]{1,18}}", self.cancel_replay),
        ]

    async def get_parked(self, request: web.Request) -> web.StreamResponse:
        """Send parked events, with or without bodies."""
        query = _read_query(request, LIST_QUERY)
        order, after = query.pop("order", ORDERS[0]), query.pop("after", None)
        if order not in ORDERS:
            raise ValueError(f"there is no order {order}; orders: {', '.join(ORDERS)}")
        bodies = msgspec.convert(query.pop("bodies", "true"), bool, strict=False)
        which = _convert_query(query | {"numbers": request.query.getall("number", [])})
        behind = None if after is None else msgspec.convert(after, int, strict=False)
        found = self._control.store.parked.read(which, bodies=bodies, newest=order == "newest", after=behind)
        return await send_lines(request, _run_in_thread(_encode_portions(found)))

    async def get_groups(self, request: web.Request) -> web.StreamResponse:
        """Answer with groups of parked events, and with the number of the events in all groups."""
        which = _convert_query(_read_query(request, QUERY))
        parked = self._control.store.parked
        groups = await ADMIN.run(parked.read_groups, which)
        return make_answer({"events": await ADMIN.run(parked.count, which), "groups": groups})

    async def count(self, request: web.Request) -> web.StreamResponse:
        """Count the selected parked events."""
        which = _convert_query(await read_content(request, EXAMPLE))
        return make_answer({"events": await ADMIN.run(self._control.store.parked.count, which)})

    async def change(self, request: web.Request) -> web.StreamResponse:
        """Drop or replay the selected parked events, until all are done or the client leaves."""
        which, name = _convert_query(await read_content(request, EXAMPLE)), request.path.rpartition("/")[2]
        if which == ParkedQuery():
            raise ValueError("say which: numbers, or a selection such as connector")
        parked = self._control.store.parked
        change = parked.drop if name == "drop" else parked.mark
        events = 0
        try:
            async with aclosing(_run_in_thread(change(which))) as portions:
                async for portion in portions:
                    events += portion
        finally:
            if events:
                self._control.note(make_parked_entry(KINDS[name], which, events, read_asker(request)))
        return make_answer({"events": events})

    async def get_replays(self, _: web.Request) -> web.StreamResponse:
        """Answer with all replays, the last one first."""
        return make_answer(await ADMIN.run(self._control.store.replays.read))

    async def request_replay(self, request: web.Request) -> web.StreamResponse:
        """Request a replay of a range of the journal."""
        given = await read_content(request, '{"connector": "heap", "start": 0, "stop": 100}')
        if strange := given.keys() - set(ReplayRequest.__struct_fields__):
            fields = ", ".join(ReplayRequest.__struct_fields__)
            raise ValueError(f"{sorted(strange)[0]} is no part of a replay: {fields}")
        one = msgspec.convert(given, ReplayRequest)
        cursor = Cursor(one.start, one.start)
        asked = Replay(one.connector, cursor, one.stop, one.events, check_rate(one.rate), asked_by=read_asker(request))
        running = sorted(lane.connector for lane in (await self._control.status(own=True)).lanes)
        if self._control.store.shared_partitions:  # another node may run its lanes
            running = sorted({*running, *self._control.config.connectors})
        if asked.connector not in running:
            raise LookupError(f"no connector {asked.connector} runs; there are: {', '.join(running) or 'none'}")
        number, runs = await ADMIN.run(_ask_replay, self._control.store, one.worker, asked)
        self._control.note(make_replay_entry(asked, number))
        return make_answer({"number": number, "runs": runs})

    async def cancel_replay(self, request: web.Request) -> web.StreamResponse:
        """End a replay where it is."""
        number = int(request.match_info["number"])
        cancelled = await ADMIN.run(self._control.store.replays.cancel, number)
        if cancelled:
            self._control.note(make_cancel_entry(number, read_asker(request)))
        return make_answer({"cancelled": cancelled})


def _read_query(request: web.Request, known: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a request, but `number`. Raises ValueError for an unknown one."""
    if strange := request.query.keys() - {*known}:
        raise ValueError(f"{sorted(strange)[0]} is not known here; known: {', '.join(sorted(known))}")
    return {name: request.query[name] for name in request.query.keys() - {"number"}}


def _convert_query(given: Mapping[str, Any]) -> ParkedQuery:
    """Convert a selection of parked events. Raises ValueError for an unknown field or cause."""
    which = convert_content(given, ParkedQuery)
    if which.cause is not None and which.cause not in CAUSES:
        raise ValueError(f"there is no cause {which.cause}; causes: {', '.join(CAUSES)}")
    return which


def _ask_replay(store: Store, worker: int, asked: Replay) -> tuple[int, bool]:
    """Request a replay from a worker's journal; return its number and whether the worker runs. Raises LookupError,
    ValueError."""
    partition = next((one for one in store.view_all() if one.number == worker), None)
    if partition is None:
        raise LookupError(f"there is no worker {worker}")
    lanes = partition.read_lanes()
    position = next((lane.cursor.position for lane in lanes if lane.connector == asked.connector), 0)
    if not asked.cursor.start < asked.stop <= position:
        raise ValueError(f"not start < stop <= {position}, where the connector is")
    return store.replays.ask(asked, worker), partition.is_in_use()


async def _run_in_thread(steps: Iterator[T]) -> AsyncGenerator[T, None]:
    """Run blocking steps, all in one thread, as SQLite requires."""
    loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, "parked events")
    try:
        while (step := await loop.run_in_executor(thread, next, steps, END)) is not END:
            yield step  # type: ignore[misc]
    finally:
        thread.submit(steps.close)  # type: ignore[attr-defined]
        thread.shutdown(wait=False)


def _encode_portions(found: Iterator[Parked]) -> Iterator[bytes]:
    """Encode parked events as lines, with bodies as base64."""
    lines, size = list[bytes](), 0
    for one in found:
        lines.append(msgspec.json.encode(one) + b"\n")
        size += len(lines[-1])
        if size >= PORTION_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)
