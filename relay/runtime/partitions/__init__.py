"""The partitions that this process runs: one for life, or those of its share."""

from relay.runtime.partitions.partition import Partition
from relay.runtime.partitions.partitions import Partitions

__all__ = ["Partition", "Partitions"]
