"""Types for settings: what an admin writes in conf.d, checked and turned into plain numbers and strings."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from math import isclose, isfinite
from types import ModuleType
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from yarl import URL

CONTRADICTION: Final = "contradiction"
"""The type of pydantic error that says it."""
S = TypeVar("S", bound="Settings")
Contradiction = tuple[str, str]
"""The names of the settings, with spaces between, and what is wrong with them."""


class Settings(BaseModel):
    """The base of every settings model: unknown keys are refused, numbers are finite, instances do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        defer_build=True,  # most models of a process check nothing: a validator is built when it is needed
    )

    def contradictions(self) -> Iterable[Contradiction]:
        """Return the settings that contradict each other, each with the reason.

        Put a model's own checks here. Unlike a validator, they also run when some settings are wrong by themselves.
        Those settings then have their defaults, or None, and contradictions about them are left out.
        """
        return ()

    def warnings(self) -> Iterable[Contradiction]:
        """Return settings that are valid but may be a mistake, with the reason. `relay check` warns of them."""
        return ()

    @model_validator(mode="after")
    def _check_contradictions(self) -> Self:
        found = [
            PydanticCustomError(CONTRADICTION, "{reason}", {"about": about.split(), "reason": reason})
            for about, reason in check_pairs(self.contradictions())
        ]
        if found:
            details = [InitErrorDetails(type=one, loc=(), input=None) for one in found]
            raise ValidationError.from_exception_data(type(self).__name__, details)
        return self


def check_pairs(said: Iterable[Contradiction]) -> Iterator[Contradiction]:
    """Yield the contradictions or warnings of a model. Raises TypeError for anything but pairs of texts."""
    for one in said:
        if not isinstance(one, tuple) or [*map(type, one)] != [str, str]:
            raise TypeError(f"expected the names of settings and what is wrong, two texts, got {one!r}")
        yield one


def annotate(kind: Any, metadata: Iterable[object]) -> Any:
    """Return a type with its metadata, such as limits."""
    parts = [*metadata]
    return Annotated[kind, *parts] if parts else kind


def replace_defaults(model: type[S], defaults: Mapping[str, Any]) -> type[S]:
    """Return the model with other defaults, written as in conf.d. In an inner table each default counts by itself.

    Raises TypeError for an unknown setting, or for a default that the setting does not accept."""
    fields: dict[str, Any] = {}
    for name, written in defaults.items():
        field = model.model_fields.get(name)
        if field is None:
            raise TypeError(f"{name} is no setting of {model.__name__}")
        kind: Any = field.annotation
        try:
            if isinstance(kind, type) and issubclass(kind, Settings):
                kind = replace_defaults(kind, written)
                default = kind()
            else:
                kind = annotate(kind, field.metadata)
                default = TypeAdapter(kind).validate_python(written, strict=True)
        except ValidationError as error:
            raise TypeError(f"{name} = {written!r}: {error.errors()[0]['msg']}") from None
        fields[name] = kind, Field(default, alias=field.alias, description=field.description)
    made = create_model(model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **fields)
    made.__qualname__ = model.__qualname__
    return made


SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
BYTES_DECIMAL: Final = {"kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
LONGEST: Final = "36500d"
"""The longest duration: the sum of any time and this one is still a date."""
LARGEST: Final = "8388607TiB"
"""The largest size: the kernel counts bytes in 63 bits."""
SLOWEST: Final = 1e-6
FASTEST: Final = 1e9
"""Events per second: what a `Rate` may be, beside 0."""


def _parse_quantity(value: object, units: Mapping[str, float], what: str, example: str, most: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0.0
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f'expected a {what} such as "{example}" (units: {", ".join(units)}), got {value!r}')
    found = float(match[1]) * units[match[2]]
    if value != most and found > _parse_quantity(most, units, what, example, most):
        raise ValueError(f"a {what} is at most {most}")
    return found


def parse_duration(value: object) -> float:
    """Read "30s", "5m", "1.5h" as seconds. Raises ValueError for anything else but 0."""
    return _parse_quantity(value, SECONDS, "duration", "30s", LONGEST)


def parse_size(value: object) -> int:
    """Read "64MiB", "10GB" as bytes. Raises ValueError for anything else but 0."""
    return int(_parse_quantity(value, BYTES | BYTES_DECIMAL, "size", "64MiB", LARGEST))


def check_rate(rate: float) -> float:
    """Return a rate in events per second: 0, or SLOWEST to FASTEST. Raises ValueError for others."""
    if rate and not (isfinite(rate) and SLOWEST <= rate <= FASTEST):
        raise ValueError(f"a rate is 0, which is no limit, or from {SLOWEST:f} to {FASTEST:.0f} events per second")
    return rate


def write_quantity(value: float, units: Mapping[str, float]) -> str | int:
    """Write a number with the largest of the ascending units that leaves it whole."""
    smallest, base = next(iter(units.items()))
    count = round(value / base)
    if not count or not isclose(count * base, value):
        return f"{value / base:g}{smallest}" if value else 0
    sizes = {unit: round(size / base) for unit, size in units.items()}
    return [f"{count // size}{unit}" for unit, size in sizes.items() if count % size == 0][-1]


def write_duration(seconds: float) -> str | int:
    """Write seconds as `parse_duration` reads them; a week is "7d"."""
    return write_quantity(seconds, {unit: size for unit, size in SECONDS.items() if unit != "w"})


def write_size(size: int) -> str | int:
    """Write bytes as `parse_size` reads them."""
    return write_quantity(size, BYTES)


def _make_pattern(units: Mapping[str, float]) -> Any:
    """Make the type of a quantity for the JSON Schema that editors use."""
    written = Annotated[str, Field(pattern=rf"^\s*\d+(\.\d+)?\s*({'|'.join(units)})\s*$")]
    return Annotated[written | Literal[0], Field(json_schema_extra={"x-units": [*units]})]


Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=_make_pattern(SECONDS)),
    PlainSerializer(write_duration, when_used="json"),
]
"""A duration in seconds. An admin writes a text with a unit: "500ms", "30s", "5m", "1h", "7d"."""

ByteSize = Annotated[
    int,
    BeforeValidator(parse_size, json_schema_input_type=_make_pattern(BYTES | BYTES_DECIMAL)),
    PlainSerializer(write_size, when_used="json"),
]
"""A size in bytes. An admin writes a text with a unit: "64KiB", "8MiB", "10GB"."""

Rate = Annotated[float, AfterValidator(check_rate)]
"""Events per second; 0 is no limit."""


def _check_url(value: object) -> str:
    try:
        url = URL(value) if isinstance(value, str) else None
    except ValueError:
        url = None
    if url is None or url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f'expected a URL such as "https://host/path", got {value!r}')
    if not url.host.strip("."):
        raise ValueError("a URL needs the name of a host, not dots: write the real address")
    if url.user or url.password:
        raise ValueError("a URL must not hold user or password: they would show up in logs")
    written = str(value)
    if not written.isprintable():
        raise ValueError("a URL has no line breaks or control characters")
    if written != written.strip() or " " in url.host:
        raise ValueError("a URL has no blank at its ends or in its host: take it out")
    target = re.sub(r"^[^:]+://[^/?#]*", "", written).partition("#")[0]
    return str(url.origin()) + re.sub(r"[^!-~]+", lambda found: quote(found[0]), target)


HttpUrl = Annotated[str, BeforeValidator(_check_url, json_schema_input_type=str)]
"""An http or https URL without credentials.

The part after the host stays byte for byte, for signed URLs; only spaces and characters beyond ASCII are
percent-encoded. `Connector.post` sends it so. With `Connector.http` write `yarl.URL(url, encoded=True)`.
"""


def _check_path(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/[A-Za-z0-9._~/-]+", value):
        raise ValueError(f'expected a path such as "/currents", got {value!r}')
    return value


UrlPath = Annotated[str, BeforeValidator(_check_path, json_schema_input_type=str)]
"""The path of a URL, from its leading slash on."""


def _check_selection(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) and entry.strip("! ") for entry in value):
        raise ValueError('expected a list such as ["message_engagement", "users.behaviors.*", "!email"]')
    if not value:
        raise ValueError('an empty list selects nothing: leave `events` out, or write ["*"], to select everything')
    return tuple(entry.strip() for entry in value)


EventSelection = Annotated[tuple[str, ...], BeforeValidator(_check_selection, json_schema_input_type=list[str])]
"""The events that are wanted: groups, channels, types and globs; a leading `!` excludes. `("*",)` is everything."""


def parse_time(text: str) -> float:
    """Read an ISO 8601 time, UTC if it does not say, as Unix seconds. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _check_start(value: object) -> str | float:
    if value in ("now", "oldest"):
        return str(value)
    with suppress(ValueError):
        if isinstance(value, str):
            return parse_time(value)
    raise ValueError(f'expected "now", "oldest" or a time such as "2026-11-01T00:00Z", got {value!r}')


def _write_start(start: str | float) -> str:
    return start if isinstance(start, str) else datetime.fromtimestamp(start, UTC).isoformat()


StartAt = Annotated[
    str | float,
    BeforeValidator(_check_start, json_schema_input_type=str),
    PlainSerializer(_write_start, when_used="json"),
]
"""Where a connector that never ran begins: "now", "oldest", or a time (UTC if not said), kept as Unix seconds."""


def load_zstd() -> ModuleType:
    """Import zstd, for settings such as `compress = "zstd"`. The module is `compression.zstd` of the standard library,
    or the same as a package.

    Raises ValueError if zstd is not installed. The text says what to install.
    """
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise ValueError("zstd is not installed: install currents-relay[zstd]") from None
    return zstd
