"""A stand-in for the part of Braze's REST API that takes cohorts: the partner API, and `/users/track` for attributes.

It answers as Braze's documentation says (Cohort import, Track users, API errors and limits); who is in a cohort, which
Braze itself never tells, can be read from `members`.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
from aiohttp import web

from relay.sandbox.server import StandIn

MOST_IDS: Final = 1000
MOST_OBJECTS: Final = 75
MOST_BYTES: Final = 4 << 20
HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Profile:
    """A user of Braze. One without external id and alias is anonymous."""

    external_id: str | None = None
    aliases: frozenset[tuple[str, str]] = frozenset()
    """Labels and names."""
    devices: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer instead of the right one; the request may have had its effect all the same."""

    status: int
    applied: bool = False


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Books:
    """What came in."""

    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Of each cohort, the names it was given."""
    ids: list[int] = field(default_factory=list)
    """How many ids each accepted request changed."""
    unknown: int = 0
    """Ids that belong to no user, or are devices of identified ones: ignored."""
    conflicts: int = 0
    """Requests that came while another wrote to the same cohort."""
    statuses: Counter[int] = field(default_factory=Counter)


class CohortApi(StandIn):
    """A local server, as a context manager. `faults` are taken one per request before it behaves again."""

    def __init__(
        self,
        profiles: Iterable[Profile],
        *,
        partner: str = "heap",
        partner_key: str = "partner",
        data_import_key: str = "import",
        rest_key: str = "rest",
        success: int = 201,
        hourly: int = 250_000,
        delay: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`success` is the status of accepted changes, `hourly` how many requests an hour may have, `delay` seconds
        that a change takes."""
        super().__init__()
        self.faults = deque[Fault]()
        self.books = Books()
        self.members: defaultdict[str, set[Profile]] = defaultdict(set)
        """Of each cohort."""
        self.attributes: defaultdict[Profile, dict[str, Any]] = defaultdict(dict)
        self._partner, self._success, self._hourly, self._delay = partner, success, hourly, delay
        self._keys = {"partner_api_key": partner_key, "client_secret": data_import_key}
        self._bearer = f"Bearer {rest_key}"
        self._clock, self._requests = clock, Counter[int]()
        self._writing: set[str] = set()
        self.profiles: list[Profile] = []
        self._by_external: dict[str, Profile] = {}
        self._by_alias: dict[tuple[str, str], Profile] = {}
        self._by_device: dict[str, Profile] = {}
        self.add(profiles)

    def add(self, profiles: Iterable[Profile]) -> None:
        """Let there be more users."""
        for one in profiles:
            self.profiles.append(one)
            self._by_external.update({one.external_id: one} if one.external_id else {})
            self._by_alias.update(dict.fromkeys(one.aliases, one))
            self._by_device.update(dict.fromkeys(one.devices, one))

    def audience(self, includes: Iterable[str], excludes: Iterable[str] = ()) -> set[Profile]:
        """Who is in a segment with these cohort filters: in all of the first and in none of the others."""
        found = set(self.profiles)
        for cohort in includes:
            found &= self.members[cohort]
        for cohort in excludes:
            found -= self.members[cohort]
        return found

    def routes(self) -> Iterable[web.RouteDef]:
        """The partner API for cohorts, and attributes."""
        path = f"/partners/{self._partner}/cohorts"
        return [
            web.post(path, self._answering(self._name)),
            web.post(path + "/users", self._answering(self._change)),
            web.post("/users/track", self._answering(self._track)),
        ]

    def _answering(self, take: Callable[[web.Request, dict[str, Any]], Any]) -> Any:
        async def answer(request: web.Request) -> web.Response:
            hour = int(self._clock()) // HOUR_S
            self._requests[hour] += 1
            status, said = await self._status(request, take, self._requests[hour])
            self.books.statuses[status] += 1
            headers = {
                "x-ratelimit-limit": str(self._hourly),
                "x-ratelimit-remaining": str(max(0, self._hourly - self._requests[hour])),
                "x-ratelimit-reset": str((hour + 1) * HOUR_S),
            }
            return web.json_response({"message": said}, status=status, headers=headers)

        return answer

    async def _status(
        self, request: web.Request, take: Callable[[web.Request, dict[str, Any]], Any], count: int
    ) -> tuple[int, str]:
        if count > self._hourly:
            return 429, "Rate limit exceeded"
        fault = self.faults.popleft() if self.faults else None
        if fault and not fault.applied:
            return fault.status, "injected"
        try:
            await take(request, await _fields(request))
        except _Refused as refused:
            return refused.status, str(refused)
        return (fault.status, "injected") if fault else (self._success, "success")

    async def _name(self, request: web.Request, fields: dict[str, Any]) -> None:
        cohort = self._cohort(fields)
        name, created = fields.get("name"), fields.get("created_at")
        if not isinstance(name, str) or not name:
            raise _Refused(400, "name must be a non-empty string")
        try:
            datetime.fromisoformat(str(created))
        except ValueError:
            raise _Refused(400, "created_at must be an ISO 8601 string") from None
        self.books.names[cohort].append(name)

    async def _change(self, request: web.Request, fields: dict[str, Any]) -> None:
        cohort, changes = self._cohort(fields), fields.get("cohort_changes")
        if not isinstance(changes, list) or not all(isinstance(change, dict) for change in changes):
            raise _Refused(400, "cohort_changes must be an array of objects")
        counts = [len(change.get(key, ())) for change in changes for key in ("user_ids", "device_ids", "aliases")]
        if sum(counts) > MOST_IDS:
            raise _Refused(400, f"cohort_changes holds more than {MOST_IDS} ids")
        if cohort in self._writing:
            self.books.conflicts += 1
            raise _Refused(423, "the cohort is locked")
        self._writing.add(cohort)
        try:
            await asyncio.sleep(self._delay)
            for change in changes:
                self._apply(cohort, change)
        finally:
            self._writing.remove(cohort)
        self.books.ids.append(sum(counts))

    def _apply(self, cohort: str, change: dict[str, Any]) -> None:
        found = [self._by_external.get(user) for user in change.get("user_ids", ())]
        found += [self._by_alias.get(_alias(alias)) for alias in change.get("aliases", ())]
        devices = [self._by_device.get(device) for device in change.get("device_ids", ())]
        found += [one if one and not one.external_id and not one.aliases else None for one in devices]
        known = {one for one in found if one}
        self.books.unknown += found.count(None)
        if change.get("should_remove", False):
            self.members[cohort] -= known
        else:
            self.members[cohort] |= known

    async def _track(self, request: web.Request, fields: dict[str, Any]) -> None:
        if request.headers.get("Authorization") != self._bearer:
            raise _Refused(401, "Invalid API key")
        objects = fields.get("attributes", [])
        if len(objects) > MOST_OBJECTS:
            raise _Refused(400, f"more than {MOST_OBJECTS} objects")
        for values in objects:
            alias = values.pop("user_alias", None)
            user = self._by_alias.get(_alias(alias)) if alias else self._by_external.get(values.pop("external_id", ""))
            if user is None:
                if not values.get("_update_existing_only", bool(alias)):
                    raise _Refused(400, "this stand-in creates no users")
                self.books.unknown += 1
                continue
            self._set(user, {key: value for key, value in values.items() if key != "_update_existing_only"})
        self.books.ids.append(len(objects))

    def _set(self, user: Profile, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.attributes[user][name] = _merged(self.attributes[user].get(name, ()), value)

    def _cohort(self, fields: dict[str, Any]) -> str:
        for key, right in self._keys.items():
            if fields.get(key) != right:
                raise _Refused(401, f"{key} is not valid")
        cohort = fields.get("cohort_id")
        if not isinstance(cohort, str) or not cohort:
            raise _Refused(400, "cohort_id must be a string")
        return cohort


def _merged(before: Iterable[Any], value: Any) -> Any:
    """A list with entries added and removed, or the value itself."""
    if not isinstance(value, dict):
        return value
    kept = [one for one in before if one not in value.get("remove", ())]
    return kept + [one for one in value.get("add", ()) if one not in kept]


async def _fields(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise _Refused(415, "Content-Type must be application/json")
    body = await request.read()
    if len(body) > MOST_BYTES:
        raise _Refused(413, "the body is over 4 MB")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _Refused(400, "the body is not JSON") from None
    if not isinstance(fields, dict):
        raise _Refused(400, "the body is no object")
    return fields


def _alias(alias: Any) -> tuple[str, str]:
    if not isinstance(alias, dict) or not {"alias_label", "alias_name"} <= alias.keys():
        raise _Refused(400, "an alias has alias_name and alias_label")
    return alias["alias_label"], alias["alias_name"]
