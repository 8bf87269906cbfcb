"""What `decode` gives is looked at before anything of it is kept."""

from array import array
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.api import Decoded, Entries, Kind, Request, Source, SourceSettings, Unreadable, read_entries
from relay.api.source import KINDS_REMEMBERED
from relay.guests import Wrong
from relay.ingest.decoded import check_decoded
from relay.ingest.problem import Problem
from relay.ingest.source_calls import SourceCalls
from tests.deep import TOO_MANY_LEVELS

GOOD = Kind("mine", "order.New")
BODY = b'{"id": "7"}'


def look(decoded: Any, known: set[Kind] | None = None) -> Decoded:
    return check_decoded(decoded, "mine", set() if known is None else known, [])


async def later() -> Decoded:
    return Decoded([GOOD], [BODY])


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: None, "returned None, not Decoded"),
    (lambda: ([GOOD], [BODY]), "an object of the type tuple"),
    (lambda: [BODY], "an object of the type list"),
    (later, "a coroutine"),
    (lambda: Decoded([GOOD], [BODY, BODY]), "1 kind for 2 bodies"),
    (lambda: Decoded([GOOD], Entries([BODY, BODY])), "1 kind for 2 bodies"),
    (lambda: Decoded([GOOD, GOOD], [BODY]), "2 kinds for 1 bodies"),
    (lambda: Decoded([], [BODY]), "0 kinds"),
    (lambda: Decoded(None, [BODY]), "None for kinds"),
    (lambda: Decoded("k", [BODY]), "type str for kinds"),
    (lambda: Decoded([GOOD], None), "None for bodies"),
    (lambda: Decoded([GOOD], (one for one in [BODY])), "type generator for bodies"),
    (lambda: Decoded([GOOD] * 11, BODY), "type bytes for bodies"),
    (lambda: Decoded([GOOD], [{"id": "7"}]), "type dict as body 1"),
    (lambda: Decoded([GOOD], ['{"id": "7"}']), "type str as body 1"),
    (lambda: Decoded([GOOD], [array("I", [1, 2])]), "type array as body 1"),
    (lambda: Decoded([GOOD], [None]), "None as body 1"),
    (lambda: Decoded([GOOD] * 2, [BODY, b"[1]"]), r"no JSON object \(body 2\)"),
    (lambda: Decoded([GOOD], [b"7"]), "no JSON object"),
    (lambda: Decoded([GOOD], [b""]), "no JSON object"),
    (lambda: Decoded([GOOD], [b'{"id":']), "no JSON object"),
    (lambda: Decoded([GOOD], [BODY + b"," + BODY]), "no JSON object"),
    (lambda: Decoded([GOOD], [BODY + b"\n" + BODY]), "no JSON object"),
    (lambda: Decoded([GOOD], [b'{"id": "\xff"}']), "no JSON object"),
    (lambda: Decoded([GOOD], [b'{"a":' * TOO_MANY_LEVELS + b"1" + b"}" * TOO_MANY_LEVELS]), "nested too deep"),
    (lambda: Decoded(["order.New"], [BODY]), "type str as a kind"),
    (lambda: Decoded([None], [BODY]), "None as a kind"),
    (lambda: Decoded([{}], [BODY]), "no Kind"),
    (lambda: Decoded([{}], Entries([BODY])), "no Kind|raised TypeError"),
    (lambda: Decoded([Kind("other", "order.New")], [BODY]), "of another source"),
    (lambda: Decoded([Kind("", "relay.erased")], [BODY]), "of another source"),
    (lambda: Decoded([Kind("mine", "")], [BODY]), "of 0 characters"),
    (lambda: Decoded([Kind("mine", "t" * 257)], [BODY]), "of 257 characters"),
    (lambda: Decoded([Kind("mine", "half \ud83d")], [BODY]), "half a character"),
    (lambda: Decoded([Kind("mine", 7)], [BODY]), "type int for the type of a kind"),  # type: ignore[arg-type]
    (lambda: Decoded([Kind("mine", "t", None)], [BODY]), "None for the id_field"),  # type: ignore[arg-type]
    (lambda: Decoded([GOOD], [BODY], ids=[]), "0 ids for 1 bodies"),
    (lambda: Decoded([], [], [Unreadable(b"", "no event")] * 10_001), "10,001 unreadable entries"),
    (lambda: Decoded([GOOD], Entries([BODY]), ids=["7", "8"]), "2 ids for 1 bodies"),
    (lambda: Decoded([GOOD], Entries([BODY]), ids=[7]), "ids that are no text"),
    (lambda: Decoded([GOOD], Entries([BODY]), ids=["\ud83d"]), "ids that are no text"),
    (lambda: Decoded([GOOD], Entries([BODY]), ids=[""]), "an empty id"),
    (lambda: Decoded([GOOD], Entries([BODY]), ids="7"), "type str for ids"),
    (lambda: Decoded([GOOD], Entries([BODY]), ["bad"]), "as unreadable"),
    (lambda: Decoded([], Entries(), [Unreadable("text", "no event")]), "as unreadable"),  # type: ignore[arg-type]
    (lambda: Decoded([], Entries(), [Unreadable(b"", None)]), "reason of an Unreadable"),  # type: ignore[arg-type]
    (lambda: Decoded([], Entries(), [Unreadable(b"", "\ud83d")]), "half a character"),
    (lambda: Decoded([GOOD], Entries([BODY]), ids=["7"], subject=7), "for the subject"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("made", "said"), WRONG)
def test_what_is_not_as_agreed_is_refused(made: Callable[[], Any], said: str) -> None:
    with pytest.raises(Wrong, match=said):
        look(made())


class Mine(Source):
    """Gives what a test has it give."""

    gives: Callable[[], Any]

    def decode(self, request: Request) -> Decoded:
        decoded: Decoded = self.gives()
        return decoded


@pytest.mark.parametrize(("made", "said"), WRONG)
def test_it_is_refused_as_well_where_the_same_kind_was_good_before(made: Callable[[], Any], said: str) -> None:
    mine = Mine("mine", SourceSettings.model_validate({"type": "mine", "path": "/mine"}))
    calls = SourceCalls(mine)
    for read in (calls.read, calls.read_in_thread):
        mine.gives = lambda: Decoded([GOOD], Entries([BODY]))
        assert read(Request()) == Decoded([GOOD], [BODY])
        mine.gives = made
        with pytest.raises(Problem, match=said) as raised:
            read(Request())
        assert raised.value.status == 500


@pytest.mark.parametrize("known", [set(), {GOOD}])
def test_an_odd_kind_is_found_also_beside_known_ones(known: set[Kind]) -> None:
    for odd in (None, 7, "order.New", [], Kind("other", "order.New")):
        with pytest.raises(Wrong):
            look(Decoded([GOOD, odd], Entries([BODY, BODY])), known)  # type: ignore[list-item]


@pytest.mark.parametrize("kind", [bytearray, memoryview, msgspec.Raw, bytes])
def test_bodies_may_be_views_and_nobody_changes_them_any_more(kind: Callable[[bytes], Any]) -> None:
    """Also events that decoders refuse and relay takes: with an unpaired surrogate."""
    for body in (BODY, b'{"id": "7", "cut": "\\ud83d"}', b' {"id": "7"}\n'):
        given = kind(body)
        found = look(Decoded((GOOD,), (given,)))
        if isinstance(given, bytearray):
            given[:2] = b"[["
        assert found == Decoded([GOOD], [body])
        assert type(found.bodies[0]) is bytes


def test_what_a_decoder_has_read_is_taken_as_it_is() -> None:
    class Head(msgspec.Struct):
        id: str

    heads, bodies, odd = read_entries(enumerate([BODY, b"7"], 1), msgspec.json.Decoder(Head).decode, "entry", "event")
    decoded = Decoded([GOOD] * len(heads), bodies, odd)
    assert look(decoded) is decoded
    assert type(bodies) is Entries


def test_kinds_that_are_good_are_remembered_and_not_without_end() -> None:
    known: set[Kind] = set()
    fresh: list[str] = []
    for number in range(2 * KINDS_REMEMBERED):
        check_decoded(Decoded([Kind("mine", str(number))], Entries([BODY])), "mine", known, fresh)
    assert len(known) <= KINDS_REMEMBERED
    assert fresh == [str(number) for number in range(2 * KINDS_REMEMBERED)]


@given(st.recursive(st.none() | st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner, max_size=3)))
def test_whatever_decode_gives_it_is_taken_or_wrong(value: Any) -> None:
    for decoded in (value, Decoded(value, value), Decoded([GOOD], [value]), Decoded([value], [BODY], ids=value)):
        try:
            found = look(decoded)
        except Wrong:
            continue
        assert len(found.kinds) == len(found.bodies)
        assert all(kind is GOOD for kind in found.kinds)
