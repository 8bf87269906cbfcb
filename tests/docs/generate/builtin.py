"""The plugin types that come with relay. Other installed plugins are not documented."""

from functools import cache
from typing import Any

from relay.config.plugins.registry import Registry


@cache
def builtin(kind: str) -> dict[str, Any]:
    """Find the classes of a kind (`source`, `connector`, `filter`, `alert`) by their type. Raises LookupError."""
    types = Registry.discover(()).get_types(kind)
    found = {name: types[name] for name in sorted(types) if types[name].__module__.startswith("relay_plugins.")}
    if not found:
        raise LookupError(f"no {kind} types are installed: make .venv/dev.done")
    return found
