"""Erases users from all cohorts: one cohort after another, and what fails in one keeps no other from its turn."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

from relay.api import Delivered, Outcome, Reject, Retry, User
from relay_plugins.braze_cohorts.change import ALIAS, DEVICE_ID, EMAIL, EXTERNAL_ID, Member
from relay_plugins.braze_cohorts.store import CohortStore

TakeOut = Callable[[str, Sequence[Member]], Awaitable[None]]
"""Takes users out of a cohort. Raises Retry, Reject, Unauthorized."""
UNTOLD: Final = {
    EXTERNAL_ID: "external ids: none is known",
    DEVICE_ID: "device ids: the user's events told none",
    EMAIL: "e-mail addresses: the user's events told none",
    ALIAS.rstrip(":"): "aliases: the request named none (relay erasures request --alias)",
}
"""What the receipt says where a cohort has members by a kind of id of which the user's are not known."""


async def erase(known: CohortStore, users: Sequence[User], take_out: TakeOut) -> list[Outcome]:
    """Have the users taken out everywhere; of each, what became of it: `Retry` and `Reject` are for those of whom
    something is left somewhere. Raises Retry, Unauthorized, sqlite3.Error."""
    # List every id by which a user may be a member of a cohort
    named = [
        [Member(EXTERNAL_ID, one) for one in user.external_ids] + [Member(*one) for one in user.other_ids]
        for user in users
    ]
    ids = [one for members in named for one in members]
    failed = dict[str, Outcome]()
    for cohort in await known.run(partial(known.where, ids)):
        try:
            await take_out(cohort, ids)
        except (Retry, Reject) as outcome:
            failed[cohort] = outcome
    if not await known.run(known.clean):
        raise Retry("another process is reading what Braze knows of the cohorts")
    left = await known.run(partial(known.where, ids))
    kinds = await known.run(known.kinds)
    return [_outcome(members, left, failed, kinds) for members in named]


def _outcome(
    members: Sequence[Member],
    left: Mapping[str, Sequence[Member]],
    failed: Mapping[str, Outcome],
    kinds: AbstractSet[str],
) -> Outcome:
    for cohort, ids in left.items():
        if not {*members}.isdisjoint(ids):
            return failed.get(cohort) or Retry("came into a cohort meanwhile")
    told = {member.kind.partition(":")[0] for member in members}
    untold = [reason for kind, reason in UNTOLD.items() if kind in kinds - told]
    return Delivered(f"not looked for: {'; '.join(untold)}" if untold else "")
