"""Reads events whose values need no look, one by one, before Heap gets them. Pure.

Nearly all events of Braze are plain. The decoder checks types and lengths on its way, at no cost. It gives what
`Event.data` gives, or nothing: it decodes no event that orjson does not decode, or decodes to other values.
"""

from typing import Annotated, Final

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import Decoder

from relay.api import Event

MOST_CHARACTERS: Final = 1023
"""Longest event name, property name and value (Heap docs, Track)."""

Text = Annotated[str, Meta(max_length=MOST_CHARACTERS)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Decoders differ about larger integers."""
Seconds = Annotated[int, Meta(ge=0, lt=10**11)]
"""A time that is no number of milliseconds."""
Values = dict[str, Text | Integer | float | bool]


class PlainEvent(Struct, gc=False, forbid_unknown_fields=True):
    """The content of an event without objects, lists, nulls and long texts. The event alone has these objects."""

    event_type: str
    id: str
    time: Seconds
    user: Values
    properties: Values


_decode: Final = Decoder(PlainEvent).decode


def read_plain_event(event: Event) -> PlainEvent | None:
    """Return the content of a plain event; None if the event is not plain."""
    kind = event.kind
    if kind.id_field != "id" or kind.time_field != "time":
        return None
    try:
        return _decode(event.body)
    except (MsgspecError, ValueError):
        return None
