"""A delivery that is cut off at any use of the store is done again, and the store knows who is in the cohort."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from relay.api import DELIVERED
from relay.sandbox.braze.rest_api import CohortApi, Profile
from relay.testing import MemoryStore
from relay_plugins.braze_cohorts.keys import COHORT, MEMBER, make_key, make_prefix, read_member_key, read_record
from tests.unit.plugins.braze_cohorts.cohort_changes import change, connected, inside, told

USERS = [f"user-{number}" for number in range(60)]


class CutOff(MemoryStore):
    """A store that cancels its caller at one of its uses: after it was done, or before."""

    def __init__(self, *, is_done: bool) -> None:
        super().__init__()
        self.left, self._is_done = 0, is_done

    async def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        await self._count()
        return await super().get(keys)

    async def write(self, puts: Mapping[bytes, bytes] | None = None, deletes: Iterable[bytes] = ()) -> None:
        deletes = [*deletes]
        if self._is_done and self.left == 1:
            await super().write(puts, deletes)
        await self._count()
        await super().write(puts, deletes)

    async def _count(self) -> None:
        self.left -= 1
        if self.left == 0 and (task := asyncio.current_task()):
            task.cancel()
            await asyncio.sleep(0)


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_delivery_cut_off_at_any_use_of_the_store_is_made_up_for(tmp_path: Path, is_done: bool) -> None:
    changes = [
        change(USERS[:50]),
        change(USERS[40:], USERS[:10]),
        change(USERS[5:55], sync={"full": True, "task": "whole"}),
    ]
    expected = [{*USERS[:50]}, {*USERS[10:]}, {*USERS[5:55]}]
    for event, members in zip(changes, expected, strict=True):
        before = changes[: changes.index(event)]
        uses, is_cut = 0, True
        while is_cut:
            uses += 1
            store = CutOff(is_done=is_done)
            async with CohortApi([Profile(user) for user in USERS]) as api, connected(api, tmp_path, store) as braze:
                assert await told(braze, *before) == [DELIVERED] * len(before)
                store.left = uses
                async with asyncio.TaskGroup() as tasks:
                    delivery = tasks.create_task(told(braze, event), name="delivery")
                store.left, is_cut = 0, delivery.cancelled()
                assert await told(braze, event) == [DELIVERED]
                assert inside(api) == members
                known = {read_member_key(key).id for key in store.pairs if key.startswith(make_prefix(MEMBER))}
                assert known == members
                assert read_record(store.pairs[make_key(COHORT, "7")]).members == len(members)
        assert uses > 8
