"""The side doors of Heap's stand-in: events and users, what Heap sees for itself, segments and their sync."""

from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from relay.sandbox.clock import SandboxClock
from relay.sandbox.doors import get, post
from relay.sandbox.heap.segments import SegmentSync, StandInSegment
from relay.sandbox.heap.track import HeapApi

SYNC_S: Final = 4 * 3600.0
"""Heap syncs segments every 4 hours. (Heap docs, Segments Sync.)"""


@dataclass(slots=True)
class HeapDoors:
    """What Heap knows, and the segments that `webhook`, if there is one, is told of."""

    heap: HeapApi
    webhook: SegmentSync | None = None
    segments: dict[int, StandInSegment] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        """The doors."""
        return [
            get("events", self._events),
            get("users", lambda _: self.heap.users),
            get("accounts", lambda _: self.heap.accounts),
            get("books", self._books),
            post("capture", self._capture),
            post("segments", self._add_segment),
            get("members", lambda query: sorted(self._members(self.segments[int(query["segment"])]))),
            post("sync", self._sync_now),
            post("sample", self._sample),
            post("drain", self._drain),
        ]

    async def sync(self) -> dict[str, Any]:
        """Tell the webhook of every segment. Raises TimeoutError, ValueError."""
        told: dict[str, Any] = {}
        for segment in self.segments.values():
            came, went = await self._hook().sync(segment, self._members(segment))
            told[segment.name] = {"add": came, "remove": went}
        return told

    async def keep_syncing(self, clock: SandboxClock) -> None:
        """Do so again and again."""
        while True:
            await clock.sleep(SYNC_S)
            try:
                await self.sync()
            except TimeoutError:
                continue  # as Heap: what was not taken comes with the next one

    async def _sync_now(self, _: Any) -> Any:
        self._hook()
        return await self.sync()

    async def _sample(self, given: Any) -> Any:
        await self._hook().sample(self.segments[int(given["segment"])])
        return {}

    async def _drain(self, given: Any) -> Any:
        await self._hook().drain(self.segments[int(given["segment"])])
        return {}

    def _hook(self) -> SegmentSync:
        if self.webhook is None:
            raise ValueError("start it with --segments-url")
        return self.webhook

    def _members(self, segment: StandInSegment) -> set[str]:
        return segment.members(self.heap.events.values())

    def _events(self, query: Any) -> Any:
        wanted = query.get("identity")
        return [event for event in self.heap.events.values() if wanted in (None, event.get("identity"))]

    def _books(self, _: Any) -> Any:
        return {
            "events": len(self.heap.events),
            "duplicates": self.heap.duplicates,
            "requests": dict(self.heap.statuses),
            "most_in_a_minute": self.heap.minute.most,
            "most_of_one_identity": self.heap.minute.most_of_one,
            "deleted_users": len({*self.heap.deletions.deleted}),
        }

    def _capture(self, given: Any) -> Any:
        self.heap.capture(str(given["event"]), [str(identity) for identity in given["identities"]])
        return {"events": len(self.heap.events)}

    def _add_segment(self, given: Any) -> Any:
        segment = StandInSegment(int(given["id"]), str(given["name"]), str(given["did"]), str(given.get("did_not", "")))
        self.segments[segment.id] = segment
        return {"members": len(self._members(segment))}
