"""What types and profiles of Braze mean, for connectors that translate them. Pure."""

import re
from contextlib import suppress
from typing import Any, Final

import orjson

from relay.api import REDACTED, Event, Reject, Walk, without_surrogates

CUSTOM_EVENT: Final = "users.behaviors.CustomEvent"
PROFILE: Final = "users.profile.Update"
OWN_NAME: Final = "{name}"
"""Placeholder in the setting `names` for the event's own name."""
FACTS_OF_UPDATE: Final = frozenset({"time_ms", "update_source", "archived", "app_group_id", "app_id"})
"""Properties of a profile's update that describe the event, not the user."""
ATTRIBUTES: Final = "custom_attributes"
WORDS: Final = {
    "agentconsole": "Agent Console",
    "campaigns": "Campaign",
    "canvasstep": "Canvas Step",
    "contentcard": "Content Card",
    "contentoptimizer": "Content Optimizer",
    "experimentstep": "Experiment Step",
    "featureflag": "Feature Flag",
    "inappmessage": "In-App Message",
    "landingpage": "Landing Page",
    "line": "LINE",
    "liveactivity": "Live Activity",
    "newsfeedcard": "News Feed Card",
    "pushnotification": "Push Notification",
    "rcs": "RCS",
    "sms": "SMS",
    "subscriptiongroup": "Subscription Group",
    "whatsapp": "WhatsApp",
}
"""Parts of an event type that do not show where a word ends."""


def check_event_name(name: str) -> str:
    """Return a value of the setting `names`. Raises ValueError for another placeholder than the event's own name."""
    if {"{", "}"}.intersection(name.replace(OWN_NAME, "")):
        raise ValueError(f"only {OWN_NAME} can be filled in, got {name!r}")
    return name


def split_type(event_type: str) -> list[str]:
    """Return the words of an event type: `users.messages.whatsapp.Send` is "WhatsApp", "Send"."""
    parts = re.sub(r"^users\.(messages\.|behaviors\.)?", "", event_type).split(".")
    text = " ".join(WORDS.get(part) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", part) for part in parts)
    return [word[:1].upper() + word[1:] for word in text.split()]


def read_profile(event: Event) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an update says of the user, time zone included, and the user's custom attributes.

    Values of custom attributes that are no JSON (`NaN`, `1e400`) are left out. Raises Reject if `custom_attributes` is
    no object.
    """
    values = {name: value for name, value in event.properties.items() if name not in FACTS_OF_UPDATE}
    custom = values.pop(ATTRIBUTES, None)
    if isinstance(custom, str):  # Braze sends JSON in a text
        custom = None if custom in ("", REDACTED) else _read_attributes(without_surrogates(custom.encode()))
    if not isinstance(custom, dict | None):
        raise Reject(f"properties.{ATTRIBUTES} is no JSON object")
    values.setdefault("timezone", event.user.get("timezone"))
    return values, custom or {}


def read_user_ids(event: Event) -> tuple[str | None, str | None, str | None]:
    """Return the ids of the user at Braze and at the sender's, and the id of the device; None for an id that the event
    lacks, or that Braze has redacted. Raises UnreadableEvent."""
    user = event.user
    return _read_id(user.get("user_id")), _read_id(user.get("external_user_id")), _read_id(user.get("device_id"))


def _read_id(found: Any) -> str | None:
    return None if found is None or isinstance(found, dict | list) or found in ("", REDACTED) else str(found)


def _read_attributes(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    walk = Walk(text := text.strip())
    try:
        members = walk.object() if walk.is_one_value() else None
    except ValueError:
        members = None
    if members is None:
        raise Reject(f"properties.{ATTRIBUTES} is no JSON object")
    read: dict[str, Any] = {}
    for name, member in members.items():
        with suppress(orjson.JSONDecodeError):
            read[orjson.loads(b'"%b"' % name)] = orjson.loads(member)
    return read
