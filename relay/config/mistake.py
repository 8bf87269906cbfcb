"""A mistake in the configuration, described so that a person finds and corrects it."""

from collections.abc import Iterable, Sequence

from msgspec import Struct


class Mistake(Struct, frozen=True, kw_only=True):
    """A mistake, or, among warnings, something that is probably not meant.

    `file` is relative to its conf.d folder, and "" if no single file is to blame. `line` counts from 1. `excerpt` is
    the line itself, without values that may be secrets.
    """

    file: str = ""
    line: int | None = None
    key: str = ""
    reason: str
    suggestion: str | None = None
    excerpt: str = ""
    about: str = ""
    """The key of the setting that a mistake of a whole table is about most of all; "": `key` says it."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        meant = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        return ": ".join(part for part in (place, self.key, self.reason) if part) + meant


class ConfigError(Exception):
    """Raised when the configuration cannot be used. `mistakes` holds everything that is wrong with it."""

    def __init__(self, mistakes: Sequence[Mistake], warnings: Sequence[Mistake] = ()) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)
        self.warnings = tuple(warnings)


def format_path(path: Iterable[str | int]) -> str:
    """Format a key path as in `source.braze.tokens[0]`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
