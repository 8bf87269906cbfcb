"""The connector type `braze_cohorts`: keeps Braze cohorts in step with segments. Also the command `relay cohorts`.

Braze never creates a user for a cohort, and ignores unknown ids without a word. Braze also ignores the device id of a
user with an external id or alias (Braze docs, Cohort import). So Braze may count fewer users than relay sends.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import ClassVar, Final

from relay.api import (
    DELIVERED,
    Answered,
    Batch,
    Connector,
    Event,
    Outcome,
    Reject,
    Retry,
    Secret,
    StoreError,
    Unauthorized,
    User,
)
from relay_plugins.braze_cohorts.braze_requests import Attributes, Budget, CohortRequest, Partner, read_errors
from relay_plugins.braze_cohorts.change import (
    EVENT_TYPE,
    Change,
    Member,
    Portion,
    drop_kind,
    make_resend,
    merge,
    read_change,
    read_cohort_id,
    split_portions,
    split_runs,
)
from relay_plugins.braze_cohorts.erasure import erase
from relay_plugins.braze_cohorts.older_database import find_older_database, take_over
from relay_plugins.braze_cohorts.settings import ARRAY_SIZE, HOSTS, NEEDS, CohortSettings
from relay_plugins.braze_cohorts.store import CohortStore
from relay_plugins.braze_cohorts.tables import TABLES

USUAL_NAMES: Final = {"boolean": "heap_cohort_{id}", "array": "heap_cohorts"}
"""Names of attributes, if `attribute` is not set."""
LOCKED: Final = "423"
"""Status while another program writes to the cohort: no fault of the events (Braze docs, Cohort import)."""
CHECK_S: Final = 60.0
ANSWER_SIZE: Final = 1 << 20
ANSWER_S: Final = 5.0
"""Bytes and seconds to read an answer, which may name each entry that Braze did not take."""
CUT_SHORT: Final = "not known: its answer was cut short"
ERROR_CHARS: Final = 200
"""Characters that relay keeps of an error."""


@dataclass(slots=True)
class Turn:
    """The time in which one delivery may begin requests. Its first users are sent at any time, so that each delivery
    gets on with a long change."""

    until: float
    has_sent: bool = False


class BrazeCohorts(Connector, type="braze_cohorts"):
    """Keeps Braze cohorts in step with segments: gets `cohort.Change` events, and sends Braze the missing changes.

    The changes of a cohort stay in order, through all retries.
    """

    accepted_types: ClassVar[tuple[str, ...]] = (EVENT_TYPE,)
    tables = TABLES

    Settings = CohortSettings
    settings: CohortSettings

    def __init__(self, name: str, settings: CohortSettings, *, folder: Path) -> None:
        answers = {LOCKED: "retry"} | settings.answers
        super().__init__(name, settings.model_copy(update={"answers": answers}), folder=folder)
        self._url = (settings.endpoint or HOSTS[settings.cluster or ""]).rstrip("/")
        self._braze: Partner | Attributes
        if settings.partner and settings.partner_key and settings.data_import_key:
            keys = settings.partner_key.reveal(), settings.data_import_key.reveal()
            self._braze = Partner(settings.partner, *keys)
        else:
            rest_key, listed = settings.rest_key.reveal() if settings.rest_key else "", settings.style == "array"
            self._braze = Attributes(rest_key, settings.attribute or USUAL_NAMES[settings.style], listed=listed)
        self._budget = Budget(self._braze.limit)
        self._next_check = 0.0
        self._locks = defaultdict[str, asyncio.Lock](asyncio.Lock)
        """Locks by cohort. No erasure comes between reading the members of a cohort and sending a change of them."""

    def key(self, event: Event) -> str | None:
        """Return the id of the cohort: changes of one cohort stay in order."""
        return read_cohort_id(event)

    async def probe(self) -> str:
        """Connect to Braze. Raises `Retry`."""
        return await self.reach(self._url)

    async def open(self) -> None:
        """Take over the database of an older relay. Raises OSError."""
        target = f"{self._url} {self._braze.target}"
        self._cohorts = CohortStore(self.store, target)
        older = find_older_database(self.folder, self.name)
        # all cohorts are with the first worker or partition, and partitions have one folder
        if not self.worker and await take_over(older, self.store, target, self.run_blocking):
            self.log.info("cohorts are taken over from the database of an older relay")
        if found := await self._cohorts.count_elsewhere():
            self.log.warning(
                "cohorts were sent to another Braze, or in another way, so far; each is sent to this one as a whole"
                " before its next change, or now by relay cohorts resync --all. In the other one everybody stays",
                cohorts=found,
            )

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Remove the users from all cohorts, and forget them. Raises Retry, Unauthorized."""
        try:
            return await erase(self._cohorts, users, self._remove_members)
        except StoreError as error:
            raise Retry(f"what Braze knows of the cohorts cannot be changed: {error}") from None

    async def _remove_members(self, cohort: str, members: Sequence[Member]) -> None:
        store, change = self._cohorts, make_resend(cohort, self._cohorts.before)
        async with self._locks[cohort]:
            inside = await store.find_inside(cohort, members)
            for portion in split_portions((), inside, self._braze.most):
                answer = await self._post(await self._make_request(change, portion))
                await self._save_errors(change, answer, [member.id for member in portion.remove])
                await store.forget(cohort, portion.remove)
            await store.forget(cohort, members)

    async def deliver(self, batch: Batch) -> list[Outcome]:
        """Send Braze each change. A failed change holds up only the changes of its cohort."""
        outcomes: dict[int, Outcome] = {}
        turn = Turn(time.monotonic() + self.settings.timeout / 2)
        # Sort the changes by cohort, with their numbers; reject other events
        found = defaultdict[str, list[tuple[int, Change]]](list)
        for number, event in enumerate(batch):
            try:
                change = read_change(event)
            except Reject as refusal:
                outcomes[number] = refusal
            else:
                found[change.cohort].append((number, change))
        for changes in found.values():
            # Send the changes of one cohort, up to the first that has to be retried
            waiting = deque(split_runs(changes, self._braze.most))
            while waiting:
                run = waiting.popleft()
                outcome = await self._deliver_change(merge([change for _, change in run]), turn)
                if isinstance(outcome, Reject) and len(run) > 1:
                    waiting.extendleft([each] for each in reversed(run))
                    continue
                if isinstance(outcome, Retry | Unauthorized):
                    run = [*run, *chain(*waiting)]
                    waiting.clear()
                outcomes.update((number, outcome) for number, _ in run)
        return [outcomes[number] for number in range(len(batch))]

    async def _deliver_change(self, change: Change, turn: Turn) -> Outcome:
        try:
            async with self._locks[change.cohort]:
                await self._apply(change, turn)
        except (Retry, Reject, Unauthorized) as outcome:
            return outcome
        except StoreError as error:
            return Retry(f"what Braze knows of the cohorts cannot be kept: {error}")
        return DELIVERED

    async def _apply(self, change: Change, turn: Turn) -> None:
        """Send a change; at the end of a full sync also remove the members that the sync has not named."""
        store, unknown_kind = self._cohorts, self._braze.cannot_find
        if await store.is_elsewhere(change.cohort):
            # Send this Braze all that another Braze was told of the cohort
            forgotten = await store.forget_kind(change.cohort, unknown_kind)
            self._warn_of_left_out(change.cohort, forgotten)
            await self._send_change(make_resend(change.cohort, store.before), turn)
            await store.save_target(change.cohort)
            change = replace(change, resend=False)
        whole, change = change, drop_kind(change, unknown_kind)
        known = await self._send_change(change, turn)
        start = await store.finish_change(change, known)
        if start is not None:
            async for leavers in store.list_leavers(change.cohort, start, self._braze.most):
                await self._send_members(change, (), leavers, turn)
        left_out = sum(len(a) - len(b) for a, b in ((whole.add, change.add), (whole.remove, change.remove)))
        await store.mark_synced(change, complete=start is not None, left_out=left_out)
        self._warn_of_left_out(change.cohort, left_out)
        if self.settings.style == "array" and time.monotonic() >= self._next_check:
            await self._check_arrays()

    async def _check_arrays(self) -> None:
        """Report users in more cohorts than an array holds. That reads all members: call it at most once a minute."""
        self._next_check = time.monotonic() + CHECK_S
        most = self.settings.array_size or ARRAY_SIZE
        found, before = await self._cohorts.count_crowded(most), self.notice
        who = "1 user is" if found == 1 else f"{found:,} users are"
        self.notice = f"{who} in more than {most} cohorts: Braze keeps the last {most} of an array" if found else ""
        if self.notice and not before:
            self.log.warning(
                "array overflows: the cohorts that the users came into first leave it", users=found, most=most
            )

    def _warn_of_left_out(self, cohort: str, users: int) -> None:
        if users:
            kind = self._braze.cannot_find
            self.log.warning(
                "users left out: Braze cannot find them by such an id", cohort=cohort, kind=kind, users=users
            )

    async def _send_change(self, change: Change, turn: Turn) -> Mapping[bytes, bytes]:
        """Send the name, and the users that the change itself adds and removes; return `known` of the plan."""
        store = self._cohorts
        plan = await store.plan(change)
        if plan.introduce:
            named = replace(change, name=plan.name)
            if request := self._braze.introduce(named, plan.created):
                await self._send(change, request, turn)
            await store.save_name(named, plan.created)
        if not change.resend:
            await self._send_members(change, plan.add, plan.remove, turn)
            return plan.known
        # Fill up the request with the last of the change's own users, then send all other members
        most = self._braze.most
        others = store.list_untold(change, most - (len(plan.add) + len(plan.remove)) % most, most)
        await self._send_members(change, [*plan.add, *await anext(others)], plan.remove, turn)
        async for members in others:
            await self._send_members(change, members, (), turn)
        return plan.known

    async def _send_members(self, change: Change, add: Sequence[Member], remove: Sequence[Member], turn: Turn) -> None:
        store = self._cohorts
        for portion in split_portions(add, remove, self._braze.most):
            request = await self._make_request(change, portion)
            asked = await store.save_asked(change.cohort, portion.add)
            try:
                await self._send(change, request, turn)
            except Reject:  # Braze has answered, and has none of the users
                await store.forget_asked(change.cohort, asked)
                raise
            turn.has_sent = True
            await store.save_sent(change, portion)

    async def _make_request(self, change: Change, portion: Portion) -> CohortRequest:
        if "{name}" in (self.settings.attribute or ""):
            slug = await self._cohorts.find_slug(change.cohort, change.name)
            change = replace(change, slug=slug)
        return self._braze.change(change, portion)

    async def _send(self, change: Change, request: CohortRequest, turn: Turn) -> None:
        if turn.has_sent and time.monotonic() > turn.until:  # long before the delivery counts as failed
            raise Retry("a long change, goes on", after=0, hold_lane=False)
        await self._save_errors(change, await self._post(request))

    async def _save_errors(self, change: Change, answer: Answered, hidden: Sequence[str] = ()) -> None:
        """Log and save the errors in an answer, without secrets and without the ids in `hidden`."""
        errors = read_errors(answer.body) if answer.complete else [CUT_SHORT]
        if not errors:
            return
        keys = (getattr(self.settings, field) for fields in NEEDS.values() for field in fields)
        for secret in chain((key.reveal() for key in keys if isinstance(key, Secret)), hidden):
            errors = [error.replace(secret, "...") for error in errors]
        errors = [error[:ERROR_CHARS] for error in errors]
        self.log.warning("Braze took a change only in part", cohort=change.cohort, errors=len(errors), first=errors[0])
        await self._cohorts.save_errors(change, errors)

    async def _post(self, request: CohortRequest) -> Answered:
        """Post a request, unless Braze's limit is reached. Raises Retry, Reject, Unauthorized."""
        if wait := self._budget.take(time.time()):
            limit = self._braze.limit
            raise Retry(f"Braze's limit: {limit.requests:,} requests in {limit.seconds:,} s", after=wait)
        answer = await self.post(
            self._url + request.path,
            request.body,
            request.headers,
            answer_size=ANSWER_SIZE,
            answer_seconds=ANSWER_S,
        )
        self._budget.record_answer(answer.headers, time.time())
        return answer
