"""Counts users in many cohorts, without the users of a cohort in memory."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from relay.api import KeyValueStore


async def count_crowded(store: KeyValueStore, prefixes: Sequence[bytes], most: int) -> int:
    """Count the users who are in more than `most` cohorts. `prefixes`: those of the members of each cohort.

    The keys of a cohort are read in order. Up to the least of the last keys that are read, all cohorts are complete.
    """
    crowded, after = 0, dict.fromkeys(prefixes, b"")
    read: dict[bytes, list[bytes]] = {prefix: [] for prefix in prefixes}
    while True:
        for prefix in [prefix for prefix in after if not read[prefix]]:
            if page := await store.scan(prefix, after=after[prefix]):
                after[prefix] = page[-1][0]
                read[prefix] = [key.removeprefix(prefix) for key, _ in page]
            else:
                del after[prefix], read[prefix]
        if not read:
            return crowded
        bound, counts = min(users[-1] for users in read.values()), Counter[bytes]()
        for users in read.values():
            end = bisect_right(users, bound)
            counts.update(users[:end])
            del users[:end]
        crowded += sum(cohorts > most for cohorts in counts.values())
