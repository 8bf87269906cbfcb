"""Secrets: settings that say where a value is, never what it is."""

import os
import re
import unicodedata
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from relay.api.text import find_closest
from relay.api.transport.plain_file import NotPlain, read_plain

MOST_BYTES: Final = 1 << 20
HEADER_BYTES: Final = 32 << 10
"""Of a header that relay's own listeners take. Many servers take less."""
ASSIGNMENT: Final = re.compile(r"(export\s+)?[A-Za-z_]\w*=[^=]", re.ASCII)
"""Begins a line of an environment file. In base64 an equals sign only ends a text."""
BYTE_ORDER_MARK: Final = "\ufeff"
WAYS: Final = ("credential", "file", "env")
SECRET_FORMS: Final = '{ credential = "name" }, { file = "/path" } or { env = "NAME" }'


class Secret:
    """A reference to a secret, and its value if it could be read. Printing shows the reference only.

    Written as `{ credential = "name" }` (systemd's LoadCredential), `{ file = "/path" }` or `{ env = "NAME" }`. relay
    reads the value when it loads the configuration: a new value takes a reload, a systemd credential a restart. White
    space around the value, line breaks and a byte order mark are left out.
    """

    def __init__(self, how: str, name: str) -> None:
        self.how = how
        self.name = name
        self.problem: str | None = None
        """Why the value cannot be used; None if it can."""
        self._value = ""
        try:
            self._value = self._read()
        except (OSError, LookupError, ValueError) as error:
            self.problem = f"{self} cannot be read: {error}"
        else:
            self.problem = self._find_flaw()

    @property
    def doubt(self) -> str | None:
        """Return what is allowed in the value but probably a mistake, without repeating the value."""
        return self._wrapping

    def reveal(self) -> str:
        """Return the value. Raises LookupError if it cannot be used."""
        if self.problem is not None:
            raise LookupError(self.problem)
        return self._value

    def __repr__(self) -> str:
        return f'{{ {self.how} = "{self.name}" }}'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.how, self.name))

    def _read(self) -> str:
        if self.how == "env":
            if self.name not in os.environ:
                dollar = re.fullmatch(r"\$(\{)?([A-Za-z_]\w*)(?(1)\})", self.name, re.ASCII)
                hint = f': write the name without the $, env = "{dollar[2]}"' if dollar else ""
                raise LookupError(f"the environment has no variable {self.name}{hint}")
            content = os.environb[self.name.encode("utf-8", "surrogateescape")]
        else:
            if self.how == "file" and not Path(self.name).is_absolute():
                raise ValueError("write its path from / on: relay runs in another folder than you do")
            path = Path(self.name) if self.how == "file" else _find_credential(self.name)
            try:
                content = read_plain(path, MOST_BYTES)
            except NotPlain as error:
                raise ValueError(f"it {error}") from None
        try:
            value = content.decode().strip().strip(BYTE_ORDER_MARK).strip()
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None  # the error itself would repeat a part of it
        if not value:
            raise ValueError("it is empty")
        return value

    def _find_flaw(self) -> str | None:
        """Return why the value is of no use; None if it is good."""
        return None

    @property
    def _wrapping(self) -> str | None:
        """Return what the value looks like if it was copied with its surroundings."""
        if ASSIGNMENT.match(self._value):
            return f"{self} looks like NAME=value: only the value is the secret"
        if self._value.startswith("{") and self._value.endswith("}"):
            return f"{self} looks like JSON: only the value in it is the secret"
        return None

    @classmethod
    def parse(cls, value: object) -> "Secret":
        """Make a secret of what an admin wrote. Raises ValueError, without repeating a value that may be secret."""
        if isinstance(value, Secret):
            return value
        if isinstance(value, dict) and len(value) == 1:
            ((how, name),) = value.items()
            if how in WAYS and isinstance(name, str) and name:
                return cls(how, name)
        wrong, never = "", ""
        if not isinstance(value, dict):
            never = ", never the secret itself"
        elif unknown := [key for key in value if key not in WAYS]:
            near = find_closest(unknown[0], WAYS)
            wrong = f"unknown key {unknown[0]}{f' (did you mean {near}?)' if near else ''}; "
        elif len(value) > 1:
            wrong = f"{' and '.join(value)}: one of them; "
        else:
            wrong = "".join(f"{how}: expected a name in quotes; " for how in value)
        raise ValueError(f"{wrong}a secret is a reference{never}: {SECRET_FORMS}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda secret: {secret.how: secret.name}, when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        ways = {how: {"type": "string", "minLength": 1} for how in WAYS}
        one = {"minProperties": 1, "maxProperties": 1}
        return {"type": "object", "properties": ways, "additionalProperties": False, "x-secret": True, **one}


class HeaderSecret(Secret):
    """A reference to a secret that is sent in a header: no line breaks and no control characters."""

    @property
    def doubt(self) -> str | None:
        """Return what is allowed in the value but probably a mistake: quotes, characters beyond ASCII, too many
        characters."""
        if self.problem is not None:
            return None
        if len(self._value) > 1 and self._value[0] == self._value[-1] and self._value[0] in "\"'":
            return f"{self} stands in quotes: they are part of the secret"
        if not self._value.isascii():
            return f"{self} holds characters beyond ASCII: many programs do not send them in a header"
        if len("Authorization: Bearer ") + len(self._value) > HEADER_BYTES:
            return f"{self} is longer than the {HEADER_BYTES >> 10} KiB that relay and most servers take of a header"
        return None

    def _find_flaw(self) -> str | None:
        for character in self._value:
            if not character.isprintable():
                named = unicodedata.name(character, "a control character").lower()
                what = "a line break" if character in "\r\n" else f"{named} (U+{ord(character):04X})"
                return f"{self} cannot be sent in a header: it holds {what}"
        return None


class BearerToken(HeaderSecret):
    """A reference to a token for the header `Authorization: Bearer TOKEN`."""

    @property
    def doubt(self) -> str | None:
        """Return what is allowed in the value but probably a mistake: white space as well, and the form of a header."""
        if self._wrapping:
            return self._wrapping
        if " " in self._value:
            return f"{self} holds a space, and a token has none: was it copied whole?"
        return super().doubt


def _find_credential(name: str) -> Path:
    if "/" in name:
        raise ValueError("a credential's name has no slash")
    if (folder := os.environ.get("CREDENTIALS_DIRECTORY")) is None:
        raise LookupError(
            f"only the service has it, if its unit has LoadCredential={name}:/PATH; else it will not start"
        )
    if not (path := Path(folder) / name).exists():
        raise LookupError(
            f"the service was started without it: LoadCredential={name}:/PATH in its unit, then a restart"
        )
    return path
