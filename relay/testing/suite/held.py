"""What a plugin holds in memory, by attribute."""

import asyncio
import gc
import threading
from collections import Counter, deque
from types import FunctionType, MethodType, ModuleType

BOUNDED = (ModuleType, FunctionType, MethodType, type, asyncio.AbstractEventLoop, threading.Thread)
"""Objects that a connector shares with others: what they hold is not the connector's."""


def count_held(plugin: object) -> Counter[str]:
    """Count the entries of all collections that a plugin holds, by the attribute that leads to them."""
    found, seen = Counter[str](), {id(vars(plugin).get("store"))}
    waiting = deque((name, value) for name, value in vars(plugin).items() if name != "http")
    while waiting:
        name, value = waiting.popleft()
        if id(value) in seen or isinstance(value, BOUNDED):
            continue
        seen.add(id(value))
        if isinstance(value, dict | list | set | deque | bytearray):
            found[name] += len(value)
        if gc.is_tracked(value):
            waiting.extend((name, held) for held in gc.get_referents(value))
    return found
