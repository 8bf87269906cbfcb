"""`ConnectorSuite` and `AnyConnectorSuite`: subclass one in a test module."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import orjson

from relay.api import Connector, Secret
from relay.testing.build import make_event
from relay.testing.destination import Answer
from relay.testing.suite.admin import AdminBehaviours
from relay.testing.suite.arrival import ArrivalBehaviours
from relay.testing.suite.behaviour import Check
from relay.testing.suite.conduct import ConductBehaviours
from relay.testing.suite.destination import HttpDestination, SuiteDestination
from relay.testing.suite.http import HttpBehaviours
from relay.testing.suite.rehearsal import Rehearsal
from relay.testing.suite.trouble import TroubleBehaviours


class AnyConnectorSuite(ArrivalBehaviours, TroubleBehaviours, ConductBehaviours, AdminBehaviours):
    """Tests of a connector over any transport. Subclass it with a name that begins with `Test`.

    Write `make` and `destination`. Each test is a behaviour that relay relies on. A behaviour that the connector cannot
    have stands in `lacks`, with the reason.
    """

    lacks: ClassVar[Mapping[str, str]] = {}
    """What the connector cannot have: the short name of a behaviour, and the reason. pytest prints them at the end."""
    many: ClassVar[int] = 10_000
    """Events of the behaviour `many`. Lower it for a connector that sends each event by itself."""
    limit: ClassVar[float] = 30.0
    """Most seconds of one behaviour."""
    patience: ClassVar[float] = 10.0
    """Most seconds of one call of the connector."""

    def make(self, address: Any, token: Secret, folder: Path) -> Connector:
        """Return the connector under test.

        `address`: the address of the destination, for HTTP its URL. `token`: a reference to a secret, for a setting of
        the type `Secret`; leave it out if the connector has no secret. `folder`: the state folder.
        """
        raise NotImplementedError

    def destination(self, folder: Path) -> SuiteDestination:
        """Return a destination for one behaviour. `folder`: the state folder."""
        raise NotImplementedError

    def make_event(self, id: str) -> bytes:
        """Return the bytes of an ordinary event, in which `id` stands where it reaches the destination.

        The default is an event of Braze with this `id`. Override it for a connector that sends other fields alone.
        """
        return orjson.dumps(orjson.loads(make_event(subject="Spring")) | {"id": id})

    async def _show(self, check: Check, folder: Path) -> None:
        async with self.destination(folder) as destination:
            await check(self, Rehearsal(self.make, self.make_event, destination, folder, self.patience))
            await asyncio.sleep(0)


class ConnectorSuite(AnyConnectorSuite, HttpBehaviours):
    """Tests of a connector over HTTP: those of `AnyConnectorSuite`, and more. Subclass it with a name that begins with
    `Test`, and write `make`."""

    varies: ClassVar[Sequence[str]] = ()
    """Headers, and JSON fields at the top of the body, that may differ between two attempts, such as `sentAt`."""
    error_in_200: ClassVar[Answer | None] = None
    """The 2xx answer by which the destination says that it has taken nothing; None: it has no such answer."""

    def partial_answer(self, refused: int, ids: Sequence[str]) -> Answer | None:
        """Return the answer by which the destination takes all events of a request but number `refused`.

        `ids`: the ids of the events of the request. None: the destination takes all of a request, or nothing.
        """
        return None

    def destination(self, folder: Path) -> SuiteDestination:
        """Return an HTTP server. Override it for a server that says something else than `{}` to good requests."""
        return HttpDestination()
