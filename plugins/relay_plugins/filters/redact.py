"""The filter type `redact`: removes fields. All other bytes of an event stay as they came."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Literal

import orjson
from msgspec import Raw
from msgspec.json import encode
from pydantic import Field

from relay.api import Contradiction, Event, Filter, FilterSettings, Secret
from relay_plugins.filters.change import REMOVED, Change, make_change, make_guess
from relay_plugins.filters.field import FieldPath


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
        self._may_have = make_guess(settings.fields)
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
        if not self._may_have(event.body):
            return event
        raw = Raw(event.body)
        new = self._change(raw)
        return event if new is raw else event.with_body(encode(new))


def _make_text(value: Any) -> bytes:
    """Return the bytes to hash: the characters of a string, or the JSON of any other value."""
    return value.encode() if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
