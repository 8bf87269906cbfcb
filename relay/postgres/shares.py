"""Shares the partitions out among the processes that run. Pure.

Each process finds the same shares in the same rows of the database, so no process coordinates the others. A process
that reads the rows a moment earlier may want too much. The leases decide then.
"""

from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

P = TypeVar("P", bound=Hashable)


def share_out(
    holders: Sequence[P | None], processes: Sequence[P], kept: Collection[int] = ()
) -> dict[P, frozenset[int]]:
    """Return the partitions that each process is to run now.

    `holders`: the process that has the lease of each partition, None for a free partition. `processes`: those that run,
    in an order that all agree on. `kept`: partitions that a process gives back last.

    Shares differ by one at most. A process gives a partition back only if it has more than its share: others have less
    then. What it gives back, and what a process has that does not run any more, becomes another's once it is free.
    """
    if not processes:
        return {}
    numbers = sorted(range(len(holders)), key=lambda number: number not in kept)
    held = {process: [number for number in numbers if holders[number] == process] for process in processes}
    least, rest = divmod(len(holders), len(processes))
    # A larger share goes to a process that has so much already: fewer partitions move
    larger = sorted(processes, key=lambda process: len(held[process]) <= least)[:rest]
    free = [number for number, holder in enumerate(holders) if holder is None]
    wanted = {}
    for process in processes:
        share = least + (process in larger)
        lacking = max(0, share - len(held[process]))
        wanted[process] = frozenset(held[process][:share] + free[:lacking])
        del free[:lacking]
    return wanted
