"""URLs that may be secret: whoever has the URL of a chat service can post."""

from typing import Annotated, Any

from pydantic import PlainValidator, TypeAdapter, ValidationError

from relay.api import HttpUrl, Secret

_PLAIN: TypeAdapter[str] = TypeAdapter(HttpUrl)


def _parse_url(value: object) -> str | Secret:
    return Secret.parse(value) if isinstance(value, dict | Secret) else _PLAIN.validate_python(value)


SecretUrl = Annotated[str | Secret, PlainValidator(_parse_url, json_schema_input_type=str | Secret)]
"""An http or https URL or, if the URL is secret, a reference."""


def check_url(url: str | Secret) -> str | None:
    """Return why a secret is no URL. Return None if it is a URL, or if relay cannot read the secret, which is reported
    elsewhere."""
    try:
        reveal_url(url)
    except (LookupError, ValidationError):
        is_read = isinstance(url, str) or url.problem is None
        return f"url: {url} does not hold an http or https URL" if is_read else None
    return None


def reveal_url(url: str | Secret) -> str:
    """Return the URL itself. Raises LookupError, ValidationError."""
    value: Any = url if isinstance(url, str) else url.reveal()
    return _PLAIN.validate_python(value)
