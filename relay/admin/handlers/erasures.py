"""Erasures over the admin API: asked for, and their receipts."""

from aiohttp import web

from relay.admin.acts import erasure_entry
from relay.admin.control import Control
from relay.admin.responses import answer, asker, content, taken
from relay.api import User
from relay.inspect import list_receipts
from relay.state import ask_erasure, make_user
from relay.threads import ADMIN


class Erasing:
    """The handlers."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def routes(self) -> list[web.RouteDef]:
        """Where each of them answers."""
        return [web.get("/erasures", self.receipts), web.post("/erasures", self.ask)]

    async def receipts(self, _: web.Request) -> web.StreamResponse:
        """All receipts, the last one first."""
        return answer(await ADMIN.run(list_receipts, self._control.folder, self._control.config.erasure.after))

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Have all events of a user removed."""
        user = await user_in(request)
        by = asker(request)
        number = await ADMIN.run(ask_erasure, self._control.folder, user, by)
        self._control.note(erasure_entry(number, by))
        return answer({"number": number})


async def user_in(request: web.Request) -> User:
    """The user that a request's body names. Raises ValueError."""
    given = taken(await content(request), User)
    return make_user(given.user_id, given.external_ids, given.other_ids)
