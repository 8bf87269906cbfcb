"""Follows the events that pass relay, for a page that shows the last of them.

The tap keeps MOST events, and counts all of them. If relay goes away, the tap says so, and follows again as soon as
relay runs.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import msgspec

from relay.client import ClientError
from relay.console.relay_stream import open_answer

MOST: Final = 50
TEXT_BYTES: Final = 2 << 10
"""Bytes of content that the page shows of an event."""
AGAIN_S: Final = 2.0
"""Seconds until a lost tap follows again."""


class _Head(msgspec.Struct):
    offset: int
    received: float
    source: str
    type: str
    worker: int | None = None


class _Named(msgspec.Struct):
    id: object = None


HEAD: Final = msgspec.json.Decoder(_Head)
DROPPED: Final = b'{"dropped":'
"""The prefix of a line that stands for events that relay has left out."""
NAMED: Final = msgspec.json.Decoder(_Named)


@dataclass(frozen=True, slots=True)
class PassedEvent:
    """An event that has passed. `text`: its content, maybe cut."""

    offset: str
    received: float
    source: str
    type: str
    id: str
    text: str
    is_cut: bool


class EventTap:
    """The last events that passed a point of relay, since the tap was made."""

    def __init__(self, state: Path, at: str, entries: Sequence[str], by: str) -> None:
        """`at`: ingest, or a connector. `entries`: a selection. `by`: who looks."""
        self._state, self._by = state, by
        self._path = f"/tail?{urlencode([('at', at), *(('events', entry) for entry in entries)])}"
        self._lines = deque[bytes](maxlen=MOST)
        self.passed = 0
        """Events that relay has sent."""
        self.left_out = 0
        """Events that passed too fast to be sent."""
        self.problem = ""
        """Why no event comes; empty: relay sends them."""

    async def follow(self) -> None:
        """Follow the events, until cancelled."""
        while True:
            try:
                async with open_answer(self._state, self._by, "GET", self._path) as lines:
                    self.problem = ""
                    async for line in lines:
                        self._add(line)
                self.problem = "relay has stopped"
            except ClientError as error:
                self.problem = str(error)
            await asyncio.sleep(AGAIN_S)

    def _add(self, line: bytes) -> None:
        if line.startswith(DROPPED):
            self.left_out += int(msgspec.json.decode(line)["dropped"])
        else:
            self.passed += 1
            self._lines.appendleft(line)

    @property
    def events(self) -> Sequence[PassedEvent]:
        """The last events, the newest first. Only these are read: most events pass unseen."""
        return [*map(_read_event, self._lines)]


def _read_event(line: bytes) -> PassedEvent:
    head, _, rest = line.partition(b',"event":')  # in a text of the head, quotes are escaped
    about, content = HEAD.decode(head + b"}"), rest.strip()[:-1]
    is_cut = len(content) > TEXT_BYTES
    shown = content[:TEXT_BYTES] if is_cut else msgspec.json.format(content, indent=2)
    place = f"{about.worker}:{about.offset}" if about.worker is not None else str(about.offset)
    text = shown.decode(errors="ignore")
    named = NAMED.decode(content).id
    name = named if isinstance(named, str) else ""
    return PassedEvent(place, about.received, about.source, about.type, name, text, is_cut)
