"""The destination: answers 200 to every request at once and remembers which events came, when, on which path.

Usage: destination.py PORT [hold | sync FILE]. With `hold` it takes requests but answers none before {"do": "answer"};
with `sync` it answers each once it is on disk, as the least that could be in relay's place. Other commands:
{"do": "cpu"}, {"do": "count", "path": P}, {"do": "account", "paths": [...], "events": N}, {"do": "times", "path": P,
"first": N, "events": N}, {"do": "passed", "path": P, "counts": [...]}.
"""

import asyncio
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from numbering import DIGITS, digits_in, numbers
from worker import Command, serve

OK: Final = b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "1"\r\n\r\n'
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SEEN_AT_MOST: Final = 255
DISK_BYTES: Final = 64 << 20


class Gate:
    """Whether requests are answered; who waits for it."""

    def __init__(self, closed: bool) -> None:
        self.closed = closed
        self.waiting: list[Receiver] = []

    def open(self) -> float:
        """Answer all who wait, and from now on everybody at once; return when that was."""
        self.closed, now = False, time.monotonic()
        for receiver in self.waiting:
            receiver.take()
        return now


Arrivals = dict[str, list[tuple[float, bytes]]]
"""By path: when a request was whole (monotonic seconds), and the digits of its events' ids."""


class Disk:
    """Puts requests on disk one after the other, in a thread."""

    def __init__(self, path: str) -> None:
        self._fd, self._at = os.open(path, os.O_RDWR | os.O_CREAT), 0
        os.posix_fallocate(self._fd, 0, DISK_BYTES)
        self._thread = ThreadPoolExecutor(1, "disk")

    def keep(self, chunks: list[bytes]) -> asyncio.Future[None]:
        """Done once it is synced."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._write, chunks)

    def _write(self, chunks: list[bytes]) -> None:
        self._at = (self._at + os.pwritev(self._fd, chunks, self._at)) % (DISK_BYTES // 2)
        os.fdatasync(self._fd)


class Receiver(asyncio.Protocol):
    """One connection of a sender that waits for each answer."""

    def __init__(self, arrivals: Arrivals, gate: "Gate", disk: Disk | None) -> None:
        self._arrivals, self._gate, self._disk = arrivals, gate, disk
        self._head = b""
        self._chunks: list[bytes] = []
        self._missing = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            length = LENGTH.search(self._head, 0, end)
            assert length is not None, "a request without Content-Length"
            self._missing, data = int(length[1]), self._head[end:]
        self._chunks.append(data)
        self._missing -= len(data)
        if not self._missing:
            self._whole()

    def _whole(self) -> None:
        if self._gate.closed:
            self._gate.waiting.append(self)
        elif self._disk is not None:
            self._disk.keep(self._chunks).add_done_callback(lambda _: self.take())
        else:
            self.take()

    def take(self) -> None:
        """Note what came, and answer."""
        path = self._head.split(b" ", 2)[1].decode()
        self._arrivals[path].append((time.monotonic(), digits_in(b"".join(self._chunks))))
        self._transport.write(OK)
        self._head, self._chunks = b"", []


def account(arrived: Iterable[tuple[float, bytes]], events: int) -> dict[str, Any]:
    """Compare what came with the events 0 to `events` - 1, all of which should have."""
    seen, last = bytearray(events), 0.0
    for at, joined in arrived:
        last = at
        for number in numbers(joined):
            if seen[number] < SEEN_AT_MOST:
                seen[number] += 1
    lost = seen.count(0)
    return {"lost": lost, "duplicates": sum(seen) - (events - lost), "last": last}


def times(arrived: Iterable[tuple[float, bytes]], first: int, events: int) -> list[float | None]:
    """When each of these events came for the first time; None if it never did."""
    found: dict[int, float] = {}
    for at, joined in arrived:
        for number in numbers(joined):
            found.setdefault(number, at)
    return [found.get(number) for number in range(first, first + events)]


def passed(arrived: Iterable[tuple[float, bytes]], counts: list[int]) -> list[float]:
    """When so many events (ascending numbers) had come; shorter if fewer did."""
    found: list[float] = []
    came = 0
    for at, joined in arrived:
        came += len(joined) // DIGITS
        while len(found) < len(counts) and came >= counts[len(found)]:
            found.append(at)
    return found


async def start() -> Any:
    """Listen on the port."""
    arrivals: Arrivals = defaultdict(list)
    gate = Gate(closed=sys.argv[2:] == ["hold"])
    disk = Disk(sys.argv[3]) if sys.argv[2:3] == ["sync"] else None
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Receiver(arrivals, gate, disk), "127.0.0.1", int(sys.argv[1]))

    async def answer(command: Command) -> Any:
        match command:
            case {"do": "cpu"}:
                return time.process_time()
            case {"do": "answer"}:
                return gate.open()
            case {"do": "count", "path": path}:
                return sum(len(joined) // DIGITS for _, joined in arrivals[path])
            case {"do": "passed", "path": path, "counts": counts}:
                return passed(arrivals[path], counts)
            case {"do": "account", "paths": paths, "events": events}:
                return [account(arrivals[path], events) for path in paths]
            case {"do": "times", "path": path, "first": first, "events": events}:
                return times(arrivals[path], first, events)
        raise ValueError(command)

    return answer


if __name__ == "__main__":
    serve(start)
