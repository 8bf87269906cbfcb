"""URLs that may be secrets: chat services know nobody but by the URL."""

from typing import Annotated, Any

from pydantic import PlainValidator, TypeAdapter, ValidationError

from relay.api import HttpUrl, Secret

_PLAIN: TypeAdapter[str] = TypeAdapter(HttpUrl)


def _url(value: object) -> str | Secret:
    return Secret.parse(value) if isinstance(value, dict | Secret) else _PLAIN.validate_python(value)


SecretUrl = Annotated[str | Secret, PlainValidator(_url, json_schema_input_type=str | Secret)]
"""An http or https URL or, if it is secret, a reference to one."""


def problem_of(url: str | Secret) -> str | None:
    """Why a secret is no URL; None if it is one, or cannot be read, which is told elsewhere."""
    try:
        plain(url)
    except (LookupError, ValidationError):
        is_read = isinstance(url, str) or url.problem is None
        return f"url: {url} does not hold an http or https URL" if is_read else None
    return None


def plain(url: str | Secret) -> str:
    """The URL itself. Raises LookupError, ValidationError."""
    value: Any = url if isinstance(url, str) else url.reveal()
    return _PLAIN.validate_python(value)
