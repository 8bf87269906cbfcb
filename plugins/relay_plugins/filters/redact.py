"""The filter type `redact`: takes out fields, and leaves all else as it came, byte for byte."""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
"""Gives what comes in place of a value: JSON as Raw, or something to encode, or GONE; the same object for no change."""
GONE: Final = object()
_parts: Final = msgspec.json.Decoder(dict[str, Raw] | list[Raw]).decode


class _Name(str):
    """A name that equals no other: an object may have the same one twice."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


_all_parts: Final = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=call).decode


def at(paths: Iterable[tuple[str, ...]], change: Change) -> Change:
    """The change of whatever the paths lead to, as one of the whole value: all else stays as it is byte for byte. If an
    object has a name twice, the paths lead to both.

    That raises msgspec.DecodeError, which is a ValueError, for malformed JSON."""
    if () in paths:
        return change
    rest = {step: [path[1:] for path in paths if path[0] in (step, "*")] for step, *_ in paths}
    named = {step: at(following, change) for step, following in rest.items()}
    each = named.pop("*", None)
    usual = [*named.items()]

    def changed(value: Raw) -> object:
        try:
            parts = _parts(value)
        except msgspec.ValidationError:  # neither an object nor a list: no path leads on from there
            return value
        if isinstance(parts, list):
            return _elements(value, parts, each) if each else value
        is_whole = len(encode(parts)) == memoryview(value).nbytes
        if is_whole and not each:
            return parts if _change_fields(parts, usual) else value
        # what is not whole has blanks, or a name twice: of those the last one is in `parts`
        fields: dict[Any, Any] = parts if is_whole else _all_parts(value)
        ways = [(name, way) for name in fields if (way := named.get(str(name), each))]
        return fields if _change_fields(fields, ways) else value

    return changed


def _change_fields(fields: dict[Any, Any], ways: Iterable[tuple[str, Change]]) -> bool:
    """Change those of these names, in place; whether there was any to change."""
    is_changed = False
    for name, change in ways:
        old = fields.get(name)
        if old is None or (new := change(old)) is old:
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
    """Removes, masks or hashes fields. All else in an event stays as it came, byte for byte."""

    class Settings(FilterSettings):
        """Which fields, and what becomes of them."""

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
