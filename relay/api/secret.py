"""Secrets: settings that say where a value is, never what it is."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

WAYS: Final = ("credential", "file", "env")
SECRET_FORMS: Final = '{ credential = "name" }, { file = "/path" } or { env = "NAME" }'


class Secret:
    """A reference to a secret and, if it could be read, its value. Printing it shows the reference only.

    Written as `{ credential = "name" }` (systemd's LoadCredential), `{ file = "/path" }` or `{ env = "NAME" }`.
    It is read when the configuration is loaded, so a rotated secret takes a reload (a systemd credential: a restart).
    """

    def __init__(self, how: str, name: str) -> None:
        self.how = how
        self.name = name
        self.problem: str | None = None
        """Why the value could not be read; None if it could."""
        self._value = ""
        try:
            self._value = self._read()
        except (OSError, LookupError, ValueError) as error:
            self.problem = f"{self} cannot be read: {error}"

    def reveal(self) -> str:
        """The secret itself. Raises LookupError if it could not be read."""
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
                raise LookupError(f"the environment has no variable {self.name}")
            value = os.environ[self.name]
        else:
            path = _secret_file(self.name) if self.how == "file" else _credential(self.name)
            value = path.read_text("utf-8").rstrip("\r\n")
        if not value:
            raise ValueError("it is empty")
        return value

    @classmethod
    def parse(cls, value: object) -> "Secret":
        """Make a secret of what an admin wrote. Raises ValueError, never repeating a value that may be a secret."""
        if isinstance(value, Secret):
            return value
        if isinstance(value, dict) and len(value) == 1:
            ((how, name),) = value.items()
            if how in WAYS and isinstance(name, str) and name:
                return cls(how, name)
        told = f"{_wrong(value)}a secret is a reference"
        raise ValueError(f"{told if isinstance(value, dict) else f'{told}, never the secret itself'}: {SECRET_FORMS}")

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
        return {"type": "object", "properties": ways, "additionalProperties": False, **one}


def _wrong(reference: object) -> str:
    """What is wrong with what is written like a reference, if it is; its values may be secrets."""
    if not isinstance(reference, dict):
        return ""
    for key in reference:
        if key not in WAYS:
            meant = "".join(f" (did you mean {one}?)" for one in get_close_matches(key, WAYS, n=1))
            return f"unknown key {key}{meant}; "
    if len(reference) > 1:
        return f"{' and '.join(reference)}: one of them; "
    return "".join(f"{how}: expected a name in quotes; " for how in reference)


def _secret_file(name: str) -> Path:
    if not Path(name).is_absolute():
        raise ValueError("write its path from / on: relay runs in another folder than you do")
    return Path(name)


def _credential(name: str) -> Path:
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
