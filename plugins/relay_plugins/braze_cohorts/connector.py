"""The connector type `braze_cohorts`: keeps Braze cohorts in step with segments, and the commands to look at them.

Braze never creates a user for a cohort: ids it does not know are ignored, without a word. So are device ids of users
who have an external id or alias by now (Braze docs, Cohort import): what Braze counts can be less than what is sent.
"""

import asyncio
import sqlite3
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import ClassVar, Final

import click

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
    Unauthorized,
    User,
    hookimpl,
)
from relay_plugins.braze_cohorts.braze_requests import Attributes, Budget, CohortRequest, Partner, errors_in
from relay_plugins.braze_cohorts.change import (
    EVENT_TYPE,
    Change,
    Member,
    Portion,
    change_of,
    cohort_of,
    everything,
    merged,
    portions,
    runs,
    without,
)
from relay_plugins.braze_cohorts.erasure import erase
from relay_plugins.braze_cohorts.queries import FOLDER
from relay_plugins.braze_cohorts.settings import ARRAY_SIZE, HOSTS, NEEDS, CohortSettings
from relay_plugins.braze_cohorts.store import CohortStore

USUAL_NAMES: Final = {"boolean": "heap_cohort_{id}", "array": "heap_cohorts"}
"""Of attributes."""
LOCKED: Final = "423"
"""Somebody else writes to the cohort: no fault of the events (Braze docs, Cohort import)."""
LOOK_S: Final = 60.0
ANSWER_SIZE: Final = 1 << 20
ANSWER_S: Final = 5.0
"""How much of an answer is read: it may name each entry that Braze did not take."""
CUT_SHORT: Final = "not known: its answer was cut short"
MOST_TOLD: Final = 200
"""Characters of what Braze says that are kept."""


class BrazeCohorts(Connector, type="braze_cohorts"):
    """Keeps Braze cohorts in step with segments: gets `cohort.Change` events, and sends Braze the missing changes.

    The changes of a cohort stay in order, through all retries.
    """

    accepted_types: ClassVar[tuple[str, ...]] = (EVENT_TYPE,)

    Settings = CohortSettings
    settings: CohortSettings

    def __init__(self, name: str, settings: CohortSettings, *, folder: Path) -> None:
        answers = {LOCKED: "retry"} | settings.answers
        super().__init__(name, settings.model_copy(update={"answers": answers}), folder=folder)
        self._url = (settings.endpoint or HOSTS[settings.cluster or ""]).rstrip("/")
        self._braze = _braze(settings)
        self._budget = Budget(self._braze.limit)
        self._known = CohortStore(folder / FOLDER / f"{name}.db", f"{self._url} {self._braze.target}")
        self._next_look = 0.0
        self._locks = defaultdict[str, asyncio.Lock](asyncio.Lock)
        """Of each cohort: nobody is erased from it between a look at who is in it and what is sent because of that."""

    def key(self, event: Event) -> str | None:
        """Changes of one cohort stay in order."""
        return cohort_of(event)

    async def probe(self) -> str:
        """Connect to Braze. Raises `Retry`."""
        return await self.reach(self._url)

    async def open(self) -> None:
        """Open the database of what Braze knows. Raises OSError, sqlite3.Error."""
        await self._known.run(self._known.open)
        if found := await self._known.run(self._known.elsewhere):
            self.log.warning(
                "cohorts were sent to another Braze, or in another way, so far; each is sent to this one as a whole"
                " before its next change, or now by relay cohorts resync --all. In the other one everybody stays",
                cohorts=found,
            )

    async def close(self) -> None:
        """Let go of the database."""
        await self._known.close()

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Take the users out of the cohorts, for those whom Braze has not deleted itself, and forget them. Raises
        Retry, Unauthorized."""
        try:
            return await erase(self._known, users, self._take_out)
        except sqlite3.Error as error:
            raise Retry(f"what Braze knows of the cohorts cannot be changed: {error}") from None

    async def _take_out(self, cohort: str, members: Sequence[Member]) -> None:
        known, change = self._known, everything(cohort, self._known.before)
        async with self._locks[cohort]:
            inside = await known.run(partial(known.inside, cohort, members))
            for portion in portions((), inside, self._braze.most):
                answer = await self._post(await self._request(change, portion))
                await self._heed(change, answer, [member.id for member in portion.remove])
                await known.run(partial(known.forget, cohort, portion.remove))
            await known.run(partial(known.forget, cohort, members))

    async def deliver(self, batch: Batch) -> list[Outcome]:
        """Tell Braze of each change; one that fails holds up those of its cohort alone."""
        outcomes: dict[int, Outcome] = {}
        until = time.monotonic() + self.settings.timeout / 2
        # Sort the changes by cohort, with their numbers; reject other events
        found = defaultdict[str, list[tuple[int, Change]]](list)
        for number, event in enumerate(batch):
            try:
                change = change_of(event)
            except Reject as refusal:
                outcomes[number] = refusal
            else:
                found[change.cohort].append((number, change))
        for changes in found.values():
            # Send the changes of one cohort, up to the first that has to be retried
            waiting = deque(runs(changes, self._braze.most))
            while waiting:
                run = waiting.popleft()
                outcome = await self._outcome(merged([change for _, change in run]), until)
                if isinstance(outcome, Reject) and len(run) > 1:
                    waiting.extendleft([each] for each in reversed(run))
                    continue
                if isinstance(outcome, Retry | Unauthorized):
                    run = [*run, *chain(*waiting)]
                    waiting.clear()
                outcomes.update((number, outcome) for number, _ in run)
        return [outcomes[number] for number in range(len(batch))]

    async def _outcome(self, change: Change, until: float) -> Outcome:
        try:
            async with self._locks[change.cohort]:
                await self._apply(change, until)
        except (Retry, Reject, Unauthorized) as outcome:
            return outcome
        except sqlite3.Error as error:
            return Retry(f"what Braze knows of the cohorts cannot be kept: {error}")
        return DELIVERED

    async def _apply(self, change: Change, until: float) -> None:
        known = self._known
        if await known.run(partial(known.is_elsewhere, change.cohort)):
            await self._bring(change.cohort, until)
            change = replace(change, resend=False)
        whole, change = change, without(change, self._braze.cannot_find)
        await self._begin(change, until)
        left = await known.run(partial(known.left, change))
        await self._tell(change, (), left or (), until)
        lost = sum(len(a) - len(b) for a, b in ((whole.add, change.add), (whole.remove, change.remove)))
        await known.run(partial(known.synced, change, complete=left is not None, left_out=lost))
        self._tell_of_lost(change.cohort, lost)
        # Find users in more cohorts than an array holds, at most once a minute: that reads all members
        if self.settings.style != "array" or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        most = self.settings.array_size or ARRAY_SIZE
        found, before = await self._known.run(partial(self._known.crowded, most)), self.notice
        who = "1 user is" if found == 1 else f"{found:,} users are"
        self.notice = f"{who} in more than {most} cohorts: Braze keeps the last {most} of an array" if found else ""
        if self.notice and not before:
            self.log.warning(
                "array overflows: the cohorts that the users came into first leave it", users=found, most=most
            )

    async def _bring(self, cohort: str, until: float) -> None:
        """Tell this Braze all that another one knows of a cohort."""
        known = self._known
        self._tell_of_lost(cohort, await known.run(partial(known.without, cohort, self._braze.cannot_find)))
        await self._begin(everything(cohort, known.before), until)
        await known.run(partial(known.arrived, cohort))

    def _tell_of_lost(self, cohort: str, users: int) -> None:
        if users:
            kind = self._braze.cannot_find
            self.log.warning(
                "users left out: Braze cannot find them by such an id", cohort=cohort, kind=kind, users=users
            )

    async def _begin(self, change: Change, until: float) -> None:
        """Tell the name, who came, and who left by the change itself."""
        known = self._known
        plan = await known.run(partial(known.plan, change))
        if plan.introduce:
            named = replace(change, name=plan.name)
            if request := self._braze.introduce(named, plan.created):
                await self._send(change, request, until)
            await known.run(partial(known.introduced, named, plan.created))
        await self._tell(change, plan.add, plan.remove, until)

    async def _tell(self, change: Change, add: Sequence[Member], remove: Sequence[Member], until: float) -> None:
        for portion in portions(add, remove, self._braze.most):
            request = await self._request(change, portion)
            asked = await self._known.run(partial(self._known.asked, change.cohort, portion.add))
            try:
                await self._send(change, request, until)
            except Reject:  # which a request without an answer is not
                await self._known.run(partial(self._known.answered, change.cohort, asked))
                raise
            await self._known.run(partial(self._known.sent, change, portion))

    async def _request(self, change: Change, portion: Portion) -> CohortRequest:
        if "{name}" in (self.settings.attribute or ""):
            slug = await self._known.run(partial(self._known.slug, change.cohort, change.name))
            change = replace(change, slug=slug)
        return self._braze.change(change, portion)

    async def _send(self, change: Change, request: CohortRequest, until: float) -> None:
        if time.monotonic() > until:  # long before the delivery counts as failed; what was told is known
            raise Retry("a long change, goes on", after=0, hold_lane=False)
        await self._heed(change, await self._post(request))

    async def _heed(self, change: Change, answer: Answered, hidden: Sequence[str] = ()) -> None:
        """Log and count what Braze did not take of a change, without the ids that are `hidden`."""
        told = errors_in(answer.body) if answer.complete else [CUT_SHORT]
        if errors := [self._without_secrets(error, hidden) for error in told]:
            self.log.warning(
                "Braze took a change only in part", cohort=change.cohort, errors=len(errors), first=errors[0]
            )
            await self._known.run(partial(self._known.complained, change, errors))

    async def _post(self, request: CohortRequest) -> Answered:
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
        self._budget.told(answer.headers, time.time())
        return answer

    def _without_secrets(self, text: str, hidden: Sequence[str]) -> str:
        secrets = (getattr(self.settings, field) for fields in NEEDS.values() for field in fields)
        for secret in chain((one.reveal() for one in secrets if isinstance(one, Secret)), hidden):
            text = text.replace(secret, "...")
        return text[:MOST_TOLD]


def _braze(settings: CohortSettings) -> Partner | Attributes:
    if settings.partner and settings.partner_key and settings.data_import_key:
        return Partner(settings.partner, settings.partner_key.reveal(), settings.data_import_key.reveal())
    rest_key, listed = settings.rest_key.reveal() if settings.rest_key else "", settings.style == "array"
    return Attributes(rest_key, settings.attribute or USUAL_NAMES[settings.style], listed=listed)


@hookimpl
def relay_commands() -> list[click.Command]:
    """`relay cohorts`."""
    from relay_plugins.braze_cohorts.cli.commands import cohorts

    return [cohorts]
