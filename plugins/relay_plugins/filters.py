"""The filter types `redact`, `keep`, `drop` and `sample`. All of them name a field by its dotted path."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b, sha256
from operator import call, is_
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from msgspec import Raw
from msgspec.json import encode
from pydantic import BeforeValidator, Field, PlainSerializer

from relay.api import Contradiction, Event, Filter, FilterSettings, Secret


def _steps(value: object) -> tuple[str, ...]:
    steps = tuple(value.split(".")) if isinstance(value, str) else ()
    if not all(steps) or not steps:
        raise ValueError(f'expected a dotted path such as "properties.email_address", got {value!r}')
    return steps


FieldPath = Annotated[
    tuple[str, ...],
    BeforeValidator(_steps, json_schema_input_type=str),
    PlainSerializer(".".join, return_type=str, when_used="json"),
]
"""Where a field is: names joined by dots; `*` stands for any name, or for any element of a list."""


def _keys(value: Any, step: str) -> Iterable[Any]:
    """The keys of an object or the numbers of a list that a step of a path leads to."""
    if isinstance(value, dict):
        return list(value) if step == "*" else [step] if step in value else []
    return range(len(value)) if step == "*" and isinstance(value, list) else []


def values_at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """All values that a path leads to."""
    if not path:
        yield value
        return
    for key in _keys(value, path[0]):
        yield from values_at(value[key], path[1:])


Change = Callable[[Raw], object]
"""Gives what comes in place of a value: JSON as Raw, or something to encode, or GONE; the same object for no change."""
GONE: Final = object()
_parts: Final = msgspec.json.Decoder(dict[str, Raw] | list[Raw]).decode


class _Name(str):
    """A name that equals no other: an object may have the same one twice."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


_all_parts: Final = msgspec.json.Decoder(dict[_Name, Raw] | list[Raw], dec_hook=call).decode


def at(paths: Iterable[tuple[str, ...]], change: Change) -> Change:
    """The change of whatever the paths lead to, as one of the whole value: all else stays as it is byte for byte. If an
    object has a name twice, the paths lead to both.

    That raises msgspec.DecodeError, which is a ValueError, for malformed JSON."""
    if () in paths:
        return change
    rest = {step: [path[1:] for path in paths if path[0] in (step, "*")] for step, *_ in paths}
    named = {step: at(following, change) for step, following in rest.items()}
    each = named.pop("*", None)
    needles = [_needle((name,)) for name in named]

    def changed(value: Raw) -> object:
        is_exact = each is not None or _may_repeat(value, needles)
        try:
            parts = _all_parts(value) if is_exact else _parts(value)
        except msgspec.ValidationError:  # neither an object nor a list: no path leads on from there
            return value
        if isinstance(parts, dict):
            return parts if _change_fields(parts, [*parts] if is_exact else named, named, each) else value
        return _elements(value, parts, each) if each else value

    return changed


def _may_repeat(value: Raw, needles: Iterable[bytes]) -> bool:
    """Whether an object may have one of these names twice: a quick look, for hardly any has."""
    text = memoryview(value).tobytes()
    for needle in needles:
        if text.count(needle) > 1:
            return True
    return b"\\u" in text


def _change_fields(
    fields: dict[Any, Any], names: Iterable[str], named: Mapping[str, Change], each: Change | None
) -> bool:
    """Change those of these names, in place; whether there was any to change."""
    is_changed = False
    for name in names:
        change, old = named.get(str(name)) or each, fields.get(name)
        if change is None or old is None or (new := change(old)) is old:
            continue
        is_changed, fields[name] = True, new
        if new is GONE:
            del fields[name]
    return is_changed


def _elements(value: Raw, parts: Sequence[Raw], each: Change) -> object:
    new = [*map(each, parts)]
    is_same = all(map(is_, new, parts))
    return value if is_same else [one for one in new if one is not GONE]


def _needle(path: tuple[str, ...]) -> bytes:
    """Bytes without which an event cannot hold the path, unless it writes names with \\u escapes."""
    name = next((step for step in reversed(path) if step != "*"), "")
    has_only_one_spelling = name and name.isprintable() and not any(character in name for character in '"\\/')
    return f'"{name}"'.encode() if has_only_one_spelling else b""


class Redact(Filter, type="redact"):
    """Removes, masks or hashes fields. An event that has none of them passes with the bytes it came with."""

    class Settings(FilterSettings):
        """Which fields, and what becomes of them."""

        fields: tuple[FieldPath, ...] = Field(min_length=1)
        action: Literal["remove", "mask", "hash"] = "remove"
        mask: str = "[REDACTED]"
        """What `mask` puts in place of the value; Braze's own redaction writes the same."""
        salt: Secret | None = None
        """What `hash` (SHA-256 in hex) puts before the value: without it, hashes of e-mail addresses can be guessed."""

        def contradictions(self) -> Iterator[Contradiction]:
            """What an action has no use for."""
            for option, action in (("mask", "mask"), ("salt", "hash")):
                if option in self.model_fields_set and self.action != action:
                    yield f"{option} action", f'{option} is for action = "{action}" only, and action is "{self.action}"'

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._needles = {_needle(path) for path in settings.fields}
        salt = settings.salt.reveal().encode() if settings.salt else b""
        actions: dict[str, Change] = {
            "remove": lambda value: GONE,
            "mask": lambda value: settings.mask,
            "hash": lambda value: sha256(salt + _text(orjson.loads(memoryview(value)))).hexdigest(),
        }
        self._change = at(settings.fields, actions[settings.action])

    def apply(self, event: Event) -> Event:
        """Return the event without the fields' content, everything else as it came. Raises ValueError for an event that
        cannot be decoded."""
        body = event.body
        for needle in self._needles:
            if needle in body:
                break
        else:
            if b"\\u" not in body:
                return event
        raw = Raw(body)
        new = self._change(raw)
        return event if new is raw else event.with_body(encode(new))


def _text(value: Any) -> bytes:
    """What is hashed of a value: a string's own characters, the JSON of anything else."""
    return value.encode() if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


Scalar = str | bool | int | float


class Condition(FilterSettings):
    """A field and one test of it. A path with `*` passes the test if any of its values does."""

    field: FieldPath
    """`event_type`, or a dotted path."""
    equals: Scalar | None = None
    in_: tuple[Scalar, ...] | None = Field(None, alias="in", min_length=1)
    """Equal to one of these."""
    glob: str | None = None
    """A string such as "*@example.com"; upper and lower case differ."""
    exists: bool | None = None
    """true: the field is there and not null; false: it is not."""

    def contradictions(self) -> Iterator[Contradiction]:
        """There is one test."""
        given = [test for test in (self.equals, self.in_, self.glob, self.exists) if test is not None]
        if len(given) != 1:
            yield "equals in glob exists", f"give exactly one of equals, in, glob or exists, not {len(given)}"

    def holds(self) -> Callable[[Event], bool]:
        """The condition as a function of an event."""
        values = self._values
        if self.exists is not None:
            return lambda event: any(value is not None for value in values(event)) is self.exists
        if self.glob is not None:
            match = re.compile(fnmatch.translate(self.glob)).match
            return lambda event: any(isinstance(value, str) and match(value) is not None for value in values(event))
        wanted = {_typed(value) for value in ((self.equals,) if self.in_ is None else self.in_)}
        return lambda event: any(_typed(value) in wanted for value in values(event))

    def _values(self, event: Event) -> Iterator[Any]:
        return iter((event.type,)) if self.field == ("event_type",) else values_at(event.data, self.field)


def _typed(value: Any) -> tuple[bool, Any]:
    """A value to compare by: in JSON true is not 1, and objects and lists equal nothing here."""
    return isinstance(value, bool), None if isinstance(value, dict | list) else value


class Keep(Filter, type="keep"):
    """Keeps the events for which the condition holds, and drops the others."""

    Settings = Condition

    def __init__(self, name: str, settings: Condition) -> None:
        super().__init__(name, settings)
        self._holds = settings.holds()

    def apply(self, event: Event) -> Event | None:
        """Return the event or None."""
        return event if self._holds(event) else None


class Drop(Keep, type="drop"):
    """Drops the events for which the condition holds, and keeps the others."""

    def apply(self, event: Event) -> Event | None:
        """Return the event or None."""
        return None if self._holds(event) else event


class Sample(Filter, type="sample"):
    """Keeps a share of the events, and of one key all or none: by default the same users, event after event."""

    class Settings(FilterSettings):
        """How much, and by what."""

        rate: float = Field(ge=0, le=1)
        """The share that is kept: 0 nothing, 1 everything."""
        key: FieldPath = ("user", "user_id")
        """What decides. Events without it are sampled one by one, by their id."""
        seed: str = ""
        """Samples with different seeds choose independently of each other."""

    settings: Settings

    def apply(self, event: Event) -> Event | None:
        """Return the event or None."""
        found = (value for value in values_at(event.data, self.settings.key) if value is not None)
        key = next(found, None)
        digest = blake2b(f"{self.settings.seed}\0{event.id if key is None else key}".encode(), digest_size=8).digest()
        return event if int.from_bytes(digest, "big") < self.settings.rate * 2**64 else None
