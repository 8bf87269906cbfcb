"""A connector that does right, and connectors that are wrong in one way each, as people have written them."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import ClassVar
from uuid import uuid4

import aiohttp
import orjson

from relay.api import (
    DELIVERED,
    Batch,
    Connector,
    ConnectorSettings,
    Event,
    HttpUrl,
    Outcome,
    Reject,
    Retry,
    Secret,
    Skipped,
    Unauthorized,
    User,
)

BLOCKS_S = 1.2
"""Several times what the suite allows: it looks several times, and leaves out looks that a busy machine has held up."""

LONG_S = 7.0
"""Longer than the suite waits for a behaviour that blocks."""


class Good(Connector):
    """Sends each event by itself, and answers for each."""

    class Settings(ConnectorSettings):
        url: HttpUrl
        token: Secret

    async def deliver(self, batch: Batch) -> Sequence[Outcome] | None:
        return [await self.send(event) for event in batch]

    async def send(self, event: Event) -> Outcome:
        try:
            await self.request(event.body, event.id if event.body.startswith(b"{") else "1")
        except (Retry, Reject, Unauthorized) as outcome:
            return outcome
        return DELIVERED

    async def request(self, body: bytes, key: str) -> None:
        headers = {"Authorization": f"Bearer {self.settings.token.reveal()}", "Idempotency-Key": key}
        await self.post(self.settings.url, body, headers)

    async def probe(self) -> str | None:
        return await self.reach(self.settings.url)


class SwallowsErrors(Good):
    async def deliver(self, batch):
        with contextlib.suppress(Exception):
            await super().deliver(batch)


class DeliversNothing(Good):
    async def deliver(self, batch):
        return None


class AcknowledgesEarly(Good):
    async def deliver(self, batch):
        self.work = asyncio.get_running_loop().create_task(super().deliver(batch))


class OnlyTheFirst(Good):
    async def deliver(self, batch):
        await self.send(batch[0])


class BlocksTheLoop(Good):
    async def deliver(self, batch):
        time.sleep(BLOCKS_S)
        return await super().deliver(batch)


class BlocksForEver(Good):
    async def deliver(self, batch):
        time.sleep(LONG_S)


class BorrowsThreads(Good):
    async def deliver(self, batch):
        await asyncio.to_thread(batch.lines)
        return await super().deliver(batch)


class BorrowsThreadsToErase(Good):
    async def erase(self, users: Sequence[User]):
        await asyncio.get_running_loop().run_in_executor(None, repr, users)
        return [Skipped("no")] * len(users)


class LeaksItsSession(Good):
    async def open(self):
        self.session = aiohttp.ClientSession()

    async def request(self, body, key):
        async with self.session.post(self.settings.url, data=body) as answer:
            self.check(answer)


class SessionPerRequest(Good):
    async def request(self, body, key):
        async with aiohttp.ClientSession() as session, session.post(self.settings.url, data=body) as answer:
            self.check(answer)


class LeavesATask(Good):
    async def open(self):
        self.ticker = asyncio.get_running_loop().create_task(asyncio.sleep(3600), name="ticker")


class ClosesTheSharedSession(Good):
    async def request(self, body, key):
        async with self.http as session, session.post(self.settings.url, data=body) as answer:
            self.check(answer)


class OtherOrder(Good):
    async def deliver(self, batch):
        return [*await super().deliver(batch)][::-1]


class FewerOutcomes(Good):
    async def deliver(self, batch):
        return [*await super().deliver(batch)][:1]


class RetriesForEver(Good):
    async def send(self, event):
        while isinstance(outcome := await super().send(event), Retry):
            await asyncio.sleep(0.01)
        return outcome


class SwallowsCancellation(Good):
    async def request(self, body, key):
        try:
            await super().request(body, key)
        except asyncio.CancelledError:
            raise Retry("cancelled") from None


class GoesOnWhenCancelled(Good):
    async def deliver(self, batch):
        work = asyncio.get_running_loop().create_task(super().deliver(batch))
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(work)
        return work.result()


class DropsWhatItCannotEncode(Good):
    async def send(self, event):
        try:
            event.body.decode("ascii")
        except ValueError:
            return DELIVERED
        return await super().send(event)


class NeverTriesOddEvents(Good):
    async def send(self, event):
        if not event.user:
            return Reject("odd")
        return await super().send(event)


class OneOddEventStopsAll(Good):
    async def deliver(self, batch):
        if any(not isinstance(orjson.loads(event.body), dict) for event in batch):
            raise Retry("odd")
        return await super().deliver(batch)


class LogsItsSecret(Good):
    async def open(self):
        self.log.info("opened", token=self.settings.token.reveal())


class PrintsItsSecret(Good):
    async def open(self):
        print(f"connected with {self.settings.token.reveal()}")


class SaysItsSecret(Good):
    async def send(self, event):
        outcome = await super().send(event)
        return Retry(f"{outcome} for {self.settings.token.reveal()}") if isinstance(outcome, Retry) else outcome


class EmptySecret(Good):
    async def request(self, body, key):
        token = "" if self.settings.token.problem else self.settings.token.reveal()
        await self.post(self.settings.url, body, {"Authorization": f"Bearer {token}"})


class RetriesRefusals(Good):
    async def send(self, event):
        outcome = await super().send(event)
        return Retry(outcome.reason) if isinstance(outcome, Reject | Unauthorized) else outcome


class RefusesTroubles(Good):
    async def send(self, event):
        outcome = await super().send(event)
        return Reject(outcome.reason) if isinstance(outcome, Retry) else outcome


class PausesForTroubles(Good):
    async def send(self, event):
        outcome = await super().send(event)
        return Unauthorized(outcome.reason) if isinstance(outcome, Retry) else outcome


class ForgetsRetryAfter(Good):
    async def send(self, event):
        outcome = await super().send(event)
        return Retry(outcome.reason) if isinstance(outcome, Retry) else outcome


class AnotherKeyEachTime(Good):
    async def request(self, body, key):
        await super().request(body, str(uuid4()))


class AnotherBodyEachTime(Good):
    async def request(self, body, key):
        await super().request(orjson.dumps({"sent": time.time_ns(), "event": body.decode()}), key)


class ForgetsTheId(Good):
    async def request(self, body, key):
        data = orjson.loads(body)
        await super().request(orjson.dumps({"text": data["event_type"]} if isinstance(data, dict) else 1), key)


class KeepsBatches(Good):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.seen = set()

    async def deliver(self, batch):
        self.seen.add(batch.id)
        return await super().deliver(batch)


class NotReentrant(Good):
    async def deliver(self, batch):
        self.batch = batch
        await asyncio.sleep(0.02)
        return await super().deliver(self.batch)


class SendsTwice(Good):
    async def deliver(self, batch):
        await super().deliver(batch)
        return await super().deliver(batch)


class FollowsRedirects(Good):
    async def request(self, body, key):
        async with self.http.post(self.settings.url, data=body) as answer:
            if answer.status < 400:
                return
            self.check(answer)


class OwnMeaningOfStatuses(Good):
    async def request(self, body, key):
        async with self.http.post(self.settings.url, data=body) as answer:
            if answer.status == 503:
                raise Retry("unavailable")
            if answer.status >= 400:
                raise Reject(f"HTTP {answer.status}")


class FragileClose(Good):
    closed = False

    async def close(self):
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True


class NeedsOpenToClose(Good):
    async def open(self):
        self.buffer = []

    async def close(self):
        self.buffer.clear()


class OpensOnce(Good):
    opened = False

    async def open(self):
        if self.opened:
            raise RuntimeError("opened twice")
        self.opened = True


class SaysNothingOnOpen(Good):
    async def open(self):
        try:
            await self.reach(self.settings.url)
        except Retry:
            raise Retry from None


class ProbeSends(Good):
    async def probe(self):
        await self.request(b'{"id": "suite-000000000000"}', "probe")
        return "it works"


class ProbeAlwaysPasses(Good):
    async def probe(self):
        return "it works"


class TakesAnySetting(Good):
    class Settings(Good.Settings):
        model_config: ClassVar = {"extra": "allow"}
