"""The load: connections that are kept alive and send prebuilt requests, in which only the ids change.

Usage: sender.py HOST:PORT PATH TOKEN BATCH [CONNECTIONS]. Command: {"first": N, "seconds": S, "rate": R, "max_events":
M}. Rate 0: each connection sends again as soon as it has its answer. Otherwise R events per second are due at even
intervals whether answers come or not, and latencies count from when a request was due.
"""

import asyncio
import random
import re
import sys
import time
from collections import deque
from functools import partial
from typing import Any, Final

import orjson
from numbering import DIGITS, MARK, digits
from worker import Command, serve

from relay.sandbox.shapes import list_types, make_event

CONNECTIONS: Final = 64
AGAIN_SECONDS: Final = 0.1
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def request(host: str, path: str, token: str, batch: int, rng: random.Random) -> bytearray:
    """A whole request with events of all types."""
    blank = (MARK + digits(0)).decode()
    events = [make_event(rng.choice(list_types()), rng, time.time()) | {"id": blank} for _ in range(batch)]
    body = orjson.dumps({"events": events})
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return bytearray(head.encode() + body)


class Connection(asyncio.Protocol):
    """Sends one request at a time."""

    def __init__(self, load: "Load", request: bytearray) -> None:
        self._load, self._request = load, request
        self._places = [match.end() for match in re.finditer(MARK, request)]
        self._answer = b""
        self.size = len(request) - request.index(b"\r\n\r\n") - 4
        self.user_ids = request.count(b'"user_id":')
        self.due = 0.0
        self.number = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._load.fail(f"the connection was lost: {error}")

    def send(self, number: int, due: float) -> None:
        """Send the request with events from this number on."""
        self.number, self.due = number, due
        for place in self._places:
            self._request[place : place + DIGITS] = digits(number)
            number += 1
        self.send_again()

    def send_again(self) -> None:
        """Send the same request once more."""
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        end = self._answer.find(b"\r\n\r\n") + 4
        length = LENGTH.search(self._answer, 0, end)
        if end < 4 or len(self._answer) < end + (int(length[1]) if length else 0):  # 204 has no length
            return
        status, self._answer = self._answer[9:12], b""
        if status in (b"200", b"202", b"204"):
            self._load.answered(self)
        elif status == b"503":
            self._load.refused(self)
        else:
            self._load.fail(f"answered {status.decode()}")


class Load:
    """One run: numbers the events, keeps the times. `backlog` holds the due times that wait for a connection."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.connections: list[Connection] = []
        self._done: asyncio.Future[None] | None = None

    async def run(self, first: int, seconds: float, rate: float, max_events: int) -> dict[str, Any]:
        """Send for so many seconds, but not more than so many events; return once all are answered."""
        loop = asyncio.get_running_loop()
        self._next, self._stop = first, first + max_events
        self._idle, self._backlog = list(self.connections), deque[float]()
        self._latencies: list[float] = []
        self._due: list[float] = []
        self._refused = 0
        self._done = loop.create_future()
        cpu, begin = time.process_time(), time.monotonic()
        self._closed, self._until = not rate, begin + seconds
        if self._closed:
            self._backlog.extend([begin] * len(self._idle))
            self._go()
        else:
            due = [begin + number * self.batch / rate for number in range(int(seconds * rate / self.batch))]
            await asyncio.to_thread(self._drip, loop, due)
        await self._done
        last = time.monotonic()
        return {
            "events": self._next - first,
            "begin": begin,
            "seconds": last - begin,
            "cpu_s": time.process_time() - cpu,
            "refused": self._refused,
            "ack_s": self._latencies,
            "due": [] if self._closed else self._due,
        }

    def _drip(self, loop: asyncio.AbstractEventLoop, due: list[float]) -> None:
        """Runs in a thread: it wakes up on time, the loop's timers are a millisecond late."""
        for moment in due:
            time.sleep(max(0.0, moment - time.monotonic()))
            loop.call_soon_threadsafe(self._drop, moment)
        loop.call_soon_threadsafe(self._drop, None)

    def _drop(self, due: float | None) -> None:
        if due is None:
            self._until = 0.0
            return self._end_if_idle()
        self._backlog.append(due)
        return self._go()

    def _go(self) -> None:
        while self._backlog and self._idle:
            due = self._backlog.popleft()
            self._due.append(due)
            self._idle.pop().send(self._next, due)
            self._next += self.batch

    def answered(self, connection: Connection) -> None:
        """A request was accepted."""
        now = time.monotonic()
        self._latencies.append(now - connection.due)
        self._idle.append(connection)
        if self._closed and now < self._until and self._next < self._stop:
            self._backlog.append(now)
        self._go()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        over = self._closed or not self._until
        if over and len(self._idle) == len(self.connections) and self._done and not self._done.done():
            self._done.set_result(None)

    def refused(self, connection: Connection) -> None:
        """A request was answered 503: it comes again."""
        self._refused += 1
        asyncio.get_running_loop().call_later(AGAIN_SECONDS, connection.send_again)

    def fail(self, reason: str) -> None:
        """End the run: what happened must not happen."""
        if self._done and not self._done.done():
            self._done.set_exception(RuntimeError(reason))


def _same(connection: Connection) -> Connection:
    return connection


async def start() -> Any:
    """Open all connections."""
    address, path, token, batch, *more = sys.argv[1:]
    host, port = address.split(":")
    load, rng = Load(int(batch)), random.Random(1)
    for _ in range(int(more[0]) if more else CONNECTIONS):
        connection = Connection(load, request(address, path, token, load.batch, rng))
        await asyncio.get_running_loop().create_connection(partial(_same, connection), host, int(port))
        load.connections.append(connection)
    events = len(load.connections) * load.batch
    about = {
        "event_bytes": sum(connection.size for connection in load.connections) / events,
        "with_user_id": sum(connection.user_ids for connection in load.connections) / events,
    }

    async def answer(command: Command) -> Any:
        return await load.run(**command) | about

    return answer


if __name__ == "__main__":
    serve(start)
