"""Erases users from all cohorts, one cohort after another. A failure in one cohort does not stop the others."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from relay.api import Delivered, Outcome, Reject, Retry, User
from relay_plugins.braze_cohorts.change import ALIAS, DEVICE_ID, EMAIL, EXTERNAL_ID, Member
from relay_plugins.braze_cohorts.store import CohortStore

RemoveMembers = Callable[[str, Sequence[Member]], Awaitable[None]]
"""Removes users from a cohort. Raises Retry, Reject, Unauthorized."""
NOT_SEARCHED: Final = {
    EXTERNAL_ID: "external ids: none is known",
    DEVICE_ID: "device ids: the user's events told none",
    EMAIL: "e-mail addresses: the user's events told none",
    ALIAS.rstrip(":"): "aliases: the request named none (relay erasures request --alias)",
}
"""Words of the receipt for a kind of id that members have, if no such id of the user is known."""


async def erase(store: CohortStore, users: Sequence[User], remove: RemoveMembers) -> list[Outcome]:
    """Remove the users from all cohorts; return an outcome for each. Users with a trace left in a cohort get `Retry` or
    `Reject`. Raises Retry, Unauthorized, StoreError."""
    # List every id by which a user may be a member of a cohort
    named = [
        [Member(EXTERNAL_ID, one) for one in user.external_ids] + [Member(*one) for one in user.other_ids]
        for user in users
    ]
    ids = [one for members in named for one in members]
    failed = dict[str, Outcome]()
    for cohort in await store.find_cohorts(ids):
        try:
            await remove(cohort, ids)
        except (Retry, Reject) as outcome:
            failed[cohort] = outcome
    await store.clean()
    left = await store.find_cohorts(ids)
    kinds = await store.list_kinds()
    return [_find_outcome(members, left, failed, kinds) for members in named]


def _find_outcome(
    members: Sequence[Member],
    left: Mapping[str, Sequence[Member]],
    failed: Mapping[str, Outcome],
    kinds: AbstractSet[str],
) -> Outcome:
    for cohort, ids in left.items():
        if not {*members}.isdisjoint(ids):
            return failed.get(cohort) or Retry("came into a cohort meanwhile")
    known = {member.kind.partition(":")[0] for member in members}
    reasons = [reason for kind, reason in NOT_SEARCHED.items() if kind in kinds - known]
    return Delivered(f"not looked for: {'; '.join(reasons)}" if reasons else "")
