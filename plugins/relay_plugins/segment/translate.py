"""Translates Braze events to Segment's calls `track` and `identify`. Pure.

Braze's own integration with Segment gives the names of events, the identity and `context.traits.email` (Braze docs,
Segment for Currents). That page knows older types only: other types have names of the same style.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import orjson

from relay.api import REDACTED, Event, Reject
from relay_plugins.braze_events import CUSTOM_EVENT, OWN_NAME, PROFILE, read_profile, split_type

MOST_OF_MESSAGE_ID: Final = 99
"""Characters of a `messageId`."""
MOST_OF_TIME: Final = 253_402_300_800
"""Unix seconds of the year 10000, which ISO 8601 cannot name."""
NAMES: Final = {
    "users.behaviors.Purchase": "Purchase",
    "users.behaviors.Uninstall": "Application Uninstalled",
    "users.behaviors.subscriptiongroup.StateChange": "Subscription Group State Changed",
    "users.campaigns.Conversion": "Campaign Converted",
    "users.campaigns.EnrollInControl": "Campaign Control Group Entered",
    "users.canvas.Conversion": "Canvas Converted",
    "users.canvas.Entry": "Canvas Entered",
    "users.canvas.costep.Conversion": "Canvas Step Converted",
    "users.canvas.costep.Send": "Canvas Step Sent",
    "users.messages.email.Click": "Email Link Clicked",
    "users.messages.email.MarkAsSpam": "Email Marked As Spam",
    "users.messages.email.SoftBounce": "Email Soft Bounced",
    "users.messages.pushnotification.IosForeground": "iOS Foreground Push Opened",
    "users.messages.pushnotification.Open": "Push Notification Tapped",
    "users.messages.sms.CarrierSend": "SMS Sent to Carrier",
    "users.messages.sms.DeliveryFailure": "SMS Delivery Failed",
    "users.messages.sms.InboundReceive": "SMS Inbound Received",
}
"""Documented names that the words of the type do not give. `Purchase` and the steps of a canvas are ours."""
PAST: Final = {
    "Abort": "Aborted",
    "Bounce": "Bounced",
    "Change": "Changed",
    "Click": "Clicked",
    "Conversion": "Converted",
    "Deferral": "Deferred",
    "Delivery": "Delivered",
    "Dismiss": "Dismissed",
    "Entry": "Entered",
    "Failure": "Failed",
    "Impression": "Viewed",
    "Open": "Opened",
    "Receive": "Received",
    "Rejection": "Rejected",
    "Retry": "Retried",
    "Send": "Sent",
    "Submission": "Submitted",
    "Unsubscribe": "Unsubscribed",
    "Update": "Updated",
}
"""Last words of types, and how Braze's names for Segment say them."""
TRAITS: Final = {
    "email_address": "email",
    "phone_number": "phone",
    "first_name": "firstName",
    "last_name": "lastName",
    "dob": "birthday",
}
"""Names of traits that Segment reserves. Other traits keep their names."""


@lru_cache(4096)
def make_name(event_type: str) -> str:
    """Return the name of a type of events: `users.messages.whatsapp.Send` is "WhatsApp Sent"."""
    if name := NAMES.get(event_type):
        return name
    *first, last = split_type(event_type) or [event_type]
    return " ".join((*first, PAST.get(last, last)))


def choose_name(event: Event, names: Mapping[str, str]) -> str:
    """Return the name of an event: of `names`, its own name if it is a custom event, or the name of its type."""
    name = names.get(event.type, OWN_NAME if event.type == CUSTOM_EVENT else "")
    if OWN_NAME in name:
        own = event.properties.get("name")
        name = name.replace(OWN_NAME, own if isinstance(own, str) and own else make_name(event.type))
    return name or make_name(event.type)


def find_identity(user: Mapping[str, Any], field: str) -> dict[str, str]:
    """Return `userId`, or for an anonymous user the device as `anonymousId`; {} if the event names neither."""
    for key, name in (("userId", field), ("anonymousId", "device_id")):
        found = user.get(name)
        if isinstance(found, str | int) and not isinstance(found, bool) and found not in ("", REDACTED):
            return {key: str(found)}
    return {}


def make_call(event: Event, identity: Mapping[str, str], names: Mapping[str, str]) -> bytes:
    """Return the entry of a batch: `identify` for a profile, `track` for all other events. Raises Reject,
    UnreadableEvent."""
    call: dict[str, Any] = {"messageId": _make_message_id(event), **identity}
    if (time := event.time) is not None:
        if not 0 <= time < MOST_OF_TIME:
            raise Reject(f"its time is no time that Segment knows: {time:g}")
        call["timestamp"] = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
    if event.type == PROFILE:
        return orjson.dumps({"type": "identify", **call, "traits": _make_traits(event)})
    call |= {"type": "track", "event": choose_name(event, names), "properties": event.properties}
    email = event.properties.get("email_address")
    if isinstance(email, str) and email not in ("", REDACTED):
        call["context"] = {"traits": {"email": email}}
    return orjson.dumps(call)


def _make_message_id(event: Event) -> str:
    """Return the event's id, or a digest of an id that is too long."""
    return event.id if len(event.id) <= MOST_OF_MESSAGE_ID else blake2b(event.id.encode(), digest_size=16).hexdigest()


def _make_traits(event: Event) -> dict[str, Any]:
    """Return the custom attributes, then the attributes that Braze knows. Raises Reject for attributes that cannot be
    read."""
    own, custom = read_profile(event)
    known = {TRAITS.get(name, name): value for name, value in own.items() if value not in (None, REDACTED)}
    return custom | known
