"""Groups: divides a batch into batches of one group each, by `batch.group_by` of a connector. Pure."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final

from relay.api import Batch, Block

HOUR_S: Final = 3600


def divide_by_group(batch: Batch, by: Sequence[str]) -> Sequence[Batch]:
    """Return the groups of a batch as batches, in the order of their first events. The events of a group keep their
    order."""
    if not by:
        return (batch,)
    groups: dict[Hashable, list[Block]] = {}
    by_type, by_source, by_hour = "type" in by, "source" in by, "hour" in by
    for block in batch.blocks:
        hour = block.received // HOUR_S if by_hour else None
        group_of_kind = [
            (kind.type if by_type else None, kind.source if by_source else None, hour) for kind in block.kinds
        ]
        numbers_of_group = defaultdict[Hashable, list[int]](list)
        for number, kind in enumerate(block.index):
            numbers_of_group[group_of_kind[kind]].append(number)
        for group, numbers in numbers_of_group.items():
            groups.setdefault(group, []).append(block if len(numbers) == len(block) else block.pick(numbers))
    return (batch,) if len(groups) < 2 else [Batch(blocks) for blocks in groups.values()]
