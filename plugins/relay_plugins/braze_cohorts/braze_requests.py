"""The two ways to tell Braze who is in a cohort: requests as values, and how many may be sent."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from relay_plugins.braze_cohorts.change import ALIAS, DEVICE_ID, EMAIL, EXTERNAL_ID, Change, Member, Portion

LONGEST_S: Final = 3600
"""Braze's limits begin anew with every hour of the clock (Braze docs, API limits)."""
JSON: Final = {"Content-Type": "application/json"}


class HourlyLimit(NamedTuple):
    """So many requests in so many seconds, of the clock: the hour from 9:00 to 10:00."""

    requests: int
    seconds: float


class CohortRequest(NamedTuple):
    """What to post."""

    path: str
    body: bytes
    headers: Mapping[str, str]


class Partner:
    """The partner API for cohorts: `/partners/NAME/cohorts` and `.../cohorts/users`. (Braze docs, Cohort import.)"""

    most: Final = 1000
    cannot_find: Final = EMAIL
    """The kind of ids by which Braze finds no user here."""
    limit: Final = HourlyLimit(250_000, 3600)

    def __init__(self, partner: str, partner_key: str, data_import_key: str) -> None:
        self._path = f"/partners/{partner}/cohorts"
        self.target = f"{partner} {_mark(data_import_key)}"
        self._keys = {"partner_api_key": partner_key, "client_secret": data_import_key}

    def introduce(self, change: Change, created: float) -> CohortRequest | None:
        """Tell the cohort's name."""
        moment = datetime.fromtimestamp(created, UTC).isoformat(timespec="seconds")
        return self._request("", {"cohort_id": change.cohort, "name": change.title, "created_at": moment})

    def change(self, change: Change, portion: Portion) -> CohortRequest:
        """Tell who came and who left."""
        changes = [
            _users(members) | {"should_remove": removed}
            for members, removed in ((portion.remove, True), (portion.add, False))
            if members
        ]
        return self._request("/users", {"cohort_id": change.cohort, "cohort_changes": changes})

    def _request(self, path: str, fields: dict[str, Any]) -> CohortRequest:
        return CohortRequest(self._path + path, orjson.dumps(self._keys | fields), JSON)


class Attributes:
    """`/users/track`: one attribute per cohort, true or false, or one list of cohorts. (Braze docs, Track users.)"""

    most: Final = 75
    cannot_find: Final = DEVICE_ID
    limit: Final = HourlyLimit(1000, 1.5)
    """Braze takes 3,000 in 3 seconds: no 3 seconds touch more than three times 1.5."""

    def __init__(self, rest_key: str, attribute: str, *, listed: bool) -> None:
        self._attribute, self._listed = attribute, listed
        self._headers = JSON | {"Authorization": f"Bearer {rest_key}"}
        self.target = f"{attribute} {'listed ' if listed else ''}{_mark(rest_key)}"

    def introduce(self, change: Change, created: float) -> CohortRequest | None:
        """Nothing: an attribute has no name but its own."""
        return None

    def change(self, change: Change, portion: Portion) -> CohortRequest:
        """Set the attribute of existing users."""
        attributes = [
            _user(member)
            | {
                "_update_existing_only": True,
                self._attribute.replace("{id}", change.cohort).replace("{name}", change.slug): self._value(
                    change, inside=inside
                ),
            }
            for members, inside in ((portion.remove, False), (portion.add, True))
            for member in members
        ]
        return CohortRequest("/users/track", orjson.dumps({"attributes": attributes}), self._headers)

    def _value(self, change: Change, *, inside: bool) -> bool | dict[str, list[str]]:
        if not self._listed:
            return inside
        return {"add" if inside else "remove": [change.cohort]}


class Budget:
    """How many requests may still be sent for now."""

    def __init__(self, limit: HourlyLimit) -> None:
        self._limit = limit
        self._period, self._sent, self._closed_until = 0, 0, 0.0

    def take(self, now: float) -> float:
        """Book a request at this time (Unix seconds); return 0, or the seconds to wait until one may be sent."""
        period = int(now / self._limit.seconds)
        if period != self._period:
            self._period, self._sent = period, 0
        if now < self._closed_until:
            return self._closed_until - now
        if self._sent >= self._limit.requests:
            return (period + 1) * self._limit.seconds - now
        self._sent += 1
        return 0.0

    def told(self, headers: Mapping[str, str], now: float) -> None:
        """Heed what an answer says: `x-ratelimit-remaining`, `x-ratelimit-reset` (Unix seconds)."""
        reset = headers.get("x-ratelimit-reset", "")
        if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
            self._closed_until = min(float(reset), now + LONGEST_S)


def errors_in(body: bytes) -> list[str]:
    """What Braze did not take although it answered 2xx. (Braze docs, API errors: non-fatal errors.)"""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    errors = said.get("errors") if isinstance(said, dict) else None
    found = errors if isinstance(errors, list) else [errors] if errors else []
    return [error if isinstance(error, str) else orjson.dumps(error).decode() for error in found]


def _mark(key: str) -> str:
    """What tells the keys of two workspaces apart, and says nothing of them: 32 bits fit too many keys."""
    return sha256(key.encode()).hexdigest()[:8]


def _users(members: Sequence[Member]) -> dict[str, Any]:
    found = {
        "user_ids": [member.id for member in members if member.kind == EXTERNAL_ID],
        "device_ids": [member.id for member in members if member.kind == DEVICE_ID],
        "aliases": [_alias(member) for member in members if member.kind.startswith(ALIAS)],
    }
    return {key: users for key, users in found.items() if users}


def _user(member: Member) -> dict[str, Any]:
    if member.kind.startswith(ALIAS):
        return {"user_alias": _alias(member)}
    return {member.kind: member.id}


def _alias(member: Member) -> dict[str, str]:
    return {"alias_name": member.id, "alias_label": member.kind.removeprefix(ALIAS)}
