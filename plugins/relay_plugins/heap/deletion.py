"""Heap's User Deletion API: a token that lives for 5 minutes, requests with up to 10,000 users, and their status.

(Heap docs, User deletion.) A request that is under way is asked after again, whoever else is to be deleted meanwhile;
one that a restart has made us forget is made once more, which deletes nothing more.
"""

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, Final

import orjson

from relay.api import DELIVERED, Connector, Outcome, Reject, Retry, Skipped, Unauthorized, User

HOST: Final = "https://heapanalytics.com"
"""For all regions (Heap docs, User deletion)."""
PATH: Final = "/api/public/v0"
MOST_USERS: Final = 10_000
ASK_S: Final = (0.5, 2.0, 5.0, 10.0, 20.0)
"""Waits between looks at a request's status; then it counts as not done yet."""
LOOK_S: Final = 180.0
"""How long requests are asked after in one go, the oldest first, however many there are: less than the token lives and
than an erasure may take."""
ANSWER_S: Final = 10.0
"""What an answer may take: without what it says, a request would be made again."""
LATER_S: Final = 60.0
"""After so long it is asked after again."""
UNKNOWN: Final = "relay knows no external id of the user, which is the identity in Heap"
Entry = tuple[str, int]
"""An identity, and how many erasures of it there are: with one more it is requested anew, for what it did since."""


class Deletion:
    """Deletes users of one app."""

    def __init__(self, settings: Any, connector: Connector) -> None:
        self._settings, self._connector = settings, connector
        other = settings.endpoint if settings.mode == "api" else None  # else it is the webhook's
        self._url = (other or HOST).rstrip("/") + PATH
        self._requests: dict[Entry, str] = {}
        """The numbers of the requests for users who are not deleted yet, in the order in which they were made."""

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Delete the users; return what became of each. Raises Retry, Reject, Unauthorized if Heap gives no token."""
        identities = [self._identities(user) for user in users]
        count = Counter(one for each in identities for one in each)
        became = await self._delete(count.items()) if count else {}
        outcomes = [_together([became[one, count[one]] for one in each]) for each in identities]
        for each, outcome in zip(identities, outcomes, strict=True):
            if outcome == DELIVERED:  # not before: of a user with two identities one may be deleted hours earlier
                for one in each:
                    self._requests.pop((one, count[one]), None)
        return outcomes

    def _identities(self, user: User) -> Sequence[str]:
        """How Heap knows the user."""
        if self._settings.identity == "external_user_id":
            return user.external_ids
        return [user.user_id] if user.user_id else []

    async def _delete(self, wanted: Set[Entry]) -> Mapping[Entry, Outcome]:
        """Request those who are not under way; return what has become of all."""
        bearer = f"Bearer {await self._token()}"
        self._requests = {one: request for one, request in self._requests.items() if one in wanted}
        new = [one for one in wanted if one not in self._requests]
        became: dict[Entry, Outcome] = {}
        for at in range(0, len(new), MOST_USERS):
            became |= await self._request(new[at : at + MOST_USERS], bearer)
        found = await self._ask(bearer)
        pending = Retry("Heap has taken the deletion and not completed it yet", after=LATER_S)
        became |= {one: found[request] or pending for one, request in self._requests.items()}
        lost = (Reject, Unauthorized)  # Heap answers 404 or the like: it is made again
        self._requests = {one: at for one, at in self._requests.items() if not isinstance(found[at], lost)}
        return became

    async def _token(self) -> str:
        credentials = f"{self._settings.app_id}:{self._settings.api_key.reveal()}".encode()
        answer = await self._call("POST", "auth_token", f"Basic {b64encode(credentials).decode()}")
        return str(answer.get("access_token") or "")

    async def _request(self, new: Sequence[Entry], bearer: str) -> Mapping[Entry, Outcome]:
        """Make a request; return who could not be requested, and why."""
        body = orjson.dumps({"users": [{"identity": identity} for identity, _ in new]})
        try:
            answer = await self._call("POST", "user_deletion", bearer, body)
        except (Retry, Reject, Unauthorized) as error:
            return dict.fromkeys(new, error)
        self._requests |= dict.fromkeys(new, str(answer.get("deletion_request_id") or ""))
        return {}

    async def _ask(self, bearer: str) -> Mapping[str, Outcome | None]:
        """What has become of each request; None: Heap has not completed it yet."""
        found: dict[str, Outcome | None] = dict.fromkeys(self._requests.values())
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                for wait in ASK_S:
                    for request in [one for one, outcome in found.items() if outcome is None]:
                        found[request] = await self._status(request, bearer)
                    if None not in found.values():
                        break
                    await asyncio.sleep(wait)
        return found

    async def _status(self, request: str, bearer: str) -> Outcome | None:
        try:
            answer = await self._call("GET", f"deletion_status/{request}", bearer)
        except (Retry, Reject, Unauthorized) as error:
            return error
        return DELIVERED if answer.get("status") == "complete" else None

    async def _call(self, method: str, path: str, authorization: str, body: bytes = b"") -> Mapping[str, Any]:
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        answered = await self._connector.post(
            f"{self._url}/{path}", body, headers, method=method, answer_seconds=ANSWER_S
        )
        try:
            found = orjson.loads(answered.body)
        except orjson.JSONDecodeError:
            what = "is not JSON" if answered.complete else "was cut short"
            raise Retry(f"{path.partition('/')[0]}: the answer {what}") from None
        return found if isinstance(found, dict) else {}


def _together(parts: Sequence[Outcome]) -> Outcome:
    """What became of a user, by what became of each identity."""
    return next((one for one in parts if one != DELIVERED), DELIVERED) if parts else Skipped(UNKNOWN)
