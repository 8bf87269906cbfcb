"""A stand-in for Heap's segments: who did one thing and not another, and the Segments Sync webhook that tells of it.

(Heap docs, Segments Sync.) How often Heap sends again what was not answered 200 is not documented; here it is ours.
"""

import asyncio
import base64
import hmac
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import aiohttp
import orjson

TRIES: Final = 10
AGAIN_S: Final = 0.2
TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Segment:
    """Users who did something and, so far, not something else."""

    id: int
    name: str
    did: str
    did_not: str

    def members(self, events: Iterable[Mapping[str, Any]]) -> set[str]:
        """Who is in it, by the events that Heap has."""
        did = defaultdict[str, set[str]](set)
        for event in events:
            did[event["event"]].add(event["identity"])
        return did[self.did] - did[self.did_not]


class SegmentSync:
    """Tells a webhook who entered and left segments since the last time. A context manager."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        page: int = 1000,
        repeat: bool = False,
        shuffle: bool = False,
        lose: bool = False,
    ) -> None:
        """`page` is how many users a call has at most. Every page comes twice, they come in any order, the last one
        never comes: `repeat`, `shuffle`, `lose`."""
        self._url, self._secret, self._page = url, secret.encode(), page
        self._repeat, self._shuffle, self._lose = repeat, shuffle, lose
        self._told = defaultdict[int, set[str]](set)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.close()

    async def sync(self, segment: Segment, members: set[str]) -> tuple[int, int]:
        """Tell the changes, page by page; return how many entered and left. Raises TimeoutError if no 200 comes."""
        told = self._told[segment.id]
        came, went = sorted(members - told), sorted(told - members)
        for body in self._sent([*self._pages(segment, came, went)]):
            await self._post(body)
        self._told[segment.id] = set(members)
        return len(came), len(went)

    def _sent(self, pages: list[bytes]) -> list[bytes]:
        """The pages as they go out."""
        pages = pages[:-1] if self._lose else pages
        pages = pages * 2 if self._repeat else pages
        return Random().sample(pages, len(pages)) if self._shuffle else pages

    def _pages(self, segment: Segment, came: list[str], went: list[str]) -> Iterator[bytes]:
        changes = [("add", user) for user in came] + [("remove", user) for user in went]
        task, total = str(uuid4()), max(1, -(-len(changes) // self._page))
        for number in range(total):
            page = changes[number * self._page : (number + 1) * self._page]
            users = {what: [{"id": user} for kind, user in page if kind == what] for what in ("add", "remove")}
            info = {"page_number": number + 1, "total_pages": total, "sync_task_id": task}
            data = {"segment": {"id": segment.id, "name": segment.name}, "sync_info": info} | users
            yield orjson.dumps({"id_token": str(uuid4()), "action_type": "segment.users.sync", "data": data})

    async def _post(self, body: bytes) -> None:
        for _ in range(TRIES):
            try:
                async with self._http.post(self._url, data=body, headers=self._signed(body)) as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(AGAIN_S)
        raise TimeoutError(f"{self._url} did not answer 200 in {TRIES} tries")

    def _signed(self, body: bytes) -> dict[str, str]:
        stamp = str(round(time.time() * 1000))
        digest = hmac.digest(self._secret, stamp.encode() + body, "sha256")
        return {
            "Content-Type": "application/json",
            "Heap-Hash": f"ts:{stamp},hmac:{base64.b64encode(digest).decode()}",
        }
