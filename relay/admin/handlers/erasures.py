"""Erasures over the admin API: requests and receipts."""

from aiohttp import web

from relay.admin.acts import make_erasure_entry
from relay.admin.control import Control
from relay.admin.responses import convert_content, make_answer, read_asker, read_content
from relay.api import User
from relay.inspect import list_receipts
from relay.store import make_user
from relay.threads import ADMIN


class ErasureHandlers:
    """The handlers of erasures."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def list_routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [web.get("/erasures", self.get_receipts), web.post("/erasures", self.request_erasure)]

    async def get_receipts(self, _: web.Request) -> web.StreamResponse:
        """Answer with all receipts, the last one first."""
        return make_answer(
            await ADMIN.run(list_receipts, self._control.store.erasures, self._control.config.erasure.after)
        )

    async def request_erasure(self, request: web.Request) -> web.StreamResponse:
        """Request the erasure of all events of a user."""
        user = await read_user(request)
        by = read_asker(request)
        number = await ADMIN.run(self._control.store.erasures.ask, user, by)
        self._control.note(make_erasure_entry(number, by))
        return make_answer({"number": number})


async def read_user(request: web.Request) -> User:
    """Read the user from a request's body. Raises ValueError."""
    given = convert_content(await read_content(request, '{"external_ids": ["customer-1"]}'), User)
    return make_user(given.user_id, given.external_ids, given.other_ids)
