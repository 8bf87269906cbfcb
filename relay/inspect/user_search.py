"""Finds what remains of a user. Blocking, and changes nothing."""

from collections.abc import Sequence

from msgspec import Struct

from relay.api import User
from relay.inspect.progress import UNTOLD, JournalProgress
from relay.store import Erased, ParkedQuery, Store, Wanted, make_digests


class Remains(Struct, frozen=True):
    """What was found of a user."""

    events: int
    """Events in the journal that are the user's, or name the user among others."""
    parked: int
    erasures: Sequence[int]
    """The numbers of the receipts with the digest of one of the ids."""
    problems: Sequence[str]
    """What could not be read; more may remain."""


def find_remains(store: Store, user: User, progress: JournalProgress = UNTOLD) -> Remains:
    """Find a user in the journals, parked events and receipts of all workers. Raises Unavailable."""
    wanted, digests = Wanted({1: user}), make_digests(user)
    receipts = [one.number for one in store.erasures.read() if digests & {*one.digests}]
    views = store.view_all()
    logs = {view.number: view.view_log() for view in views}
    progress.begin(views)
    found = (Erased(block, wanted) for number, log in logs.items() for _, block in progress.follow(number, log.read()))
    events = sum(len(one.erased) + len(one.changed) for one in found)
    parked = 0
    for one in store.parked.read(ParkedQuery()):
        text = one.body.decode(errors="replace") if one.connector is None else ""
        parked += bool(wanted.find_numbers(one.body) or wanted.find_by_key(one.key) or wanted.find_named(text))
    return Remains(events, parked, receipts, [problem for log in logs.values() for problem in log.problems])
