"""The source type `json`: events from anywhere, one, several or line by line."""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from relay.api import Contradiction, Decoded, Malformed, Source, SourceSettings, Unreadable, check_utf8

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What every JSON reader keeps apart; larger ids would collide as floats."""

NOT_JSON: Final = (msgspec.DecodeError, RecursionError)

decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Json(Source, type="json"):
    """Takes JSON objects; each needs a type (a string) and an id (a string or an integer) at its top level.

    The shape shows in the body: `[{...}, {...}]` is a list of events, `{...}` one event, several lines that each
    hold an object are NDJSON (blank lines are skipped). An entry or line that is no event is unreadable and the rest
    goes on; a body that is no JSON, or lines of which none is an event, are malformed. An empty body does nothing.
    """

    class Settings(SourceSettings):
        """Where the events keep what relay needs: names of top-level fields."""

        id_field: str = Field("id", min_length=1)
        type_field: str = Field("event_type", min_length=1)
        time_field: str = Field("time", min_length=1)
        """Unix seconds or milliseconds, or ISO 8601; events may lack it."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Two are the same."""
            if self.id_field == self.type_field:
                yield "id_field type_field", "id_field and type_field are the same field"

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._decode_head = _head_decoder(settings.type_field, settings.id_field)

    def decode(self, body: bytes) -> Decoded:
        """Split a request body into events. Raises `Malformed`."""
        body = body.strip()
        if not body:
            return Decoded((), ())
        check_utf8(body)
        if body.startswith(b"["):
            return self._array(body)
        try:
            decode_raw(body)
        except NOT_JSON as error:
            return self._lines(body, _why(error))
        return self._one(body)

    def _array(self, body: bytes) -> Decoded:
        try:
            entries = decode_array(body)
        except NOT_JSON as error:
            raise Malformed(f"the body is not JSON: {_why(error)}") from None
        return self._split((f"entry {number}", entry) for number, entry in enumerate(entries, 1))

    def _one(self, body: bytes) -> Decoded:
        found = self._split([("the body", body)])
        if found.unreadable:
            raise Malformed(found.unreadable[0].reason)
        return found

    def _lines(self, body: bytes, why_not_one: str) -> Decoded:
        if b"\n" not in body:
            raise Malformed(f"the body is not JSON: {why_not_one}")
        lines = ((f"line {number}", line.strip()) for number, line in enumerate(body.split(b"\n"), 1))
        found = self._split((where, line) for where, line in lines if line)
        if not found.bodies:
            raise Malformed(f"the body is not JSON ({why_not_one}), and as NDJSON: {found.unreadable[0].reason}")
        return found

    def _split(self, entries: Iterable[tuple[str, Any]]) -> Decoded:
        settings, decode_head, kind = self.settings, self._decode_head, self.kind
        heads, kinds, bodies, unreadable = [], [], [], []
        for where, entry in entries:
            try:
                head = decode_head(entry)
            except NOT_JSON as error:
                unreadable.append(Unreadable(bytes(entry), f"{where} is no event: {_why(error)}"))
                continue
            heads.append(head)
            kinds.append(kind(head.type, settings.id_field, settings.time_field))
            bodies.append(entry)
        return Decoded(kinds, bodies, unreadable, [str(head.id) for head in heads] if settings.dedupe else None)


def _head_decoder(type_field: str, id_field: str) -> Callable[[Any], Any]:
    head = msgspec.defstruct(
        "Head", [("type", Name), ("id", Name | Number)], rename={"type": type_field, "id": id_field}, gc=False
    )
    return msgspec.json.Decoder(head).decode


def _why(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)
