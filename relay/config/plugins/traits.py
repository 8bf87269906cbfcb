"""What a connector says of itself beside what it delivers, read once: it is code of a plugin's, which may fail."""

from dataclasses import dataclass
from pathlib import Path

from relay.api import Connector


@dataclass(frozen=True, slots=True)
class Traits:
    """The properties of the same names in `relay.api.Connector`."""

    keeps_order: bool = False
    single_worker: bool = False
    local_path: Path | None = None


def traits_of(connector: Connector) -> Traits:
    """Read them. Raises whatever the connector raises, TypeError if they are of another type."""
    found = {name: getattr(connector, name) for name in ("keeps_order", "single_worker", "local_path")}
    for name, value in found.items():
        if not isinstance(value, (Path, type(None)) if name == "local_path" else bool):
            wanted = "a Path or None" if name == "local_path" else "true or false"
            raise TypeError(f"{name} says {type(value).__name__}, and is to say {wanted}")
    return Traits(**found)
