"""The source type `currents`: Braze Currents as the "Custom Currents Export" (also "Heap Export") sends it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Final

import msgspec

from relay.api import (
    LARGE,
    Decoded,
    Entries,
    Malformed,
    Request,
    Source,
    SourceSettings,
    Unreadable,
    Walk,
    is_dense,
    is_utf8,
    read_entries,
)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
DISABLED_AFTER_S: Final = 5 * 86400.0
"""Braze disables a Current after more than 5 days of failure. (Braze docs, Custom Currents Export.)"""
NEITHER: Final = 'the body has neither "events" nor "event_type"'


class Head(msgspec.Struct, gc=False):
    """The fields that relay reads of an event on its way in. All other fields pass unread."""

    event_type: Name
    id: Name


class Envelope(msgspec.Struct):
    """The body of a request. Without `events` the body may still be a single event."""

    events: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    event_type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


decode_head = msgspec.json.Decoder(Head).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode


class Currents(Source, type="currents"):
    """Accepts Braze Currents: `{"events": [...]}` with any number of events, or a single event.

    Each event needs `event_type` and `id`, strings of 1 to 256 characters. relay parks an entry of the list that is no
    event, and accepts the other entries. relay answers 400 to any other body. Empty bodies and empty lists are Braze's
    probes of the token, and do nothing. Unknown event types and fields pass, and so do unpaired surrogate escapes.
    """

    # Braze docs, Custom Currents Export: all of the above
    catalogued: ClassVar[bool] = True
    disabled_after: ClassVar[float | None] = DISABLED_AFTER_S

    def __init__(self, name: str, settings: SourceSettings) -> None:
        super().__init__(name, settings)
        self._all_kinds = self.kinds()

    def decode(self, request: Request) -> Decoded:
        """Split a request body into events. Raises `Malformed`."""
        body = request.body.strip()
        if not body:
            return self._build([], Entries())
        entries = _split(body)
        try:
            if entries is not None:
                # Decode all entries at once, if all of them are events
                kinds = self._all_kinds
                if not self.settings.dedupe:
                    return Decoded([kinds[decode_head(entry).event_type] for entry in entries], Entries(entries))
                return self._build([decode_head(entry) for entry in entries], Entries(entries))
        except msgspec.ValidationError:
            pass
        each = _walk_entries(body) if entries is None else entries
        return self._build(*read_entries(enumerate(each, 1), decode_head, "entry", "Currents event"))

    def _build(self, heads: list[Head], bodies: Entries, unreadable: Sequence[Unreadable] = ()) -> Decoded:
        kinds = [self._all_kinds[head.event_type] for head in heads]
        return Decoded(kinds, bodies, unreadable, [head.id for head in heads] if self.settings.dedupe else None)


def _split(body: bytes) -> list[msgspec.Raw] | None:
    """Split a body into entries without reading them; return None if only a walk over each entry can. Raises
    `Malformed` for a body that is neither an envelope nor an event."""
    try:
        if (len(body) > LARGE and is_dense(body)) or not (body.isascii() or is_utf8(body)):
            return None
        envelope = decode_envelope(body)
        if envelope.events is not msgspec.UNSET:
            return envelope.events
        if envelope.event_type is msgspec.UNSET:
            raise Malformed(NEITHER)
        decode_head(body)
    except msgspec.ValidationError as error:
        raise Malformed(f'the body is neither {{"events": [...]}} nor one event: {error}') from None
    except (msgspec.DecodeError, RecursionError):
        return None
    return [msgspec.Raw(body)]


def _walk_entries(body: bytes) -> Iterator[memoryview]:
    """Yield the entries of a body that the decoder refuses. Raises `Malformed`, and ValueError at a place that is no
    JSON."""
    walk, is_event, is_envelope = Walk(body), False, False
    for name, at in walk.members():
        if name == b"events":
            is_envelope = True
            yield from walk.elements(at)
        is_event = is_event or name == b"event_type"
    if not is_event and not is_envelope:
        raise Malformed(NEITHER)
    if not is_envelope:
        yield memoryview(body)
