"""A stand-in for Heap's User Deletion API: a token, a request, its status. (Heap docs, User deletion.)"""

from base64 import b64decode
from binascii import Error
from collections.abc import Callable, Iterable
from typing import Final

import orjson
from aiohttp import web
from pydantic import Field

from relay.sandbox.server import Refused
from relay.sandbox.switches import Switches

PATH: Final = "/api/public/v0"
TOKEN_S: Final = 300.0
MOST_USERS: Final = 10_000


class DeletionSwitches(Switches):
    """Switches of the deletion of users."""

    production: bool = Field(True, description="It is the Main Production environment, which alone may delete users.")
    pending: int = Field(
        1, ge=0, description="Status requests with the answer `pending` before a deletion of users is complete."
    )


class Deletions:
    """The requests to delete users of an app."""

    def __init__(
        self,
        credentials: str,
        switches: Callable[[], DeletionSwitches],
        clock: Callable[[], float],
        delete: Callable[[Iterable[str]], None],
    ) -> None:
        """`credentials`: "app_id:api_key". `delete`: deletes the users with these identities."""
        self._credentials, self._switches, self._clock, self._delete = credentials, switches, clock, delete
        self.requests: list[list[str]] = []
        """The identities of each request."""
        self.deleted: list[str] = []
        """The identities of all complete requests."""
        self._polls: list[int] = []
        """How often the status of each request was asked."""
        self._tokens: dict[str, float] = {}

    def list_routes(self) -> list[web.RouteDef]:
        """Return the routes of the calls."""
        return [
            web.post(f"{PATH}/auth_token", self._give_token),
            web.post(f"{PATH}/user_deletion", self._request_deletion),
            web.get(PATH + "/deletion_status/{number}", self._show_status),
        ]

    async def _give_token(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        try:
            credentials = b64decode(given.removeprefix("Basic "), validate=True).decode()
        except (Error, UnicodeDecodeError):
            credentials = ""
        if credentials != self._credentials or not self._switches().production:
            raise Refused(401, "Unauthorized")
        token = f"token-{len(self._tokens)}"
        self._tokens[token] = self._clock() + TOKEN_S
        return web.json_response({"access_token": token})

    async def _request_deletion(self, request: web.Request) -> web.Response:
        self._check_token(request)
        identities = []
        try:
            for user in orjson.loads(await request.read())["users"]:
                (identity,) = (user[name] for name in ("identity", "user_id") if name in user)
                identities.append(str(identity))
        except (ValueError, LookupError, TypeError):
            raise Refused(400, "users should be a list of identity or user_id") from None
        if len(identities) > MOST_USERS:
            raise Refused(400, f"at most {MOST_USERS} users")
        number = len(self.requests)
        self.requests.append(identities)
        self._polls.append(0)
        location = f"{PATH}/deletion_status/{number}"
        said = {"deletion_request_id": str(number), "status": "pending", "deletion_request_location": location}
        return web.json_response(said)

    async def _show_status(self, request: web.Request) -> web.Response:
        self._check_token(request)
        number = int(request.match_info["number"])
        if number >= len(self.requests):
            raise Refused(404, "no such request")
        self._polls[number] += 1
        if self._polls[number] <= self._switches().pending:
            return web.json_response({"status": "pending"})
        self.deleted += self.requests[number]
        self._delete(self.requests[number])
        return web.json_response({"status": "complete"})

    def _check_token(self, request: web.Request) -> None:
        """Raise Refused, unless the token of a request is valid."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, 0.0) <= self._clock():
            raise Refused(401, "Unauthorized")
