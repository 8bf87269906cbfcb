"""Checks of the bodies of Braze's cohort API, with the complaints of Braze."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson
from aiohttp import web

from relay.sandbox.server import Refused

MOST_IDS: Final = 1000
MOST_BYTES: Final = 4 << 20
IDS: Final = ("user_ids", "device_ids", "aliases")


async def read_fields(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a body. Raises Refused."""
    if request.content_type != "application/json":
        raise Refused(415, "Content-Type must be application/json")
    body = await request.read()
    if len(body) > MOST_BYTES:
        raise Refused(413, "the body is over 4 MB")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(fields, dict):
        raise Refused(400, "the body is no object")
    return fields


def check_changes(changes: Any) -> list[dict[str, Any]]:
    """Return the entries of `cohort_changes` after a check. Raises Refused."""
    if not isinstance(changes, list) or not all(isinstance(change, dict) for change in changes):
        raise Refused(400, "cohort_changes must be an array of objects")
    for change in changes:
        _check_change(change)
    if sum(map(count_ids, changes)) > MOST_IDS:
        raise Refused(400, f"cohort_changes holds more than {MOST_IDS} ids")
    return changes


def _check_change(change: dict[str, Any]) -> None:
    """Check one entry of `cohort_changes`. Raises Refused."""
    if not change.keys() & set(IDS):
        raise Refused(400, "cohort_changes: each has user_ids, device_ids or aliases")
    if not isinstance(change.get("should_remove", False), bool):
        raise Refused(400, "cohort_changes: should_remove must be true or false")
    for key in IDS:
        if not isinstance(change.get(key, []), list):
            raise Refused(400, f"cohort_changes: {key} must be an array")
        for user in change.get(key, ()):
            if key == "aliases" or (key == "user_ids" and isinstance(user, dict)):
                check_alias(user)
            elif not isinstance(user, str):
                raise Refused(400, f"cohort_changes: {key} must hold strings")


def count_ids(change: Mapping[str, Any]) -> int:
    """Count the ids of a change."""
    return sum(len(change.get(key, ())) for key in IDS)


def check_alias(alias: Any) -> Mapping[str, Any]:
    """Return an alias after a check of its label and name. Raises Refused."""
    if not isinstance(alias, dict) or not all(isinstance(alias.get(key), str) for key in ("alias_label", "alias_name")):
        raise Refused(400, "an alias has alias_name and alias_label")
    return alias


def is_iso_time(text: Any) -> bool:
    """Return whether a value is a time in ISO 8601."""
    try:
        datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return False
    return True
