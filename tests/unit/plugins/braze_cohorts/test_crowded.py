"""Users in many cohorts are counted page by page, as if all were in memory."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relay.testing import MemoryStore
from relay_plugins.braze_cohorts.crowded import count_crowded
from relay_plugins.braze_cohorts.keys import MEMBER, make_key, make_prefix


class SmallPages(MemoryStore):
    """A store that returns two keys at a time."""

    async def scan(self, prefix: bytes, *, after: bytes = b"", limit: int = 2) -> list[tuple[bytes, bytes]]:
        return await super().scan(prefix, after=after, limit=2)


@given(st.lists(st.sets(st.text("abc\0", min_size=1, max_size=3)), max_size=5), st.integers(0, 4))
def test_users_in_more_cohorts_than_most_are_counted(cohorts: list[set[str]], most: int) -> None:
    store = SmallPages()
    for number, users in enumerate(cohorts):
        store.pairs |= {make_key(MEMBER, str(number), "external_id", user): b"" for user in users}
    expected = sum(found > most for found in Counter(user for users in cohorts for user in users).values())
    prefixes = [make_prefix(MEMBER, str(number)) for number in range(len(cohorts))]
    assert asyncio.run(count_crowded(store, prefixes, most)) == expected
