"""Requests that tell Braze the members of cohorts, in two ways, and the limits on such requests."""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from relay_plugins.braze_cohorts.change import ALIAS, DEVICE_ID, EMAIL, EXTERNAL_ID, Change, Member, Portion

LONGEST_S: Final = 3600
"""Braze's limits begin anew with every hour of the clock (Braze docs, API limits)."""
JSON: Final = {"Content-Type": "application/json"}


class HourlyLimit(NamedTuple):
    """Most requests in a period of the clock, such as the hour from 9:00 to 10:00."""

    requests: int
    seconds: float


class CohortRequest(NamedTuple):
    """A request to post."""

    path: str
    body: bytes
    headers: Mapping[str, str]


class Partner:
    """Makes requests of the partner API for cohorts: `/partners/NAME/cohorts` and `.../cohorts/users`. (Braze docs,
    Cohort import.)"""

    most: Final = 1000
    cannot_find: Final = EMAIL
    """The kind of ids by which this API finds no user."""
    limit: Final = HourlyLimit(250_000, 3600)

    def __init__(self, partner: str, partner_key: str, data_import_key: str) -> None:
        self._path = f"/partners/{partner}/cohorts"
        self.target = f"{partner} {_hash_key(data_import_key)}"
        self._keys = {"partner_api_key": partner_key, "client_secret": data_import_key}

    def introduce(self, change: Change, created: float) -> CohortRequest | None:
        """Return the request that tells the cohort's name."""
        moment = datetime.fromtimestamp(created, UTC).isoformat(timespec="seconds")
        return self._make_request("", {"cohort_id": change.cohort, "name": change.title, "created_at": moment})

    def change(self, change: Change, portion: Portion) -> CohortRequest:
        """Return the request that adds and removes users."""
        changes = list[dict[str, Any]]()
        for members, removed in ((portion.remove, True), (portion.add, False)):
            users = {
                "user_ids": [member.id for member in members if member.kind == EXTERNAL_ID],
                "device_ids": [member.id for member in members if member.kind == DEVICE_ID],
                "aliases": [_make_alias(member) for member in members if member.kind.startswith(ALIAS)],
            }
            if members:
                changes.append({key: ids for key, ids in users.items() if ids} | {"should_remove": removed})
        return self._make_request("/users", {"cohort_id": change.cohort, "cohort_changes": changes})

    def _make_request(self, path: str, fields: dict[str, Any]) -> CohortRequest:
        return CohortRequest(self._path + path, orjson.dumps(self._keys | fields), JSON)


class Attributes:
    """Makes requests of `/users/track`: one attribute per cohort, true or false, or one list of cohorts. (Braze docs,
    Track users.)"""

    most: Final = 75
    cannot_find: Final = DEVICE_ID
    limit: Final = HourlyLimit(1000, 1.5)
    """Braze takes 3,000 requests in 3 seconds. Any 3 seconds touch at most three periods of 1.5 seconds."""

    def __init__(self, rest_key: str, attribute: str, *, listed: bool) -> None:
        self._attribute, self._listed = attribute, listed
        self._headers = JSON | {"Authorization": f"Bearer {rest_key}"}
        self.target = f"{attribute} {'listed ' if listed else ''}{_hash_key(rest_key)}"

    def introduce(self, change: Change, created: float) -> CohortRequest | None:
        """Return None: Braze needs no name of a cohort here."""
        return None

    def change(self, change: Change, portion: Portion) -> CohortRequest:
        """Return the request that sets the attribute of existing users."""
        name = self._attribute.replace("{id}", change.cohort).replace("{name}", change.slug)
        attributes = list[dict[str, Any]]()
        for members, inside in ((portion.remove, False), (portion.add, True)):
            value = {"add" if inside else "remove": [change.cohort]} if self._listed else inside
            for member in members:
                is_alias = member.kind.startswith(ALIAS)
                user = {"user_alias": _make_alias(member)} if is_alias else {member.kind: member.id}
                attributes.append(user | {"_update_existing_only": True, name: value})
        return CohortRequest("/users/track", orjson.dumps({"attributes": attributes}), self._headers)


class Budget:
    """Counts the requests of the present period."""

    def __init__(self, limit: HourlyLimit) -> None:
        self._limit = limit
        self._period, self._sent, self._closed_until = 0, 0, 0.0

    def take(self, now: float) -> float:
        """Count a request at a time (Unix seconds) and return 0, or return the seconds to wait for the next request."""
        period = int(now / self._limit.seconds)
        if period != self._period:
            self._period, self._sent = period, 0
        if now < self._closed_until:
            return self._closed_until - now
        if self._sent >= self._limit.requests:
            return (period + 1) * self._limit.seconds - now
        self._sent += 1
        return 0.0

    def record_answer(self, headers: Mapping[str, str], now: float) -> None:
        """Close the period if an answer says so: `x-ratelimit-remaining`, `x-ratelimit-reset` (Unix seconds)."""
        reset = headers.get("x-ratelimit-reset", "")
        if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
            self._closed_until = min(float(reset), now + LONGEST_S)


def read_errors(body: bytes) -> list[str]:
    """Return the errors in an answer with 2xx: entries that Braze did not take. (Braze docs, API errors: non-fatal
    errors.)"""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    errors = answer.get("errors") if isinstance(answer, dict) else None
    found = errors if isinstance(errors, list) else [errors] if errors else []
    return [error if isinstance(error, str) else orjson.dumps(error).decode() for error in found]


def _hash_key(key: str) -> str:
    """Return 32 bits of a hash: they tell the keys of two workspaces apart, and reveal no key."""
    return sha256(key.encode()).hexdigest()[:8]


def _make_alias(member: Member) -> dict[str, str]:
    return {"alias_name": member.id, "alias_label": member.kind.removeprefix(ALIAS)}
