"""Side doors of the stand-ins: data that Braze and Heap do not show, and switches, time and faults on demand.

Paths start with `/_sandbox/`; bodies and answers are JSON.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import orjson
from aiohttp import web

from relay.sandbox.clock import SandboxClock
from relay.sandbox.server import DOORS, Fault, StandIn


class Switched(Protocol):
    """An object with switches."""

    @property
    def switches(self) -> Any:
        """The present switches."""

    @switches.setter
    def switches(self, switches: Any) -> None: ...


def get(name: str, show: Callable[[Any], Any]) -> web.RouteDef:
    """Make a door that shows data. `show` gets the query."""

    async def answer(request: web.Request) -> web.Response:
        return await _answer(show, request.query)

    return web.get(DOORS + name, answer)


def post(name: str, take: Callable[[Any], Any]) -> web.RouteDef:
    """Make a door that acts. `take`, maybe a coroutine function, gets the JSON of the body, `{}` if it is empty."""

    async def answer(request: web.Request) -> web.Response:
        try:
            given = orjson.loads(await request.read() or b"{}")
        except orjson.JSONDecodeError as error:
            return web.json_response({"error": f"not JSON: {error}"}, status=400)
        return await _answer(take, given)

    return web.post(DOORS + name, answer)


def make_shared_doors(server: StandIn, clock: SandboxClock, *owners: Switched) -> list[web.RouteDef]:
    """Make the doors that every stand-in has: `switches` of all owners, `faults`, `clock`."""

    def show(_: Any) -> dict[str, Any]:
        return {name: value for owner in owners for name, value in owner.switches.model_dump().items()}

    def switch(given: Any) -> dict[str, Any]:
        if unknown := dict(given).keys() - show(None).keys():
            raise ValueError(f"there is no switch {', '.join(sorted(unknown))}")
        changed = [
            owner.switches.replace(
                **{name: value for name, value in given.items() if name in type(owner.switches).model_fields}
            )
            for owner in owners
        ]
        for owner, switches in zip(owners, changed, strict=True):
            owner.switches = switches
        return show(None)

    def add_faults(given: Any) -> dict[str, int]:
        server.faults.extend([fault if isinstance(fault, int) else Fault(**fault) for fault in given])
        return {"faults": len(server.faults)}

    def forward(given: Any) -> dict[str, float]:
        clock.forward(float(given["forward"]))
        return {"now": clock()}

    return [
        get("switches", show),
        post("switches", switch),
        post("faults", add_faults),
        get("clock", lambda _: {"now": clock()}),
        post("clock", forward),
    ]


async def _answer(work: Callable[[Any], Any], given: Any) -> web.Response:
    try:
        found = work(given)
        return web.json_response(await found if isinstance(found, Awaitable) else found)
    except KeyError as error:
        return web.json_response({"error": f"not there: {error}"}, status=400)
    except TimeoutError as error:
        return web.json_response({"error": str(error)}, status=502)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return web.json_response({"error": str(error)}, status=400)
