"""One source's way from a request to the journal."""

import sqlite3
from typing import Final

import structlog
from aiohttp import web

from relay.api import Decoded, Denied, Malformed, Source
from relay.config import IngestSettings
from relay.ingest.body import Body
from relay.ingest.pressure import Pressure
from relay.ingest.problem import Problem, busy
from relay.journal import Journal, Parked, State, Unavailable

FULL_RETRY_AFTER_S: Final = 30
DRAIN_RETRY_AFTER_S: Final = 5
JSON: Final = {"Content-Type": "application/json"}
log = structlog.stdlib.get_logger()


class Intake:
    """Takes the requests of one source. 2xx leaves only after the events are on disk."""

    def __init__(
        self, source: Source, settings: IngestSettings, pressure: Pressure, journal: Journal, state: State
    ) -> None:
        self._source, self._settings, self._pressure = source, settings, pressure
        self._journal, self._state = journal, state
        self.draining = False

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request on the source's path."""
        try:
            if request.method != "POST":
                raise Problem(405, "events are sent by POST", Allow="POST")
            self._source.authorize(request.headers)
            if self.draining:
                raise busy("relay is stopping", DRAIN_RETRY_AFTER_S)
            with Body(request, self._settings, self._pressure) as body:
                decoded = self._source.decode(await body.read())
                await self._keep(decoded)
        except Denied as denied:
            return self._refuse(Problem(401, str(denied), WWW_Authenticate="Bearer"))
        except Malformed as malformed:
            return self._refuse(Problem(400, str(malformed)))
        except Problem as problem:
            return self._refuse(problem)
        return _accepted(len(decoded.bodies), len(decoded.unreadable))

    def _refuse(self, problem: Problem) -> web.Response:
        if not self.draining:
            log.warning("request refused", source=self._source.name, status=problem.status, reason=problem.detail)
        return problem.response()

    async def _keep(self, decoded: Decoded) -> None:
        """Put everything on disk. Raises Problem (503), and then the sender has to send again."""
        try:
            if decoded.bodies:
                await self._journal.append(decoded.kinds, decoded.bodies)
            if decoded.unreadable:
                await self._park(decoded)
        except (Unavailable, sqlite3.Error) as error:
            log.error("the journal takes no events", reason=str(error))
            raise busy(str(error), FULL_RETRY_AFTER_S) from None

    async def _park(self, decoded: Decoded) -> None:
        source = self._source.name
        await self._state.park(
            [
                Parked(source, None, None, None, "unreadable", unreadable.reason, 0, unreadable.body)
                for unreadable in decoded.unreadable
            ]
        )
        reason = decoded.unreadable[0].reason
        log.warning("unreadable events parked", source=source, events=len(decoded.unreadable), reason=reason)


def _accepted(accepted: int, parked: int) -> web.Response:
    """202 if anything was kept; 200 for a probe."""
    body = b'{"accepted":%d,"parked":%d}' % (accepted, parked)
    return web.Response(status=202 if accepted or parked else 200, body=body, headers=JSON)
