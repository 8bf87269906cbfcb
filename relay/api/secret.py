"""Secrets: settings that say where a value is, never what it is."""

import os
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

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
            if how in ("credential", "file", "env") and isinstance(name, str) and name:
                return cls(how, name)
        raise ValueError(f"a secret is a reference, never the secret itself: {SECRET_FORMS}")

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
        ways = {how: {"type": "string", "minLength": 1} for how in ("credential", "file", "env")}
        one = {"minProperties": 1, "maxProperties": 1}
        return {"type": "object", "properties": ways, "additionalProperties": False, **one}


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
