"""The filter types `redact` and `hash`: fields that go, or become pseudonyms. All other values stay as they came."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final, Literal

import orjson
from msgspec import DecodeError, Raw
from msgspec.json import Decoder
from pydantic import Field

from relay.api import REDACTED, Contradiction, Event, Filter, FilterSettings, Secret
from relay_plugins.filters.change import REMOVED, ValueChange, make_change, make_event_change
from relay_plugins.filters.field import FieldsToChange, FieldsToRemove, describe_typos_to_remove

BLOCK_BYTES: Final = sha256().block_size
_REDACTED: Final = REDACTED.encode()
_NULL: Final = Raw(b"null")
_decode_text: Final = Decoder(str).decode
SHORT: Final = 16
"""Characters below which a secret can be guessed."""


class Redact(Filter, type="redact"):
    """Removes, masks or hashes fields. All else in an event stays as it came, byte for byte."""

    class Settings(FilterSettings):
        """The fields, and what happens to them."""

        fields: FieldsToRemove = Field(min_length=1)
        """The fields: dotted paths such as `"properties.email_address"`. `*` stands for any name or list element.
        `"pii"` stands for all fields that Braze marks as personal, in events of every type.

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

        def warnings(self) -> Iterator[Contradiction]:
            """Yield paths that are probably typos, and hashes that can be guessed."""
            yield from describe_typos_to_remove("fields", self.fields)
            if self.action == "hash" and self.salt is None:
                yield "action", "has no salt: hashes of e-mail addresses and other short values can be guessed"

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        salt = settings.salt.reveal().encode() if settings.salt else b""
        mask = Raw(orjson.dumps(settings.mask))
        actions: dict[str, ValueChange] = {
            "remove": lambda value: REMOVED,
            "mask": lambda value: mask,
            "hash": lambda value: Raw(f'"{sha256(salt + _read_text(value)).hexdigest()}"'),
        }
        self._change = make_event_change(settings.fields, make_change(settings.fields, actions[settings.action]))

    def apply(self, event: Event) -> Event:
        """Return the event with the fields removed, masked or hashed. Raises ValueError if the event cannot be
        decoded."""
        return self._change(event)


class Hash(Filter, type="hash"):
    """Replaces fields by pseudonyms: the HMAC-SHA256 of a value, with a secret. The same value always gets the same
    pseudonym."""

    class Settings(FilterSettings):
        """The fields, and the secret."""

        fields: FieldsToChange = Field(min_length=1)
        """The fields: dotted paths such as `"user.external_user_id"`. `*` stands for any name or list element. `"pii"`
        stands for all fields that Braze marks as personal, in events of every type.

        A null and `[REDACTED]` stay as they are.
        """
        secret: Secret
        """The secret. Whoever does not know it can neither guess values from pseudonyms, nor make pseudonyms. Another
        secret gives other pseudonyms."""

        def warnings(self) -> Iterator[Contradiction]:
            """Yield paths that are probably typos, and a secret that can be guessed."""
            yield from describe_typos_to_remove("fields", self.fields)
            if self.secret.problem is None and len(self.secret.reveal()) < SHORT:
                yield "secret", f"{self.secret} has less than {SHORT} characters, and can be guessed"

    settings: Settings

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings)
        self._change = make_event_change(settings.fields, make_change(settings.fields, self._hash))
        inner, outer = _key_hashes(settings.secret.reveal().encode())
        self._copy_inner, self._copy_outer = inner.copy, outer.copy

    def apply(self, event: Event) -> Event:
        """Return the event with pseudonyms. Raises ValueError if the event cannot be decoded."""
        return self._change(event)

    def _hash(self, value: Raw) -> Raw:
        text = _read_text(value)
        if text == _REDACTED or value == _NULL:
            return value
        inner, outer = self._copy_inner(), self._copy_outer()
        inner.update(text)
        outer.update(inner.digest())
        return Raw(f'"{outer.hexdigest()}"')


def _key_hashes(key: bytes) -> tuple[Any, Any]:
    """Return the two hashes of HMAC-SHA256 (RFC 2104) as they are after the key.

    To copy both takes half as long as to copy an object of `hmac`.
    """
    block = (sha256(key).digest() if len(key) > BLOCK_BYTES else key).ljust(BLOCK_BYTES, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))


def _read_text(value: Raw) -> bytes:
    """Return the bytes to hash: the characters of a string, or the JSON of any other value with sorted names."""
    try:
        return _decode_text(value).encode()
    except DecodeError:
        content = orjson.loads(bytes(value))
    return content.encode() if isinstance(content, str) else orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
