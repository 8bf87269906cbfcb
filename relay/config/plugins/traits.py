"""The traits of a connector, read once: reading them runs a plugin's code, which may fail."""

from pathlib import Path

from msgspec import Struct

from relay.api import Connector


class Traits(Struct, frozen=True):
    """The properties of the same names in `relay.api.Connector`."""

    keeps_order: bool = False
    single_worker: bool = False
    local_path: Path | None = None


def read_traits(connector: Connector) -> Traits:
    """Read the traits. Raises what the connector raises, and TypeError for values of another type."""
    found = {name: getattr(connector, name) for name in ("keeps_order", "single_worker", "local_path")}
    for name, value in found.items():
        if not isinstance(value, (Path, type(None)) if name == "local_path" else bool):
            wanted = "a Path or None" if name == "local_path" else "true or false"
            raise TypeError(f"{name} says {type(value).__name__}, and is to say {wanted}")
    return Traits(**found)
