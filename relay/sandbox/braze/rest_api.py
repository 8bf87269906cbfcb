"""A stand-in for the part of Braze's REST API that takes cohorts: the partner API, and `/users/track` for attributes.

It answers as Braze's documentation says (Cohort import, Track users, API errors and limits). `profiles.members` has the
members of the cohorts. Braze itself has no such list.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import Field

from relay.sandbox.braze.profiles import Audience, Profile, Profiles
from relay.sandbox.braze.validation import check_alias, check_changes, count_ids, is_iso_time, read_fields
from relay.sandbox.server import Fault, Refused, StandIn
from relay.sandbox.switches import Seconds, ServerSwitches

__all__ = ["CohortApi", "CohortSwitches", "Fault", "Profile"]

MOST_OBJECTS: Final = 75
HOUR_S: Final = 3600


class CohortSwitches(ServerSwitches):
    """Switches of Braze's REST API."""

    success: int = Field(201, ge=200, le=299, description="What an accepted change is answered.")
    hourly: int = Field(250_000, ge=0, description="Requests that one hour of its clock may have; beyond: 429.")
    delay: Seconds = Field(0.0, description="Real seconds that a change takes; another one meanwhile: 423.")
    unknown_cohort: Literal["accept", "refuse"] = Field("accept", description="Users of a cohort that has no name yet.")
    array_size: int = Field(25, ge=1, le=500, description="Elements that an array attribute keeps: the newest.")
    partner_enabled: bool = Field(True, description="Whether the customer may use the partner; if not: 401.")


@dataclass(slots=True)
class ReceivedRequests:
    """Counts of the requests and their contents."""

    statuses: Counter[int]
    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Names of each cohort, in their order."""
    ids: list[int] = field(default_factory=list)
    """Ids that each accepted request changed."""
    unknown: int = 0
    """Ignored ids: no user has the id, or it is a device of an identified user."""
    conflicts: int = 0
    """Requests that came while another request wrote to the same cohort."""


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
        """`switches`: fields of `CohortSwitches`."""
        super().__init__(CohortSwitches(**switches), clock)
        self.received = ReceivedRequests(self.statuses)
        self.profiles = Profiles()
        self.profiles.add(profiles)
        self.members = self.profiles.members
        self.attributes: defaultdict[Profile, dict[str, Any]] = defaultdict(dict)
        self._partner, self._bearer = partner, f"Bearer {rest_key}"
        self._keys = {"partner_api_key": partner_key, "client_secret": data_import_key}
        self._requests = Counter[int]()
        self._writing: set[str] = set()

    def find_audience(self, includes: Iterable[str], excludes: Iterable[str] = ()) -> set[Profile]:
        """Return the users of a segment by cohorts."""
        return self.profiles.find_audience(Audience(tuple(includes), tuple(excludes)))

    def list_routes(self) -> Iterable[web.RouteDef]:
        """Return the routes of the partner API and of attributes."""
        path = f"/partners/{self._partner}/cohorts"
        return [
            web.post(path, self._name_cohort),
            web.post(path + "/users", self._change_cohort),
            web.post("/users/track", self._track),
        ]

    def admit(self) -> None:
        """Count a request of this hour. Raises Refused beyond the limit."""
        self._requests[self._find_hour()] += 1
        if self._requests[self._find_hour()] > self.switches.hourly:
            raise Refused(429, "Rate limit exceeded")

    def make_headers(self) -> Mapping[str, str]:
        """Return the headers with the rate limit."""
        hour, most = self._find_hour(), self.switches.hourly
        return {
            "x-ratelimit-limit": str(most),
            "x-ratelimit-remaining": str(max(0, most - self._requests[hour])),
            "x-ratelimit-reset": str((hour + 1) * HOUR_S),
        }

    def answer(self, status: int, message: str) -> web.Response:
        """Make an answer in the form of Braze."""
        return web.json_response({"message": message}, status=status)

    def _find_hour(self) -> int:
        return int(self.clock()) // HOUR_S

    async def _name_cohort(self, request: web.Request) -> web.Response:
        fields = await read_fields(request)
        cohort, name, created = self._check_cohort(fields), fields.get("name"), fields.get("created_at")
        if not isinstance(name, str) or not name:
            raise Refused(400, "name must be a non-empty string")
        if not is_iso_time(created):
            raise Refused(400, "created_at must be an ISO 8601 string")
        self.received.names[cohort].append(name)
        self.profiles.names[cohort] = name
        return self.answer(self.switches.success, "success")

    async def _change_cohort(self, request: web.Request) -> web.Response:
        fields = await read_fields(request)
        cohort, changes = self._check_cohort(fields), check_changes(fields.get("cohort_changes"))
        if cohort not in self.profiles.names and self.switches.unknown_cohort == "refuse":
            raise Refused(400, "cohort_id is not known")
        if cohort in self._writing:
            self.received.conflicts += 1
            raise Refused(423, "the cohort is locked")
        self._writing.add(cohort)
        try:
            await asyncio.sleep(self.switches.delay)
            for change in changes:
                self._apply_change(cohort, change)
        finally:
            self._writing.remove(cohort)
        self.received.ids.append(sum(map(count_ids, changes)))
        return self.answer(self.switches.success, "success")

    def _apply_change(self, cohort: str, change: Mapping[str, Any]) -> None:
        found = [self.profiles.find_by_anything(user) for user in change.get("user_ids", ())]
        found += [self.profiles.find_by_alias(alias) for alias in change.get("aliases", ())]
        found += [self.profiles.find_by_device(device) for device in change.get("device_ids", ())]
        known = {profile for profile in found if profile}
        self.received.unknown += found.count(None)
        if change.get("should_remove", False):
            self.members[cohort] -= known
        else:
            self.members[cohort] |= known

    async def _track(self, request: web.Request) -> web.Response:
        fields = await read_fields(request)
        if request.headers.get("Authorization") != self._bearer:
            raise Refused(401, "Invalid API key")
        objects = fields.get("attributes", [])
        if not isinstance(objects, list) or not all(isinstance(values, dict) for values in objects):
            raise Refused(400, "attributes must be an array of objects")
        if len(objects) > MOST_OBJECTS:
            raise Refused(400, f"more than {MOST_OBJECTS} objects")
        errors = []  # of objects; they do not fail the request (Braze docs, API errors: non-fatal errors)
        for index, values in enumerate(objects):
            try:
                self._set_attributes(dict(values))
            except ValueError as error:
                errors.append({"type": str(error), "input_array": "attributes", "index": index})
        self.received.ids.append(len(objects) - len(errors))
        said = {"message": "success"} | ({"errors": errors} if errors else {})
        return web.json_response(said, status=self.switches.success)

    def _set_attributes(self, values: dict[str, Any]) -> None:
        """Set the attributes of a user. Raises ValueError before the first is set, and Refused for an unknown user."""
        alias = values.pop("user_alias", None)
        existing_only = values.pop("_update_existing_only", bool(alias))
        if alias:
            user = self.profiles.find_by_alias(check_alias(alias))
        elif "external_id" in values:
            user = self.profiles.find_by_external_id(str(values.pop("external_id")))
        else:
            user = self.profiles.find_by_email(str(values.pop("email", "")))
        if user is None:
            if not existing_only:
                raise Refused(400, "this stand-in creates no users")
            self.received.unknown += 1
            return
        known, most = self.attributes[user], self.switches.array_size
        known.update({name: _merge_value(name, known.get(name, []), value, most) for name, value in values.items()})

    def _check_cohort(self, fields: Mapping[str, Any]) -> str:
        for key, right in self._keys.items():
            if fields.get(key) != right:
                raise Refused(401, f"{key} is not valid")
        if not self.switches.partner_enabled:
            raise Refused(401, "the partner is not enabled for this customer")
        cohort = fields.get("cohort_id")
        if not isinstance(cohort, str) or not cohort:
            raise Refused(400, "cohort_id must be a string")
        return cohort


def _merge_value(name: str, before: Any, value: Any, most: int) -> Any:
    """Return a value, or for `add` and `remove` the changed array: its `most` newest entries. Raises ValueError."""
    if not isinstance(value, dict) or not value or value.keys() - {"add", "remove"}:
        return value
    add, remove = value.get("add", []), value.get("remove", [])
    if not all(isinstance(array, list) for array in (before, add, remove)):
        raise ValueError(f"{name} is no array, or something else than arrays is to be added or removed")
    kept = [entry for entry in before if entry not in remove]
    return (kept + [entry for entry in add if entry not in kept])[-most:]
