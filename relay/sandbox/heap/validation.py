"""Checks of the items of Heap's server-side API, with complaints.

(Heap docs: Track, Bulk track, Add user properties, Add account properties, Identify.) The sentences of the complaints
are ours. Heap names the item in front of them, as `postBody.events[0].properties`.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

MOST_CHARACTERS: Final = 1024
MOST_OF_IDENTITY: Final = 255
MOST_USER_ID: Final = 1 << 53

Check = Callable[[Mapping[str, Any]], Iterator[str]]
"""Yields the complaints about an item."""


def check_event(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the complaints about an item of /api/track."""
    if not isinstance(name := item.get("event"), str) or not 0 < len(name) <= MOST_CHARACTERS:
        yield "event should be a string of 1 to 1024 characters"
    if ("identity" in item) == ("user_id" in item):
        yield "identity or user_id should be there, not both"
    yield from _check_identity(item.get("identity", "none"))
    yield from _check_user_id(item.get("user_id", "0"))
    yield from _check_timestamp(item)
    if not isinstance(item.get("idempotency_key", ""), str):
        yield "idempotency_key should be string"
    yield from _check_properties(item.get("properties", {}))


def check_user(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the complaints about an item of /api/add_user_properties."""
    yield from _check_identity(item.get("identity"))
    yield from _check_properties(item.get("properties"))


def check_account(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the complaints about an item of /api/add_account_properties."""
    if not isinstance(account := item.get("account_id"), str) or not account:
        yield "account_id should be a string"
    yield from _check_properties(item.get("properties"))


def check_identify(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the complaints about an item of /api/v1/identify."""
    yield from _check_identity(item.get("identity"))
    yield from _check_user_id(item.get("user_id"))
    yield from _check_timestamp(item)


def convert_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Convert properties to the form that Heap keeps: an array becomes one text, joined by || and cut."""
    return {
        key: "||".join(map(str, value))[:MOST_CHARACTERS] if isinstance(value, list) else value
        for key, value in properties.items()
    }


def _check_identity(identity: Any) -> Iterator[str]:
    if not isinstance(identity, str) or not 0 < len(identity) <= MOST_OF_IDENTITY:
        yield "identity should be a string of 1 to 255 characters"


def _check_user_id(user_id: Any) -> Iterator[str]:
    if not isinstance(user_id, str) or not user_id.isdecimal() or int(user_id[:20]) >= MOST_USER_ID:
        yield "user_id should be a string with a number below 2^53"


def _check_timestamp(item: Mapping[str, Any]) -> Iterator[str]:
    try:
        datetime.fromisoformat(item.get("timestamp", "2026-01-01"))
    except (TypeError, ValueError):
        yield "timestamp should be a time in ISO 8601"


def _check_properties(properties: Any) -> Iterator[str]:
    if not isinstance(properties, dict):
        yield "properties should be object"
        return
    for key, value in properties.items():
        if len(key) >= MOST_CHARACTERS or key.lower() == "id":
            yield f"properties.{key[:40]} is not allowed"
        if isinstance(value, bool) or not isinstance(value, str | int | float | list):
            yield f"properties.{key[:40]} should be string or number"
        elif isinstance(value, str) and len(value) >= MOST_CHARACTERS:
            yield f"properties.{key[:40]} is too long"
