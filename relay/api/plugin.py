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
            except TypeError as error:
                raise TypeError(f"class {cls.__name__}: {error}") from None
