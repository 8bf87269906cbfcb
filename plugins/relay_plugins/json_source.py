"""The source type `json`: events from any sender, as an object, an array or lines."""

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
"""Integers that every JSON reader tells apart; larger ids would collide as floats."""

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
            """Yield `id_field` and `type_field` if they are the same."""
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
            return self._build([], Entries())
        if body.startswith(b"["):
            return self._decode_array(body)
        try:
            if not body.isascii():
                body.decode()
            decode_raw(body)
        except UNREADABLE as error:
            if not Walk(body).is_one_value():
                return self._decode_lines(body, why_unreadable(error))
        if is_utf8(body) and (decoded := self._decode_at_once([body])):
            return decoded
        decoded = self._decode_each([(1, body)], "entry")
        if decoded.unreadable:
            raise Malformed(decoded.unreadable[0].reason.replace("entry 1", "the body"))
        return decoded

    def _decode_array(self, body: bytes) -> Decoded:
        """Split an array at once; walk from element to element only if that fails."""
        try:
            entries = decode_array(body) if is_utf8(body) and not is_dense(body) else None
        except UNREADABLE:
            entries = None
        if entries is not None and (decoded := self._decode_at_once(entries)):
            return decoded
        return self._decode_each(enumerate(Walk(body).elements() if entries is None else entries, 1), "entry")

    def _decode_lines(self, body: bytes, why_not_one: str) -> Decoded:
        """Split NDJSON into events. `why_not_one`: why the body is not one value. Raises `Malformed`."""
        if b"\n" not in body:
            raise Malformed(f"the body is not JSON: {why_not_one}")
        if not is_dense(body, b"\n") and is_utf8(body) and (decoded := self._decode_at_once(LINE.findall(body))):
            return decoded
        decoded = self._decode_each(_number_lines(body), "line")
        if not decoded.bodies:
            raise Malformed(f"the body is not JSON ({why_not_one}), and as NDJSON: {decoded.unreadable[0].reason}")
        return decoded

    def _decode_at_once(self, entries: Sequence[Any]) -> Decoded | None:
        """Decode entries if every entry is an event; else return None."""
        try:
            return self._build([self._decode_head(entry) for entry in entries], Entries(entries))
        except UNREADABLE:
            return None

    def _decode_each(self, entries: Iterable[tuple[int, Any]], word: str) -> Decoded:
        """Decode numbered entries one by one. `word` names an entry in the reasons of unreadable entries."""
        return self._build(*read_entries(entries, self._decode_head, word, "event"))

    def _build(self, heads: list[Any], bodies: Entries, unreadable: Sequence[Unreadable] = ()) -> Decoded:
        kinds = [self._all_kinds[head.type] for head in heads]
        ids = [str(head.id) for head in heads] if self.settings.dedupe else None
        return Decoded(kinds, bodies, unreadable, ids)


def _number_lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers. Many blank lines cost next to nothing."""
    number, before = 1, 0
    for line in LINE.finditer(body):
        number += body.count(b"\n", before, line.start())
        before = line.start()
        yield number, line[0]
