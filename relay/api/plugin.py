"""What connectors, sources, filters and alerts have in common: a type name, and settings that the name selects."""

import builtins
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from relay.api.settings import Settings, replace_defaults
from relay.api.threads import Threads

if TYPE_CHECKING:
    import structlog


class Plugin:
    """The base of `Connector`, `Source`, `Filter` and `Alert`.

    Name a class by `class Chat(Connector, type="chat")`.
    """

    type: ClassVar[str] = ""
    Settings: ClassVar[builtins.type[Settings]] = Settings

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
