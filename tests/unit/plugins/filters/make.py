"""Makes filters from settings as a configuration has them."""

from typing import Any, TypeVar

from relay.api import Filter

F = TypeVar("F", bound=Filter)


def make(cls: type[F], **settings: Any) -> F:
    return cls("f", cls.Settings(type=cls.type, **settings))  # type: ignore[call-arg]
