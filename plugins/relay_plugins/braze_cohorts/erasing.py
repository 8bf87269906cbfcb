"""Erases users from all cohorts: one cohort after another, and what fails in one keeps no other from its turn."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from relay.api import DELIVERED, Outcome, Reject, Retry, User
from relay_plugins.braze_cohorts.known import Known

TakeOut = Callable[[str, Sequence[str]], Awaitable[None]]
"""Takes users out of a cohort by their external ids. Raises Retry, Reject, Unauthorized."""


async def erase(known: Known, users: Sequence[User], take_out: TakeOut) -> list[Outcome]:
    """Have the users taken out everywhere; of each, what became of it: `Retry` and `Reject` are for those of whom
    something is left somewhere. Raises Retry, Unauthorized, sqlite3.Error."""
    ids = [one for user in users for one in user.external_ids]
    failed = dict[str, Outcome]()
    for cohort in await known.run(partial(known.where, ids)):
        try:
            await take_out(cohort, ids)
        except (Retry, Reject) as outcome:
            failed[cohort] = outcome
    if not await known.run(known.clean):
        raise Retry("another process is reading what Braze knows of the cohorts")
    left = await known.run(partial(known.where, ids))
    return [_outcome(user, left, failed) for user in users]


def _outcome(user: User, left: Mapping[str, Sequence[str]], failed: Mapping[str, Outcome]) -> Outcome:
    for cohort, ids in left.items():
        if not {*user.external_ids}.isdisjoint(ids):
            return failed.get(cohort) or Retry("came into a cohort meanwhile")
    return DELIVERED
