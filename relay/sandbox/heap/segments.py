"""A stand-in for Heap's segments, and the Segments Sync webhook that sends their changes.

(Heap docs, Segments Sync.) Heap does not document how often it sends a call again that was not answered 200. The number
is ours.
"""

import asyncio
import base64
import hmac
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Final, Literal, Self
from uuid import uuid4

import aiohttp
import orjson
from pydantic import Field

from relay.sandbox.switches import Seconds, Switches

TIMEOUT_S: Final = 10.0
SYNC, DRAIN = "segment.users.sync", "segment.users.drain"
FIELDS: Final = [
    {
        "field_id": "identity",
        "field_display_name": "Matching key",
        "field_type": "identity_mapping",
        "value": {"id": "identity", "display_name": "Identity"},
    }
]
AGES: Final = {"stale": 120.0, "future": -60.0}
"""Age of a signature in seconds. A receiver takes signatures that are at most 60 old and at most 1 ahead."""


class SyncSwitches(Switches):
    """Switches of Heap's Segments Sync webhook."""

    page: int = Field(1000, ge=1, description="Maximum number of users of a page.")
    mixed: bool = Field(True, description="Whoever came and whoever left share pages.")
    full: bool = Field(False, description="Every sync tells all members again.")
    repeat_pages: bool = Field(False, description="Every page of a sync comes twice.")
    shuffle_pages: bool = Field(False, description="Pages come in any order.")
    lose_last_page: bool = Field(False, description="The last page of a sync never comes.")
    signature: Literal["good", "stale", "future", "forged", "malformed", "missing"] = Field(
        "good", description="How calls are signed."
    )
    signed: Literal["raw", "reserialized"] = Field(
        "raw", description="What is signed: the bytes, or what JSON.stringify makes of them."
    )
    tries: int = Field(10, ge=1, description="How often it sends what is not answered 200 ...")
    again: Seconds = Field(0.2, description="... and the real seconds between.")


@dataclass(frozen=True, slots=True)
class StandInSegment:
    """The users with the event `did` and without the event `did_not`."""

    id: int
    name: str
    did: str
    did_not: str = ""

    def find_members(self, events: Iterable[Mapping[str, Any]]) -> set[str]:
        """Return the members by the events that Heap has."""
        did = defaultdict[str, set[str]](set)
        for event in events:
            if "identity" in event:
                did[event["event"]].add(event["identity"])
        return did[self.did] - did[self.did_not]


class SegmentSync:
    """Tells a webhook which users entered and left segments since the last sync. It is a context manager."""

    def __init__(self, url: str, secret: str, **switches: Any) -> None:
        """`switches`: fields of `SyncSwitches`."""
        self.switches = SyncSwitches(**switches)
        self._url, self._secret, self._customer = url, secret.encode(), str(uuid4())
        self._told = defaultdict[int, set[str]](set)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.close()

    async def sync(self, segment: StandInSegment, members: set[str]) -> tuple[int, int]:
        """Send the changes of a segment by pages, and return how many users entered and left.

        Raises TimeoutError if a page is not answered 200.
        """
        told = self._told[segment.id]
        entered = sorted(members if self.switches.full else members - told)
        left = sorted(told - members)
        pages = [*self._make_pages(segment, entered, left)]
        pages = pages[:-1] if self.switches.lose_last_page else pages
        pages = pages * 2 if self.switches.repeat_pages else pages
        for body in Random().sample(pages, len(pages)) if self.switches.shuffle_pages else pages:
            await self._post(body)
        self._told[segment.id] = set(members)
        return len(entered), len(left)

    async def sample(self, segment: StandInSegment) -> None:
        """Send the users of the button "Send sample segment". A later sync knows nothing of them."""
        for body in self._make_pages(segment, ["sample-1", "sample-2"], []):
            await self._post(body)

    async def drain(self, segment: StandInSegment) -> None:
        """Send the action that empties a segment. Heap has retired the action."""
        await self._post(self._make_body(segment, DRAIN, 1, 1, str(uuid4()), []))
        self._told[segment.id] = set()

    def _make_pages(self, segment: StandInSegment, entered: Sequence[str], left: Sequence[str]) -> Iterator[bytes]:
        adds, removes = [("add", user) for user in entered], [("remove", user) for user in left]
        size = self.switches.page
        kinds = [adds + removes] if self.switches.mixed else [adds, removes]
        pages = [users[first : first + size] for users in kinds for first in range(0, len(users), size)] or [[]]
        task = str(uuid4())
        for number, page in enumerate(pages):
            yield self._make_body(segment, SYNC, number + 1, len(pages), task, page)

    def _make_body(
        self, segment: StandInSegment, action: str, number: int, total: int, task: str, page: Sequence[tuple[str, str]]
    ) -> bytes:
        users = {what: [{"id": user} for kind, user in page if kind == what] for what in ("add", "remove")}
        info = {"page_number": number, "total_pages": total, "sync_task_id": task}
        call = {
            "id_token": self._customer,
            "action_type": action,
            "customer_config": {"fields": FIELDS},
            "data": {"segment": {"id": segment.id, "name": segment.name}, "sync_info": info} | users,
        }
        return orjson.dumps(call)

    async def _post(self, body: bytes) -> None:
        sent = body if self.switches.signed == "raw" else orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)
        for attempt in range(self.switches.tries):
            await asyncio.sleep(self.switches.again if attempt else 0)
            try:
                kind = self.switches.signature
                stamp = str(round((time.time() - AGES.get(kind, 0)) * 1000))  # receivers compare it with a real clock
                secret = b"of somebody else" if kind == "forged" else self._secret
                digest = base64.b64encode(hmac.digest(secret, stamp.encode() + body, "sha256")).decode()
                header = f"{stamp};{digest}" if kind == "malformed" else f"ts:{stamp},hmac:{digest}"
                async with self._http.post(
                    self._url,
                    data=sent,
                    headers=(
                        {"Content-Type": "application/json"} | ({} if kind == "missing" else {"Heap-Hash": header})
                    ),
                ) as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
        raise TimeoutError(f"{self._url} did not answer 200 in {self.switches.tries} tries")
