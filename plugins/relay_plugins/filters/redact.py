"""The filter type `redact`: removes fields. All other bytes of an event stay as they came."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from operator import call, is_
from typing import Any, Final, Literal

import msgspec
import orjson
from msgspec import Raw
from msgspec.json import encode
from pydantic import Field

from relay.api import Contradiction, Event, Filter, FilterSettings, Secret
from relay_plugins.filters.field import FieldPath

Change = Callable[[Raw], object]
"""Returns the replacement of a value: Raw JSON, or an object to encode, or REMOVED; the same object for no change."""
REMOVED: Final = object()
_decode_parts: Final = msgspec.json.Decoder(dict[str, Raw] | list[Raw]).decode


class _Name(str):
    """A name that equals no other name: an object may have the same name twice."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


_decode_all_parts: Final = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=call).decode


def make_change(paths: Iterable[tuple[str, ...]], change: Change) -> Change:
    """Make a change of a whole value from a change of the values at some paths. All other bytes stay. If an object has
    a name twice, a path leads to both values.

    The change raises msgspec.DecodeError, which is a ValueError, for malformed JSON.
    """
    if () in paths:
        return change
    rest = {step: [path[1:] for path in paths if path[0] in (step, "*")] for step, *_ in paths}
    named = {step: make_change(following, change) for step, following in rest.items()}
    each = named.pop("*", None)
    usual = [*named.items()]

    def change_value(value: Raw) -> object:
        try:
            parts = _decode_parts(value)
        except msgspec.ValidationError:  # neither an object nor a list: no path leads further
            return value
        if isinstance(parts, list):
            if each is None:
                return value
            new = [*map(each, parts)]
            return value if all(map(is_, new, parts)) else [part for part in new if part is not REMOVED]
        is_whole = len(encode(parts)) == memoryview(value).nbytes
        if is_whole and not each:
            return parts if _change_fields(parts, usual) else value
        # a value that is not whole has blanks, or a name twice: `parts` has only the last value of that name
        fields: dict[Any, Any] = parts if is_whole else _decode_all_parts(value)
        ways = [(name, way) for name in fields if (way := named.get(str(name), each))]
        return fields if _change_fields(fields, ways) else value

    return change_value


def _change_fields(fields: dict[Any, Any], ways: Iterable[tuple[str, Change]]) -> bool:
    """Change the fields with these names in place; return whether any has changed."""
    is_changed = False
    for name, change in ways:
        old = fields.get(name)
        if old is None or (new := change(old)) is old:
            continue
        is_changed, fields[name] = True, new
        if new is REMOVED:
            del fields[name]
    return is_changed


class Redact(Filter, type="redact"):
    """Removes, masks or hashes fields. All else in an event stays as it came, byte for byte."""

    class Settings(FilterSettings):
        """The fields, and what happens to them."""

        fields: tuple[FieldPath, ...] = Field(min_length=1)
        """The fields: dotted paths such as `"properties.email_address"`. `*` stands for any name or list element.

        A path has at most 100 parts.
        """
        action: Literal["remove", "mask", "hash"] = "remove"
        """What happens to the fields. `"remove"`: the filter removes the fields. `"mask"`: `mask` replaces their
        values. `"hash"`: a SHA-256 replaces their values."""
        mask: str = "[REDACTED]"
        """Text that replaces a value, with `action = "mask"`."""
        salt: Secret | None = None
        """Secret that the filter puts before each value, with `action = "hash"`. Without a salt, hashes of e-mail
        addresses can be guessed."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield settings that the action does not use."""
            for option, action in (("mask", "mask"), ("salt", "hash")):
                if option in self.model_fields_set and self.action != action:
                    yield f"{option} action", f'{option} is for action = "{action}" only, and action is "{self.action}"'

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._needles = {_find_needle(path) for path in settings.fields}
        salt = settings.salt.reveal().encode() if settings.salt else b""
        actions: dict[str, Change] = {
            "remove": lambda value: REMOVED,
            "mask": lambda value: settings.mask,
            "hash": lambda value: sha256(salt + _make_text(orjson.loads(memoryview(value)))).hexdigest(),
        }
        self._change = make_change(settings.fields, actions[settings.action])

    def apply(self, event: Event) -> Event:
        """Return the event with the fields removed, masked or hashed. Raises ValueError if the event cannot be
        decoded."""
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


def _find_needle(path: tuple[str, ...]) -> bytes:
    """Return bytes that every event with this field has, unless the event writes names with \\u escapes."""
    name = next((step for step in reversed(path) if step != "*"), "")
    has_only_one_spelling = name and name.isprintable() and not any(character in name for character in '"\\/')
    return f'"{name}"'.encode() if has_only_one_spelling else b""


def _make_text(value: Any) -> bytes:
    """Return the bytes to hash: the characters of a string, or the JSON of any other value."""
    return value.encode() if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
