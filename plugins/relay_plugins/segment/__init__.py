"""The connector type `segment`."""

from relay_plugins.segment.connector import SegmentConnector

__all__ = ["SegmentConnector"]
