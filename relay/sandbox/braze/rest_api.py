"""A stand-in for the part of Braze's REST API that takes cohorts: the partner API, and `/users/track` for attributes.

It answers as Braze's documentation says (Cohort import, Track users, API errors and limits). Who is in a cohort, which
Braze itself never tells, can be read from `profiles.members`.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import Field

from relay.sandbox.braze.profiles import Audience, Profile, Profiles
from relay.sandbox.braze.validation import alias_of, changes_of, fields_of, is_moment, size_of
from relay.sandbox.server import Fault, Refused, StandIn
from relay.sandbox.switches import Seconds, ServerSwitches

__all__ = ["CohortApi", "CohortSwitches", "Fault", "Profile"]

MOST_OBJECTS: Final = 75
HOUR_S: Final = 3600


class CohortSwitches(ServerSwitches):
    """Of Braze's REST API."""

    success: int = Field(201, ge=200, le=299, description="What an accepted change is answered.")
    hourly: int = Field(250_000, ge=0, description="Requests that one hour of its clock may have; beyond: 429.")
    delay: Seconds = Field(0.0, description="Real seconds that a change takes; another one meanwhile: 423.")
    unknown_cohort: Literal["accept", "refuse"] = Field("accept", description="Users of a cohort that has no name yet.")
    array_size: int = Field(25, ge=1, le=500, description="Elements that an array attribute keeps: the newest.")
    partner_enabled: bool = Field(True, description="Whether the customer may use the partner; if not: 401.")


@dataclass(slots=True)
class ReceivedRequests:
    """What came in."""

    statuses: Counter[int]
    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Of each cohort, the names it was given."""
    ids: list[int] = field(default_factory=list)
    """How many ids each accepted request changed."""
    unknown: int = 0
    """Ids that belong to no user, or are devices of identified ones: ignored."""
    conflicts: int = 0
    """Requests that came while another wrote to the same cohort."""


class CohortApi(StandIn):
    """A local server, as a context manager."""

    switches: CohortSwitches

    def __init__(
        self,
        profiles: Iterable[Profile],
        *,
        partner: str = "heap",
        partner_key: str = "partner",
        data_import_key: str = "import",
        rest_key: str = "rest",
        clock: Callable[[], float] = time.time,
        **switches: Any,
    ) -> None:
        """`switches` are those of `CohortSwitches`."""
        super().__init__(CohortSwitches(**switches), clock)
        self.books = ReceivedRequests(self.statuses)
        self.profiles = Profiles()
        self.profiles.add(profiles)
        self.members = self.profiles.members
        self.attributes: defaultdict[Profile, dict[str, Any]] = defaultdict(dict)
        self._partner, self._bearer = partner, f"Bearer {rest_key}"
        self._keys = {"partner_api_key": partner_key, "client_secret": data_import_key}
        self._requests = Counter[int]()
        self._writing: set[str] = set()

    def audience(self, includes: Iterable[str], excludes: Iterable[str] = ()) -> set[Profile]:
        """Who is in a segment with these cohort filters."""
        return self.profiles.audience(Audience(tuple(includes), tuple(excludes)))

    def routes(self) -> Iterable[web.RouteDef]:
        """The partner API for cohorts, and attributes."""
        path = f"/partners/{self._partner}/cohorts"
        return [
            web.post(path, self._name),
            web.post(path + "/users", self._change),
            web.post("/users/track", self._track),
        ]

    def admit(self) -> None:
        """Count a request by the hour. Raises Refused."""
        self._requests[self._hour()] += 1
        if self._requests[self._hour()] > self.switches.hourly:
            raise Refused(429, "Rate limit exceeded")

    def headers(self) -> Mapping[str, str]:
        """What is left of the hour."""
        hour, most = self._hour(), self.switches.hourly
        return {
            "x-ratelimit-limit": str(most),
            "x-ratelimit-remaining": str(max(0, most - self._requests[hour])),
            "x-ratelimit-reset": str((hour + 1) * HOUR_S),
        }

    def answer(self, status: int, message: str) -> web.Response:
        """As Braze says it."""
        return web.json_response({"message": message}, status=status)

    def _hour(self) -> int:
        return int(self.clock()) // HOUR_S

    async def _name(self, request: web.Request) -> web.Response:
        fields = await fields_of(request)
        cohort, name, created = self._cohort(fields), fields.get("name"), fields.get("created_at")
        if not isinstance(name, str) or not name:
            raise Refused(400, "name must be a non-empty string")
        if not is_moment(created):
            raise Refused(400, "created_at must be an ISO 8601 string")
        self.books.names[cohort].append(name)
        self.profiles.names[cohort] = name
        return self.answer(self.switches.success, "success")

    async def _change(self, request: web.Request) -> web.Response:
        fields = await fields_of(request)
        cohort, changes = self._cohort(fields), changes_of(fields.get("cohort_changes"))
        if cohort not in self.profiles.names and self.switches.unknown_cohort == "refuse":
            raise Refused(400, "cohort_id is not known")
        if cohort in self._writing:
            self.books.conflicts += 1
            raise Refused(423, "the cohort is locked")
        self._writing.add(cohort)
        try:
            await asyncio.sleep(self.switches.delay)
            for change in changes:
                self._apply(cohort, change)
        finally:
            self._writing.remove(cohort)
        self.books.ids.append(sum(map(size_of, changes)))
        return self.answer(self.switches.success, "success")

    def _apply(self, cohort: str, change: Mapping[str, Any]) -> None:
        found = [self.profiles.by_anything(user) for user in change.get("user_ids", ())]
        found += [self.profiles.by_alias(alias) for alias in change.get("aliases", ())]
        found += [self.profiles.by_device(device) for device in change.get("device_ids", ())]
        known = {one for one in found if one}
        self.books.unknown += found.count(None)
        if change.get("should_remove", False):
            self.members[cohort] -= known
        else:
            self.members[cohort] |= known

    async def _track(self, request: web.Request) -> web.Response:
        fields = await fields_of(request)
        if request.headers.get("Authorization") != self._bearer:
            raise Refused(401, "Invalid API key")
        objects = fields.get("attributes", [])
        if not isinstance(objects, list) or not all(isinstance(values, dict) for values in objects):
            raise Refused(400, "attributes must be an array of objects")
        if len(objects) > MOST_OBJECTS:
            raise Refused(400, f"more than {MOST_OBJECTS} objects")
        errors = [*self._set_all(objects)]
        self.books.ids.append(len(objects) - len(errors))
        said = {"message": "success"} | ({"errors": errors} if errors else {})
        return web.json_response(said, status=self.switches.success)

    def _set_all(self, objects: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Set what can be set, and say of the other objects why not. (Braze docs, API errors: non-fatal errors.)"""
        for index, values in enumerate(objects):
            try:
                self._set(dict(values))
            except ValueError as error:
                yield {"type": str(error), "input_array": "attributes", "index": index}

    def _set(self, values: dict[str, Any]) -> None:
        """Raises ValueError, before anything is set, if that is nonsense."""
        alias = values.pop("user_alias", None)
        existing_only = values.pop("_update_existing_only", bool(alias))
        if alias:
            user = self.profiles.by_alias(alias_of(alias))
        elif "external_id" in values:
            user = self.profiles.by_external_id(str(values.pop("external_id")))
        else:
            user = self.profiles.by_email(str(values.pop("email", "")))
        if user is None:
            if not existing_only:
                raise Refused(400, "this stand-in creates no users")
            self.books.unknown += 1
            return
        known = self.attributes[user]
        most = self.switches.array_size
        known.update({name: _merged(name, known.get(name, []), value, most) for name, value in values.items()})

    def _cohort(self, fields: Mapping[str, Any]) -> str:
        for key, right in self._keys.items():
            if fields.get(key) != right:
                raise Refused(401, f"{key} is not valid")
        if not self.switches.partner_enabled:
            raise Refused(401, "the partner is not enabled for this customer")
        cohort = fields.get("cohort_id")
        if not isinstance(cohort, str) or not cohort:
            raise Refused(400, "cohort_id must be a string")
        return cohort


def _merged(name: str, before: Any, value: Any, most: int) -> Any:
    """A list with entries added and removed, its newest ones, or the value itself. Raises ValueError."""
    if not isinstance(value, dict) or not value or value.keys() - {"add", "remove"}:
        return value
    add, remove = value.get("add", []), value.get("remove", [])
    if not all(isinstance(one, list) for one in (before, add, remove)):
        raise ValueError(f"{name} is no array, or something else than arrays is to be added or removed")
    kept = [one for one in before if one not in remove]
    return (kept + [one for one in add if one not in kept])[-most:]
