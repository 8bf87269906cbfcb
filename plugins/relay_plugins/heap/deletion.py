"""Heap's User Deletion API: a token that lives for 5 minutes, a request with up to 10,000 users, and its status.

(Heap docs, User deletion.) A request that is under way is asked after again; one that a restart has made us forget is
made once more, which deletes nothing more.
"""

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from relay.api import DELIVERED, Connector, Outcome, Retry, Skipped, User

HOST: Final = "https://heapanalytics.com"
"""For all regions (Heap docs, User deletion)."""
PATH: Final = "/api/public/v0"
MOST_USERS: Final = 10_000
ASK_S: Final = (0.5, 2.0, 5.0, 10.0, 20.0)
"""Waits between looks at a request's status; then it counts as not done yet."""
LATER_S: Final = 60.0
"""After so long it is asked after again."""
UNKNOWN: Final = "relay knows no external id of the user, which is the identity in Heap"


class Deletion:
    """Deletes users of one app."""

    def __init__(self, settings: Any, connector: Connector) -> None:
        self._settings, self._connector = settings, connector
        self._url = (settings.endpoint or HOST).rstrip("/") + PATH
        self._under_way: dict[bytes, str] = {}
        """The numbers of requests that Heap has not completed, by their bodies."""

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Delete the users; return what became of each. Raises Retry, Reject, Unauthorized."""
        entries = [self._entries(user) for user in users]
        wanted = [entry for each in entries for entry in each]
        bodies = [orjson.dumps({"users": wanted[at : at + MOST_USERS]}) for at in range(0, len(wanted), MOST_USERS)]
        self._under_way = {body: request for body, request in self._under_way.items() if body in bodies}
        for body in bodies:
            await self._delete(body, await self._token())
        return [DELIVERED if each else Skipped(UNKNOWN) for each in entries]

    def _entries(self, user: User) -> list[dict[str, str]]:
        """How Heap knows the user."""
        if self._settings.identity == "external_user_id":
            return [{"identity": one} for one in user.external_ids]
        return [{"identity": user.user_id}] if user.user_id else []

    async def _token(self) -> str:
        credentials = f"{self._settings.app_id}:{self._settings.api_key.reveal()}".encode()
        answer = await self._call("POST", "auth_token", f"Basic {b64encode(credentials).decode()}")
        return str(answer.get("access_token") or "")

    async def _delete(self, body: bytes, token: str) -> None:
        bearer = f"Bearer {token}"
        if body not in self._under_way:
            answer = await self._call("POST", "user_deletion", bearer, body)
            self._under_way[body] = str(answer.get("deletion_request_id") or "")
        request = self._under_way.pop(body)  # if that cannot be asked after, it is made again
        for wait in ASK_S:
            answer = await self._call("GET", f"deletion_status/{request}", bearer)
            if answer.get("status") == "complete":
                return
            await asyncio.sleep(wait)
        self._under_way[body] = request
        raise Retry("Heap has taken the deletion and not completed it yet", after=LATER_S)

    async def _call(self, method: str, path: str, authorization: str, body: bytes = b"") -> Mapping[str, Any]:
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        answered = await self._connector.post(f"{self._url}/{path}", body, headers, method=method)
        try:
            found = orjson.loads(answered.body)
        except orjson.JSONDecodeError:
            raise Retry(f"{path.partition('/')[0]}: the answer is not JSON") from None
        return found if isinstance(found, dict) else {}
