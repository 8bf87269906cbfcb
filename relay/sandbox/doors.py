"""The side doors of the stand-ins: what Braze and Heap themselves do not tell, and faults on demand. Paths start with
`/_sandbox/`; bodies and answers are JSON.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
from aiohttp import web

from relay.sandbox.cohorts import CohortApi, Fault, Profile
from relay.sandbox.segments import Segment, SegmentSync
from relay.sandbox.track import HeapApi

SYNC_S: Final = 4 * 3600.0
"""Heap syncs segments every 4 hours. (Heap docs, Segments Sync.)"""


def braze_doors(api: CohortApi) -> list[web.RouteDef]:
    """Profiles, members of cohorts, the audience of a segment with cohort filters, what came in, faults."""

    def add_profiles(given: Any) -> Any:
        api.add(_profile(one) for one in given)
        return {"profiles": len(api.profiles)}

    def audience(query: Any) -> Any:
        includes, excludes = query.getall("includes", []), query.getall("excludes", [])
        return sorted(_named(api.audience(includes, excludes)))

    def books(_: Any) -> Any:
        found = api.books
        return {
            "requests": dict(found.statuses),
            "most_ids": max(found.ids, default=0),
            "ignored_ids": found.unknown,
            "conflicts": found.conflicts,
            "names": found.names,
        }

    def fault(given: Any) -> Any:
        api.faults.extend(Fault(int(one["status"]), bool(one.get("applied"))) for one in given)
        return {"faults": len(api.faults)}

    return [
        _post("profiles", add_profiles),
        _get("members", lambda query: sorted(_named(api.members[query["cohort"]]))),
        _get("audience", audience),
        _get(
            "attributes",
            lambda query: [values for user, values in api.attributes.items() if query["user"] in _named([user])],
        ),
        _get("books", books),
        _post("faults", fault),
    ]


class HeapDoors:
    """Events and users by identity, what Heap sees for itself, segments and their sync, faults."""

    def __init__(self, heap: HeapApi, sync: SegmentSync | None) -> None:
        self._heap, self._sync = heap, sync
        self.segments: dict[int, Segment] = {}

    def routes(self) -> list[web.RouteDef]:
        """The doors."""
        return [
            _get("events", self._events),
            _get("users", lambda _: self._heap.users),
            _get("books", self._books),
            _post("capture", self._capture),
            _post("segments", self._add_segment),
            _post("faults", self._fault),
            web.post("/_sandbox/sync", self._sync_now),
        ]

    async def sync(self) -> dict[str, Any]:
        """Tell the webhook of every segment."""
        told: dict[str, Any] = {}
        if self._sync is not None:
            for segment in self.segments.values():
                came, went = await self._sync.sync(segment, segment.members(self._heap.events.values()))
                told[segment.name] = {"add": came, "remove": went}
        return told

    async def keep_syncing(self, every: float) -> None:
        """Do so again and again, after so many seconds."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.sync()
            except TimeoutError:
                continue  # as Heap: what was not taken comes with the next one

    async def _sync_now(self, request: web.Request) -> web.Response:
        if self._sync is None:
            return web.json_response({"error": "start it with --segments-url"}, status=400)
        try:
            return web.json_response(await self.sync())
        except TimeoutError as error:
            return web.json_response({"error": str(error)}, status=502)

    def _events(self, query: Any) -> Any:
        wanted = query.get("identity")
        return [event for event in self._heap.events.values() if wanted in (None, event["identity"])]

    def _books(self, _: Any) -> Any:
        heap = self._heap
        return {
            "events": len(heap.events),
            "duplicates": heap.duplicates,
            "requests": dict(heap.statuses),
            "most_in_a_minute": heap.minute.most,
            "most_of_one_identity": heap.minute.most_of_one,
        }

    def _capture(self, given: Any) -> Any:
        self._heap.capture(str(given["event"]), [str(identity) for identity in given["identities"]])
        return {"events": len(self._heap.events)}

    def _add_segment(self, given: Any) -> Any:
        segment = Segment(int(given["id"]), str(given["name"]), str(given["did"]), str(given["did_not"]))
        self.segments[segment.id] = segment
        return {"members": len(segment.members(self._heap.events.values()))}

    def _fault(self, given: Any) -> Any:
        self._heap.faults.extend(int(status) for status in given)
        return {"faults": len(self._heap.faults)}


def _get(name: str, look: Callable[[Any], Any]) -> web.RouteDef:
    async def answer(request: web.Request) -> web.Response:
        return _answer(look, request.query)

    return web.get(f"/_sandbox/{name}", answer)


def _post(name: str, take: Callable[[Any], Any]) -> web.RouteDef:
    async def answer(request: web.Request) -> web.Response:
        try:
            given = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            return web.json_response({"error": f"not JSON: {error}"}, status=400)
        return _answer(take, given)

    return web.post(f"/_sandbox/{name}", answer)


def _answer(work: Callable[[Any], Any], given: Any) -> web.Response:
    try:
        return web.json_response(work(given))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)


def _profile(given: Any) -> Profile:
    aliases = frozenset((str(label), str(name)) for label, name in given.get("aliases", {}).items())
    return Profile(given.get("external_id"), aliases, frozenset(map(str, given.get("devices", ()))))


def _named(profiles: Iterable[Profile]) -> list[str]:
    """Each by its external id, or an alias, or a device."""
    return [
        one.external_id or next((f"{label}:{name}" for label, name in sorted(one.aliases)), None) or min(one.devices)
        for one in profiles
    ]
