"""What connectors, sources, filters and alerts have in common: a type name, and settings that the name selects."""

import builtins
import re
import shlex
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final

from relay.api.settings import Settings, replace_defaults
from relay.api.threads import Threads

if TYPE_CHECKING:
    import structlog


MOST_COUNTERS: Final = 50
"""Counters of a plugin, without OTHER."""
OTHER: Final = "other"


def describe_missing(requires: Mapping[str, str]) -> str:
    """Return which of these libraries are not installed, with the command that installs them; "" if none is missing.

    Imports no library, but the packages around the module of a dotted name.
    """
    missing = {library: requirement for library, requirement in requires.items() if not _is_installed(library)}
    if not missing:
        return ""
    wanted = shlex.join(dict.fromkeys(missing.values()))
    return f"needs {' and '.join(missing)}: pip install {wanted}"


def require_library(library: str, requirement: str) -> None:
    """Raise ValueError unless a library is installed. The text has the command that installs the library.

    Call it in the validator of a setting that alone needs the library. `requires` is for libraries that a type always
    needs. `requirement`: what pip installs, such as `currents-relay[zstd]`.
    """
    if missing := describe_missing({library: requirement}):
        raise ValueError(missing)


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except (ImportError, ValueError):  # no package around it, or a module that was put in place by hand
        return False


class PluginMetrics:
    """The counters of a plugin, which Prometheus reads from relay's `/metrics`. Use them on the event loop."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """Each counter by its name. They begin empty when relay makes the object."""

    def add(self, name: str, number: int = 1) -> None:
        """Add a number to a counter; the first time, begin the counter with 0.

        `name`: a-z, 0-9 and _, with a letter first, at most 50 characters. It is the label `name` of
        `relay_deliver_counted_total`. Names beyond 50 count as `other`, so that a label stays bounded. Raises
        ValueError for any other name, and for a negative number.
        """
        if name not in self.counts:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", name):
                raise ValueError(f"a counter has a name of a-z, 0-9 and _, got {name!r}")
            name = name if len(self.counts) < MOST_COUNTERS else OTHER
        if number < 0:
            raise ValueError(f"a counter only grows, got {number}")
        self.counts[name] = self.counts.get(name, 0) + number


class Plugin:
    """The base of `Connector`, `Source`, `Filter` and `Alert`.

    Name a class by `class Chat(Connector, type="chat")`.
    """

    type: ClassVar[str] = ""
    Settings: ClassVar[builtins.type[Settings]] = Settings
    requires: ClassVar[Mapping[str, str]] = {}
    """The libraries that the type needs: the name of each import, and what pip installs: `{"obstore":
    "currents-relay[s3]"}`.

    Without them `relay check` refuses a table of the type and says what to install. Import the libraries where they are
    used first, such as in `open`. relay then imports no library for types without a table.
    """

    _noun: ClassVar[str] = ""
    """What relay calls it in the log: `connector`, `source`, `filter` or `alert`."""

    name: str
    settings: Any
    """An object of the class's own `Settings`."""

    def __init_subclass__(cls, type: str = "", **defaults: Any) -> None:
        """`defaults`: of settings, those of a table within each by itself. Raises TypeError."""
        super().__init_subclass__()
        if type:
            cls.type = type
        if defaults:
            try:
                cls.Settings = replace_defaults(cls.Settings, defaults)
            except TypeError as error:
                raise TypeError(f"class {cls.__name__}: {error}") from None

    @cached_property
    def _threads(self) -> Threads:
        """Return the plugin's own thread."""
        return Threads(f"{self._noun} {self.name}", 1)

    @cached_property
    def log(self) -> "structlog.stdlib.BoundLogger":
        """Return a logger that adds the plugin's name to each line."""
        import structlog  # late: `relay check` does without it

        log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger().bind(**{self._noun: self.name})
        return log
