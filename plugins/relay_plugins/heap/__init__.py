"""The connector type `heap`."""

from relay_plugins.heap.connector import Heap

__all__ = ["Heap"]
