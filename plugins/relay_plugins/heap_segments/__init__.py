"""The source type `heap_segments`."""

from relay_plugins.heap_segments.source import HeapSegments

__all__ = ["HeapSegments"]
