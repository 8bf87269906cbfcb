"""The source type `currents`: Braze Currents as the "Custom Currents Export" (also "Heap Export") sends it."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final

import msgspec

from relay.api import Decoded, Malformed, Source, Unreadable, check_utf8

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
DISABLED_AFTER_S: Final = 5 * 86400.0
"""More than 5 days of failure, and Braze disables a Current. (Braze docs, Custom Currents Export.)"""


class Head(msgspec.Struct, gc=False):
    """All that is read of an event on its way in; everything else passes as it came."""

    event_type: Name
    id: Name


class Envelope(msgspec.Struct):
    """The body of a request. Without `events` it may still be one event that nobody wrapped."""

    events: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    event_type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


decode_head = msgspec.json.Decoder(Head).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode


class Currents(Source, type="currents"):
    """Takes `{"events": [...]}` with any number of events, or one event alone, as Braze's sample sender posts it.

    An empty body and an empty list are Braze's credential probes: nothing comes of them. An entry of the list that
    has no `event_type` and `id` (strings of 1 to 256 characters) is unreadable, the rest goes on; any other body is
    malformed. Unknown event types and fields pass. (Braze docs, Custom Currents Export.)
    """

    disabled_after: ClassVar[float | None] = DISABLED_AFTER_S

    def decode(self, body: bytes) -> Decoded:
        """Split a request body into events. Raises `Malformed`."""
        entries = _entries(body)
        try:
            heads = [decode_head(entry) for entry in entries]
        except msgspec.ValidationError:
            return self._decode_good_ones(entries)
        return self._decoded(heads, entries)

    def _decode_good_ones(self, entries: list[msgspec.Raw]) -> Decoded:
        heads, bodies, unreadable = [], [], []
        for number, entry in enumerate(entries, 1):
            try:
                heads.append(decode_head(entry))
                bodies.append(entry)
            except msgspec.ValidationError as error:
                unreadable.append(Unreadable(bytes(entry), f"entry {number} is no Currents event: {error}"))
        return self._decoded(heads, bodies, unreadable)

    def _decoded(self, heads: list[Head], bodies: list[msgspec.Raw], unreadable: Sequence[Unreadable] = ()) -> Decoded:
        known, kind = self._kinds, self.kind
        kinds = [known.get(head.event_type) or kind(head.event_type) for head in heads]
        return Decoded(kinds, bodies, unreadable, [head.id for head in heads] if self.settings.dedupe else None)


def _entries(body: bytes) -> list[msgspec.Raw]:
    """The events of a body, unread. Raises `Malformed` for what is neither an envelope nor an event nor a probe."""
    body = body.strip()
    if not body:
        return []
    check_utf8(body)
    try:
        envelope = decode_envelope(body)
        if envelope.events is not msgspec.UNSET:
            return envelope.events
        if envelope.event_type is msgspec.UNSET:
            raise Malformed('the body has neither "events" nor "event_type"')
        decode_head(body)
    except msgspec.ValidationError as error:
        raise Malformed(f'the body is neither {{"events": [...]}} nor one event: {error}') from None
    except msgspec.DecodeError as error:
        raise Malformed(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Malformed("the body is nested too deep") from None
    return [msgspec.Raw(body)]
