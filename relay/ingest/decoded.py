"""Checks that a source's `decode` keeps its contract, before anything gets into the journal.

Bodies that relay's own functions have read (`Entries`) are taken as they are. All others are read again, and copied if
they can change. Pure, apart from the set of known kinds.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

import msgspec

from relay.api import UNREADABLE, Decoded, Entries, Kind, Unreadable, why_unreadable
from relay.api.internal import KINDS_REMEMBERED, TYPE_CHARS, read_entry
from relay.guests import Wrong, describe_answer
from relay.words import format_count

UNREADABLE_AT_MOST: Final = 10_000
"""Entries of one request that may be parked one by one. `read_entries` refuses a body earlier."""
COPIED: Final = (bytes, bytearray, memoryview, msgspec.Raw)


class _Object(msgspec.Struct):
    """Any JSON object, without its fields."""


_read_object: Final = msgspec.json.Decoder(_Object).decode


def check_decoded(decoded: Decoded, source: str, known: set[Kind], fresh: list[str]) -> Decoded:
    """Check what a source's `decode` returned, and return it with copies of changeable parts. Raises Wrong.

    `known`: kinds that passed before. New good kinds are added to it, and their types to `fresh`.
    """
    if type(decoded) is not Decoded:
        raise Wrong(f"decode returned {describe_answer(decoded)}, not Decoded")
    kinds, bodies, unreadable, ids, subject = decoded
    if type(bodies) is not Entries or type(kinds) is not list:
        kinds = _check_list("kinds", kinds)
        bodies = [
            _check_body(body, number) for body, number in zip(_check_list("bodies", bodies), count(1), strict=False)
        ]
        decoded = Decoded(kinds, bodies, unreadable, ids, subject)
    if len(kinds) != len(bodies):
        raise Wrong(f"decode returned {format_count(len(kinds), 'kind')} for {len(bodies)} bodies")
    try:
        if not known.issuperset(kinds):
            _check_kinds(dict.fromkeys(kinds), source, known, fresh)
    except TypeError:  # what cannot be in a set is no Kind
        raise Wrong("decode returned a kind that is no Kind: use self.kind(type)") from None
    if ids is not None:
        _check_ids(ids, len(bodies))
    if unreadable:
        _check_unreadable(_check_list("unreadable", unreadable))
    if subject is not None:
        _check_text("subject", subject)
    return decoded


def _check_kinds(kinds: Iterable[Kind], source: str, known: set[Kind], fresh: list[str]) -> None:
    for kind in kinds:
        if kind in known:
            continue
        if not isinstance(kind, Kind):
            raise Wrong(f"decode returned {describe_answer(kind)} as a kind, not what self.kind(type) gives")
        if kind.source != source:
            raise Wrong("decode returned a kind of another source: use self.kind(type)")
        for word, text in (("type", kind.type), ("id_field", kind.id_field), ("time_field", kind.time_field)):
            _check_text(f"{word} of a kind", text, TYPE_CHARS)
        if len(known) >= KINDS_REMEMBERED:
            known.clear()
        known.add(kind)
        fresh.append(kind.type)


def _check_ids(ids: Sequence[str], events: int) -> None:
    ids = _check_list("ids", ids)
    if len(ids) != events:
        raise Wrong(f"decode returned {format_count(len(ids), 'id')} for {events} bodies")
    try:
        "".join(ids).encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise Wrong(f"decode returned ids that are no text: {error}") from None
    if "" in ids:
        raise Wrong("decode returned an empty id")


def _check_unreadable(unreadable: Sequence[Unreadable]) -> None:
    if len(unreadable) > UNREADABLE_AT_MOST:
        raise Wrong(f"decode returned {len(unreadable):,} unreadable entries: {UNREADABLE_AT_MOST:,} at most")
    for one in unreadable:
        if not isinstance(one, Unreadable) or not isinstance(one.body, bytes):
            raise Wrong(f"decode returned {describe_answer(one)} as unreadable, not Unreadable(bytes, reason)")
        _check_text("reason of an Unreadable", one.reason)


def _check_text(what: str, text: Any, most: int | None = None) -> None:
    if not isinstance(text, str):
        raise Wrong(f"decode returned {describe_answer(text)} for the {what}, not a text")
    if most is not None and not 0 < len(text) <= most:
        raise Wrong(f"decode returned a {what} of {len(text)} characters: it has 1 to {most}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Wrong(f"decode returned a {what} with half a character (an unpaired surrogate)") from None


def _check_body(body: Any, number: int) -> bytes:
    if not isinstance(body, COPIED):
        raise Wrong(f"decode returned {describe_answer(body)} as body {number}, not bytes")
    content = body if type(body) is bytes else bytes(body)
    try:
        read_entry(content, _read_object)
    except UNREADABLE as error:
        raise Wrong(f"decode returned a body that is no JSON object (body {number}): {why_unreadable(error)}") from None
    return content


def _check_list(what: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise Wrong(f"decode returned {describe_answer(values)} for {what}, not a list")
    return list(values)
