"""Writes the events of a journal as lines of NDJSON. Blocking, and changes nothing."""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Final

import msgspec
import orjson
from msgspec import Struct

from relay.api import Block, Event
from relay.api.internal import one_line
from relay.catalogue import Selection
from relay.inspect.progress import UNTOLD, JournalProgress
from relay.store import Store

Natural = Annotated[int, msgspec.Meta(ge=0)]
PROBLEM: Final = b'{"problem":'
"""The prefix of a line that names missing events."""


class DumpPart(Struct, frozen=True, kw_only=True):
    """A part of the journal."""

    start: Natural = 0
    """The first offset."""
    stop: Natural | None = None
    """The offset behind the last one."""
    events: Sequence[str] = ()
    """A selection."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=sys.maxsize)] | None = None
    """The most events."""


def dump_all(store: Store, part: DumpPart, progress: JournalProgress = UNTOLD) -> Iterator[bytes]:
    """Yield the events of that part, one worker's journal after the other.

    The last lines say what could not be read. Raises Unavailable.
    """
    views = store.view_all()
    logs = {view.number: view.view_log() for view in views}
    progress.begin(views, part.start, part.stop)
    lines = (
        encode_line(event, worker if len(logs) > 1 else None)
        for worker, log in logs.items()
        for event in _read_events(progress.follow(worker, log.read(part.start)), part)
    )
    yield from islice(lines, part.limit)
    for log in logs.values():
        yield from map(encode_problem, log.problems)


def _read_events(blocks: Iterator[tuple[str, Block]], part: DumpPart) -> Iterator[Event]:
    selection = Selection(part.events)
    for _, block in blocks:
        for event in block:
            if part.stop is not None and event.offset >= part.stop:
                return
            if event.offset >= part.start and selection.wants(event.type):
                yield event


def encode_line(event: Event, worker: int | None = None) -> bytes:
    """Encode an event as a line of NDJSON: place, receipt (Unix seconds), source, type, part, and its body.

    `worker`: the worker whose journal has that place, of several.
    """
    head: dict[str, object] = {} if worker is None else {"worker": worker}
    head |= {"offset": event.offset, "received": event.received, "source": event.source, "type": event.type}
    head |= {"part": event.part} if event.part else {}
    return orjson.dumps(head)[:-1] + b',"event":' + one_line(event.body) + b"}\n"


def encode_problem(said: str) -> bytes:
    """Encode a line that names missing events."""
    return PROBLEM + orjson.dumps(said) + b"}\n"
