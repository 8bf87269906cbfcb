"""What connectors, sources and filters have in common: a type name, and settings that the name selects."""

import builtins
from typing import Any, ClassVar

from relay.api.settings import Settings


class Plugin:
    """Base of `Connector`, `Source` and `Filter`. A class is named by `class Chat(Connector, type="chat")`."""

    type: ClassVar[str] = ""
    Settings: ClassVar[builtins.type[Settings]] = Settings

    name: str
    settings: Any
    """An instance of the class's own `Settings`."""

    def __init_subclass__(cls, type: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if type:
            cls.type = type
