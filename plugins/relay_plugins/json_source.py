"""The source type `json`: events from anywhere, one, several or line by line."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from relay.api import (
    UNREADABLE,
    Contradiction,
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
    why_unreadable,
)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What every JSON reader keeps apart; larger ids would collide as floats."""

LINE: Final = re.compile(rb"\S(?:[^\n]*\S)?")

decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Json(Source, type="json"):
    """Accepts JSON events from any sender: one object, an array of objects, or NDJSON.

    Each event needs a type and an id at its top level. An entry or line that is no event is parked under the source,
    and the other entries go on. A body that is no JSON, or of which no line is an event, is answered 400. Blank lines
    and an empty body do nothing.
    """

    class Settings(SourceSettings):
        """Where the events keep what relay needs: names of top-level fields."""

        id_field: str = Field("id", min_length=1)
        """Top-level field that holds the id of an event: a string or an integer."""
        type_field: str = Field("event_type", min_length=1)
        """Top-level field that holds the type of an event: a string."""
        time_field: str = Field("time", min_length=1)
        """Top-level field that holds the time of an event: Unix seconds or milliseconds, or ISO 8601. An event may lack
        it."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Two are the same."""
            if self.id_field == self.type_field:
                yield "id_field type_field", "id_field and type_field are the same field"

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        head = msgspec.defstruct(
            "Head",
            [("type", Name), ("id", Name | Number)],
            rename={"type": settings.type_field, "id": settings.id_field},
            gc=False,
        )
        self._decode_head = msgspec.json.Decoder(head).decode
        self._all_kinds = self.kinds(settings.id_field, settings.time_field)

    def decode(self, request: Request) -> Decoded:
        """Split a request body into events. Raises `Malformed`."""
        body = request.body.strip()
        if not body:
            return self._decoded([], Entries())
        if body.startswith(b"["):
            # Take an array apart at once; only if that fails look at each element
            try:
                entries = decode_array(body) if is_utf8(body) and not is_dense(body) else None
            except UNREADABLE:
                entries = None
            if entries is not None and (decoded := self._good(entries)):
                return decoded
            return self._each(enumerate(Walk(body).elements() if entries is None else entries, 1), "entry")
        reason = _why_no_value(body)
        return self._lines(body, reason) if reason and not Walk(body).is_one_value() else self._one(body)

    def _one(self, body: bytes) -> Decoded:
        if is_utf8(body) and (decoded := self._good([body])):
            return decoded
        found = self._each([(1, body)], "entry")
        if found.unreadable:
            raise Malformed(found.unreadable[0].reason.replace("entry 1", "the body"))
        return found

    def _lines(self, body: bytes, why_not_one: str) -> Decoded:
        if b"\n" not in body:
            raise Malformed(f"the body is not JSON: {why_not_one}")
        if not is_dense(body, b"\n") and is_utf8(body) and (decoded := self._good(LINE.findall(body))):
            return decoded
        found = self._each(_numbered_lines(body), "line")
        if not found.bodies:
            raise Malformed(f"the body is not JSON ({why_not_one}), and as NDJSON: {found.unreadable[0].reason}")
        return found

    def _good(self, entries: Sequence[Any]) -> Decoded | None:
        """The events, if every entry is one."""
        try:
            return self._decoded([self._decode_head(entry) for entry in entries], Entries(entries))
        except UNREADABLE:
            return None

    def _each(self, entries: Iterable[tuple[int, Any]], word: str) -> Decoded:
        return self._decoded(*read_entries(entries, self._decode_head, word, "event"))

    def _decoded(self, heads: list[Any], bodies: Entries, unreadable: Sequence[Unreadable] = ()) -> Decoded:
        kinds = [self._all_kinds[head.type] for head in heads]
        ids = [str(head.id) for head in heads] if self.settings.dedupe else None
        return Decoded(kinds, bodies, unreadable, ids)


def _why_no_value(body: bytes) -> str:
    """Why the decoder refuses a body; empty if it is a single value."""
    try:
        if not body.isascii():
            body.decode()
        decode_raw(body)
    except UNREADABLE as error:
        return why_unreadable(error)
    return ""


def _numbered_lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers. Blank ones cost next to nothing, however many there are."""
    number, before = 1, 0
    for line in LINE.finditer(body):
        number += body.count(b"\n", before, line.start())
        before = line.start()
        yield number, line[0]
