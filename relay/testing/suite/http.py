"""Behaviours on HTTP: statuses, Retry-After, partial answers, and connections."""

import gzip
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

import orjson

from relay.api import Batch
from relay.testing.destination import Answer, Destination, Received, Reset
from relay.testing.suite.behaviour import Lacks, SuiteBase, behaviour, expect
from relay.testing.suite.destination import HttpDestination, find_ids
from relay.testing.suite.rehearsal import Rehearsal

PAUSES = (401, 403, 404)
REJECTS = (400, 422)
ODD = 1
"""The number of the event that the destination refuses."""
MOST = 2
"""Events that a destination with a limit takes in a request."""
VARIES = ("date", "timestamp", "signature", "content-length")
"""Parts of the names of headers that may differ between two attempts."""


class HttpBehaviours(SuiteBase):
    """What every connector over HTTP shows besides."""

    varies: ClassVar[Sequence[str]]
    error_in_200: ClassVar[Answer | None]

    def partial_answer(self, refused: int, ids: Sequence[str]) -> Answer | None:
        raise NotImplementedError

    @behaviour("same_request")
    async def test_a_second_attempt_is_the_same_request(self, rehearsal: Rehearsal) -> None:
        """Body, keys and ids are those of the first attempt, so that the destination can tell that it is one."""
        async with rehearsal.opened():
            server, batch = _server(rehearsal), rehearsal.batch(3)
            await rehearsal.deliver(batch)
            first = [self._comparable(request) for request in server.requests]
            await rehearsal.deliver(Batch(batch.blocks, attempt=2))
            for request in map(self._comparable, server.requests[len(first) :]):
                differing = [name for name in request if request[name] not in [one.get(name) for one in first]]
                expect(not differing, f"{', '.join(differing)}: another at each attempt; see `varies` of the suite")

    @behaviour("retry_after")
    async def test_a_429_is_obeyed_in_seconds(self, rehearsal: Rehearsal) -> None:
        """`Retry-After: 7` is a wait of at least 7 seconds, which relay waits."""
        await self._check_wait(rehearsal, "7", 7)

    @behaviour("retry_after_date")
    async def test_a_429_is_obeyed_until_a_date(self, rehearsal: Rehearsal) -> None:
        """`Retry-After` with a date is a wait until that date, which relay waits."""
        await self._check_wait(rehearsal, format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 3500)

    @behaviour("too_large")
    async def test_a_413_has_the_batch_sent_in_parts(self, rehearsal: Rehearsal) -> None:
        """A destination that takes two events of a request gets all of a batch of seven."""
        async with rehearsal.opened():
            server = _server(rehearsal)
            server.choose = lambda request: 413 if len({*find_ids(request.body)}) > MOST else None
            await rehearsal.check_arrives(rehearsal.batch(7))

    @behaviour("rejected")
    async def test_a_refused_event_is_parked_and_the_others_arrive(self, rehearsal: Rehearsal) -> None:
        """400 and 422 are about the events: relay finds the refused one, and does not try it for ever."""
        async with rehearsal.opened():
            for status in REJECTS:
                batch = rehearsal.batch(4)
                bad = find_ids(batch.bodies()[ODD])[0].encode()
                _server(rehearsal).choose = lambda request, bad=bad, status=status: (
                    Answer(status=status, body=b"no") if bad in request.body else None
                )
                books = await rehearsal.settle(batch)
                expect([*books.parked] == [ODD], f"HTTP {status} for one of four events parks {len(books.parked)}")
                expect(books.parked[ODD], f"HTTP {status} parks an event without a reason")

    @behaviour("pauses")
    async def test_401_403_and_404_pause(self, rehearsal: Rehearsal) -> None:
        """Credentials or address are wrong: no event is to blame."""
        async with rehearsal.opened():
            for status in PAUSES:
                await self._check_unauthorized(rehearsal, Answer(status=status, body=b"no"))

    @behaviour("redirect")
    async def test_a_redirect_is_not_followed(self, rehearsal: Rehearsal) -> None:
        """A redirected POST loses its body: the connector pauses, and asks for the final address."""
        async with rehearsal.opened():
            for status in (302, 307):
                server = _server(rehearsal)
                before = len(server.requests)
                await self._check_unauthorized(rehearsal, Answer(status=status, headers={"Location": "/elsewhere"}))
                followed = [one for one in server.requests[before:] if one.target == "/elsewhere"]
                expect(not followed, f"HTTP {status} is followed")

    @behaviour("answers")
    async def test_answers_change_the_meaning_of_a_status(self, rehearsal: Rehearsal) -> None:
        """`answers = { 409 = "retry", 503 = "pause" }` is heeded: use `self.post` or `self.check`."""
        async with rehearsal.opened() as connector:
            changed = {**connector.settings.answers, "409": "retry", "503": "pause"}
            connector.settings = connector.settings.model_copy(update={"answers": changed})
            _server(rehearsal).behaviour = 409
            result = await rehearsal.deliver(rehearsal.batch(2))
            expect(not result.refused, "409 is refused, although `answers` has it tried again")
            await self._check_unauthorized(rehearsal, Answer(status=503))

    @behaviour("reset")
    async def test_a_reset_connection_is_tried_again(self, rehearsal: Rehearsal) -> None:
        """A connection that is reset before the request was read is a passing trouble."""
        async with rehearsal.opened():
            batch = rehearsal.batch(3)
            _server(rehearsal).behaviour = Reset()
            result = await rehearsal.deliver(batch)
            expect(len(result.deferred_numbers) == len(batch), "events that did not arrive do not wait")
            await rehearsal.destination.recover()
            await rehearsal.check_arrives(batch)

    @behaviour("cut_answer")
    async def test_an_answer_that_is_cut_is_no_refusal(self, rehearsal: Rehearsal) -> None:
        """A 2xx answer without the end of its body delivers, or has the batch sent again."""
        async with rehearsal.opened():
            batch = rehearsal.batch(3)
            _server(rehearsal).behaviour = Answer(body=b'{"ok": true}', cut=True)
            result = await rehearsal.deliver(batch)
            expect(not result.refused, f"events are parked for a cut answer: {result.refused[:1]}")
            expect(not any(one.unauthorized for one in result.deferred), "a cut answer pauses")
            await rehearsal.destination.recover()
            await rehearsal.check_arrives(batch, once=False)

    @behaviour("gzip")
    async def test_reads_an_answer_in_gzip(self, rehearsal: Rehearsal) -> None:
        """An answer with `Content-Encoding: gzip` is an answer."""
        async with rehearsal.opened():
            server = _server(rehearsal)
            if isinstance(well := server.behaviour, Answer):
                headers = {**well.headers, "Content-Encoding": "gzip"}
                server.behaviour = replace(well, headers=headers, body=gzip.compress(well.body))
            await rehearsal.check_arrives(rehearsal.batch(2))

    @behaviour("reuse")
    async def test_uses_its_connections_again(self, rehearsal: Rehearsal) -> None:
        """Ten batches, one after the other, need one connection."""
        async with rehearsal.opened():
            for _ in range(10):
                await rehearsal.check_arrives(rehearsal.batch(1))
            found = len(_server(rehearsal).connections)
            expect(found == 1, f"{found} connections for ten batches in a row: use self.http or self.post")

    @behaviour("error_in_200")
    async def test_a_2xx_that_says_no_delivers_nothing(self, rehearsal: Rehearsal) -> None:
        """Where the destination says in the body of a 2xx that it has taken nothing, nothing is delivered."""
        if self.error_in_200 is None:
            raise Lacks("the destination says what it means by the status (`error_in_200` of the suite is not set)")
        async with rehearsal.opened():
            _server(rehearsal).behaviour = self.error_in_200
            result = await rehearsal.attempt(rehearsal.batch(2))
            expect(not result.delivered, "events are called delivered, but the answer says that they are not taken")

    @behaviour("partial")
    async def test_partial_acceptance_is_told_by_event(self, rehearsal: Rehearsal) -> None:
        """Where the destination takes a part of a request, the others are parked or sent again, and no more."""
        if self.partial_answer(0, ["suite-0"]) is None:
            raise Lacks("the destination takes all of a request or nothing (`partial_answer` of the suite has none)")
        async with rehearsal.opened():
            batch = rehearsal.batch(3)
            bad = find_ids(batch.bodies()[ODD])[0]

            def choose(request: Received) -> Answer | None:
                ids = find_ids(request.body)
                return self.partial_answer(ids.index(bad), ids) if bad in ids else None

            _server(rehearsal).choose = choose
            result = await rehearsal.attempt(batch)
            others = [number for number in range(len(batch)) if number != ODD]
            said = [*result.find_delivered(len(batch))]
            expect(said == others, f"events {said} are called delivered; the destination has taken {others}")

    async def _check_wait(self, rehearsal: Rehearsal, header: str, least: float) -> None:
        async with rehearsal.opened():
            batch = rehearsal.batch(2)
            for status in (429, 503):
                _server(rehearsal).behaviour = Answer(status=status, headers={"Retry-After": header})
                result = await rehearsal.deliver(batch)
                expect(len(result.deferred_numbers) == len(batch), f"HTTP {status} does not have the events wait")
                after = min((one.after or 0.0 for one in result.deferred), default=math.inf)
                expect(after >= least, f"HTTP {status} with Retry-After: {header} is a wait of {after:g} s")
            await rehearsal.destination.recover()
            await rehearsal.check_arrives(batch)

    async def _check_unauthorized(self, rehearsal: Rehearsal, answer: Answer) -> None:
        _server(rehearsal).behaviour = answer
        result = await rehearsal.deliver(rehearsal.batch(2))
        expect(not result.refused, f"HTTP {answer.status} parks events: {result.refused[:1]}")
        pauses = bool(result.deferred) and all(one.unauthorized for one in result.deferred)
        expect(pauses and not result.delivered, f"HTTP {answer.status} does not pause the connector")

    def _comparable(self, request: Received) -> Mapping[str, Any]:
        may_vary = {name.lower() for name in self.varies}
        headers = {
            f"header {name.lower()}": value
            for name, value in request.headers.items()
            if name.lower() not in may_vary and not any(part in name.lower() for part in VARIES)
        }
        body: Any = request.body
        with suppress(ValueError):
            body = orjson.loads(body)
        if isinstance(body, dict):
            body = {name: value for name, value in body.items() if name not in self.varies}
        return headers | {"method": request.method, "target": request.target, "body": body}


def _server(rehearsal: Rehearsal) -> Destination:
    destination = rehearsal.destination
    if not isinstance(destination, HttpDestination):
        raise TypeError("ConnectorSuite needs an HttpDestination; AnyConnectorSuite is for other destinations")
    return destination.server
