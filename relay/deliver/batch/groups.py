"""Groups: divides a batch into batches of one group each, by `batch.group_by` of a connector. Pure."""

from collections.abc import Hashable, Sequence
from typing import Final

from relay.api import Batch, Block

HOUR_S: Final = 3600


def divide_by_group(batch: Batch, by: Sequence[str]) -> Sequence[Batch]:
    """Return the groups of a batch as batches, in the order of their first events. The events of a group keep their
    order."""
    groups: dict[Hashable, list[Block]] = {}
    for block in batch.blocks if by else ():
        for group, numbers in _group_numbers(block, by).items():
            groups.setdefault(group, []).append(block if len(numbers) == len(block) else block.pick(numbers))
    return (batch,) if len(groups) < 2 else [Batch(blocks) for blocks in groups.values()]


def _group_numbers(block: Block, by: Sequence[str]) -> dict[Hashable, list[int]]:
    """Return the numbers of a block's events by group."""
    hour = block.received // HOUR_S if "hour" in by else None
    groups = [
        (kind.type if "type" in by else None, kind.source if "source" in by else None, hour) for kind in block.kinds
    ]
    found: dict[Hashable, list[int]] = {}
    for number, kind in enumerate(block.index):
        found.setdefault(groups[kind], []).append(number)
    return found
