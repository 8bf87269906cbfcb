"""What connectors, sources and filters have in common: a type name, and settings that the name selects."""

import builtins
from typing import Any, ClassVar

from relay.api.settings import Settings, with_defaults


class Plugin:
    """Base of `Connector`, `Source` and `Filter`. A class is named by `class Chat(Connector, type="chat")`."""

    type: ClassVar[str] = ""
    Settings: ClassVar[builtins.type[Settings]] = Settings

    name: str
    settings: Any
    """An instance of the class's own `Settings`."""

    def __init_subclass__(cls, type: str = "", **defaults: Any) -> None:
        """`defaults`: of settings, those of a table within each by itself. Raises TypeError."""
        super().__init_subclass__()
        if type:
            cls.type = type
        if defaults:
            try:
                cls.Settings = with_defaults(cls.Settings, defaults)
            except ValueError as error:
                raise TypeError(f"{cls.__name__}: the defaults {defaults}: {error}") from None
