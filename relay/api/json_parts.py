"""Takes JSON apart where the decoder refuses the whole of it: into entries, each of which can be judged by itself.

Only brackets and strings are looked at, so that a broken entry stays with itself. Everything is linear in the bytes:
regular expressions that never go back do the work, and a budget ends what is nested without end.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
TOKEN: Final = rb'[^"\[\]{}]++|' + STRING
NESTED: Final = 10
"""Levels that one regular expression takes in; what is deeper is counted bracket by bracket."""
STEPS, STEP_BYTES = 100_000, 32
"""So many brackets are counted in one body, and one more for every so many bytes of it."""
PORTION: Final = 4096
"""Tokens that are passed over without a break."""


def _make_pattern(levels: int) -> bytes:
    """Make the pattern of everything between two brackets, for so many levels."""
    return TOKEN + (rb"|[\[{](?:" + _make_pattern(levels - 1) + rb")*+[\]}]" if levels else b"")


_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_SHALLOW: Final = re.compile(
    rb"[\[{](?:" + _make_pattern(NESTED) + rb")*+[\]}]|" + STRING + rb'|[^\s,:\[\]{}"]++', re.DOTALL
)
_STEP: Final = re.compile(rb"(?:" + _make_pattern(NESTED) + rb"){0,%d}+([\[\]{}])?+" % PORTION, re.DOTALL)
_KEY: Final = re.compile(rb"[ \t\n\r]*+(" + STRING + rb")[ \t\n\r]*+:[ \t\n\r]*+", re.DOTALL)
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE: Final = re.compile(
    rb"((?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|" + _HIGH + _LOW + rb")*+)(" + _HIGH + rb"|" + _LOW + rb")?+", re.DOTALL
)
REPLACEMENT: Final = rb"\ufffd"
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)
"""The exceptions that decoding an entry may raise."""

LARGE: Final = 256 << 10
"""Bytes up to which the number of entries in a body does not matter."""
DENSE_BYTES: Final = 24
"""Events of which a comma comes more often than every so many bytes are rare. Junk is denser."""


class Walk:
    """A walk over one JSON body in a bounded number of steps. Raises ValueError where the body is no JSON."""

    def __init__(self, body: bytes) -> None:
        self._body, self._view = body, memoryview(body)
        self._steps = STEPS + len(body) // STEP_BYTES
        self._known: tuple[int, int] | None = None
        """Where the array that was walked through last begins and ends."""

    def elements(self, at: int | None = None) -> Iterator[memoryview]:
        """Yield the elements of the array that begins at byte `at`; by default the body is the array. Raises
        ValueError."""
        end, more = self._enter(at or 0, b"[", b"]")
        while more:
            start = _skip_space(self._body, end)
            end = self._find_end(start)
            yield self._view[start:end]
            end, more = self._pass_separator(end, b"]")
        if at is None:
            self._check_end(end)
        else:
            self._known = at, end

    def members(self) -> Iterator[tuple[bytes, int]]:
        """Yield for each member of the object that is the body its name, as written, and the byte at which its value
        begins. Raises ValueError."""
        at, more = self._enter(0, b"{", b"}")
        while more:
            key = _KEY.match(self._body, at)
            if key is None:
                raise ValueError(f"a name and a colon are expected at byte {at}")
            yield key[1][1:-1], key.end()
            at, more = self._pass_separator(self._find_end(key.end()), b"}")
        self._check_end(at)

    def object(self, at: int = 0) -> dict[bytes, memoryview]:
        """Return the members of the object that begins at byte `at`; of several with one name the last. Raises
        ValueError."""
        at = _skip_space(self._body, at)
        inner = Walk(self._body[at : self._find_end(at)])
        return {name: inner._view[start : inner._find_end(start)] for name, start in inner.members()}

    def is_one_value(self) -> bool:
        """Return whether the body is a single value, as far as brackets and strings tell."""
        try:
            return self._find_end(0) == len(self._body)
        except ValueError:
            return False

    def _enter(self, at: int, opening: bytes, closing: bytes) -> tuple[int, bool]:
        """Pass an opening bracket. Return the next position, and whether a value follows. Raises ValueError."""
        at = _skip_space(self._body, at)
        if self._body[at : at + 1] != opening:
            raise ValueError(f"{opening.decode()} is expected at byte {at}")
        at = _skip_space(self._body, at + 1)
        return (at + 1, False) if self._body[at : at + 1] == closing else (at, True)

    def _pass_separator(self, at: int, closing: bytes) -> tuple[int, bool]:
        """Pass a comma or closing bracket. Return the next position, and whether a value follows. Raises ValueError."""
        at = _skip_space(self._body, at)
        found = self._body[at : at + 1]
        if found not in (b",", closing) or not found:
            raise ValueError(f"a comma or {closing.decode()} is expected at byte {at}")
        return at + 1, found == b","

    def _check_end(self, at: int) -> None:
        if (at := _skip_space(self._body, at)) != len(self._body):
            raise ValueError(f"it goes on after its end, at byte {at}")

    def _find_end(self, start: int) -> int:
        """Return the end of the value that begins at byte `start`. Raises ValueError."""
        if self._known and self._known[0] == start:
            return self._known[1]
        found = _SHALLOW.match(self._body, start, start + LARGE)
        if found and found.end() < start + LARGE:
            return found.end()
        if self._body[start : start + 1] in (b"[", b"{"):
            # Find the end of a deep array or object by its brackets
            depth, at = 1, start + 1
            while depth:
                found = _STEP.match(self._body, at, at + LARGE)
                if found and found.end() == at:
                    found = _STEP.match(self._body, at)  # a long string
                if found is None or found.end() == at:
                    raise ValueError(f"what begins at byte {start} does not end")
                at = found.end()
                if found[1]:
                    self._steps -= 1
                    depth += 1 if found[1] in (b"[", b"{") else -1
                if self._steps < 0:
                    raise ValueError("it is nested too deep")
            return at
        found = _SHALLOW.match(self._body, start)
        if found is None:
            raise ValueError(f"a value is expected at byte {start}")
        return found.end()


def _skip_space(body: bytes, at: int) -> int:
    """Return the position after white space."""
    found = _SPACE.match(body, at)
    return at if found is None else found.end()


def is_dense(body: bytes, between: bytes = b",") -> bool:
    """Return whether a body is so large and has so many separators that decoding it at once takes too long."""
    return len(body) > LARGE and body.count(between) * DENSE_BYTES > len(body)


def is_utf8(body: bytes) -> bool:
    """Return whether a body is UTF-8. msgspec does not look into parts that it skips."""
    try:
        return body.isascii() or body.decode() is not None
    except UnicodeDecodeError:
        return False


def without_surrogates(entry: bytes) -> bytes:
    r"""Replace each unpaired surrogate escape by `\ufffd`, as decoders refuse such escapes. Lengths stay the same."""
    return _LONE.sub(lambda found: found[1] + REPLACEMENT if found[2] else found[1], entry)


def read_entry(entry: Any, decode: Callable[[Any], T]) -> T:
    """Read an entry with `decode`, a msgspec decoder of a struct. Other fields may hold unpaired surrogates.

    Raises one of UNREADABLE. None of the fields that are read may have such a surrogate."""
    str(entry, "utf-8")
    try:
        return decode(entry)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        tame = without_surrogates(entry := bytes(entry))
        if tame == entry:
            raise
        read = decode(tame)
        if any(isinstance(value, str) and "\ufffd" in value for value in msgspec.structs.astuple(read)):  # type: ignore[arg-type]
            raise ValueError("its type or id holds an unpaired surrogate") from None
        return read


def value_in(entry: bytes, path: Sequence[str]) -> Any:
    """Return the value at a path of names in an event that cannot be decoded as a whole; None if there is none."""
    part: Any = without_surrogates(entry)
    try:
        for name in path:
            part = _decode_members(part)[name]
        return msgspec.json.decode(part)
    except (*UNREADABLE, LookupError):
        return None


def why_unreadable(error: Exception) -> str:
    """Return in words what is wrong with an entry that raised one of UNREADABLE."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason} at byte {error.start}"
    return str(error)
