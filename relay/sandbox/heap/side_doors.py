"""Side doors of the stand-in of Heap: events, users, captured events, segments and their sync."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from aiohttp import web

from relay.sandbox.clock import SandboxClock
from relay.sandbox.doors import get, post
from relay.sandbox.heap.segments import SegmentSync, StandInSegment
from relay.sandbox.heap.track import HeapApi
from relay.sandbox.heap.webhook import HeapWebhook

SYNC_S: Final = 4 * 3600.0
"""Heap syncs segments every 4 hours. (Heap docs, Segments Sync.)"""


@dataclass(slots=True)
class HeapDoors:
    """The data of Heap, and the segments that are synced to `webhook`, if there is a webhook."""

    heap: HeapApi
    webhook: SegmentSync | None = None
    currents: HeapWebhook | None = None
    """The webhook that brings the events of Currents, if there is any."""
    segments: dict[int, StandInSegment] = field(default_factory=dict)

    def list_routes(self) -> list[web.RouteDef]:
        """Return the routes of the doors."""
        return [
            get("events", self._show_events),
            get("users", lambda _: self.heap.users),
            get("accounts", lambda _: self.heap.accounts),
            get("books", self._show_counts),
            post("capture", self._capture),
            post("segments", self._add_segment),
            get("members", lambda query: sorted(self._find_members(self.segments[int(query["segment"])]))),
            post("sync", lambda _: self.sync()),
            post("sample", partial(self._send_segment, SegmentSync.sample)),
            post("drain", partial(self._send_segment, SegmentSync.drain)),
        ]

    async def sync(self) -> dict[str, Any]:
        """Sync every segment to the webhook. Raises TimeoutError, and ValueError without a webhook."""
        webhook, changes = self._require_webhook(), dict[str, Any]()
        for segment in self.segments.values():
            entered, left = await webhook.sync(segment, self._find_members(segment))
            changes[segment.name] = {"add": entered, "remove": left}
        return changes

    async def keep_syncing(self, clock: SandboxClock) -> None:
        """Sync every segment every 4 hours of a clock, until cancelled."""
        while True:
            await clock.sleep(SYNC_S)
            try:
                await self.sync()
            except TimeoutError:
                continue  # as Heap: the next sync has the changes that were not taken

    async def _send_segment(self, send: Callable[[SegmentSync, StandInSegment], Awaitable[None]], given: Any) -> Any:
        await send(self._require_webhook(), self.segments[int(given["segment"])])
        return {}

    def _require_webhook(self) -> SegmentSync:
        if self.webhook is None:
            raise ValueError("start it with --segments-url")
        return self.webhook

    def _find_members(self, segment: StandInSegment) -> set[str]:
        return segment.find_members(self.heap.events.values())

    def _show_events(self, query: Any) -> Any:
        return _find_events(self.heap.events.values(), query)

    def _show_counts(self, _: Any) -> Any:
        return {
            "events": len(self.heap.events),
            "duplicates": self.heap.duplicates + (self.currents.duplicates if self.currents else 0),
            "without_identity": self.currents.without_identity if self.currents else 0,
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
        return {"members": len(self._find_members(segment))}


def make_webhook_doors(webhook: HeapWebhook) -> list[web.RouteDef]:
    """Make the doors of a webhook without the rest of Heap: `events` shows the newest, `books` counts."""
    return [
        get("events", lambda query: _find_events(webhook.newest, query)),
        get(
            "books",
            lambda _: {
                "events": len(webhook.ids) - webhook.without_identity,
                "duplicates": webhook.duplicates,
                "without_identity": webhook.without_identity,
                "requests": dict(webhook.statuses),
            },
        ),
    ]


def _find_events(events: Iterable[Mapping[str, Any]], query: Any) -> list[Mapping[str, Any]]:
    wanted = query.get("identity")
    return [event for event in events if wanted in (None, event.get("identity"))]
