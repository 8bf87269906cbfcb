"""Heap's User Deletion API: a token that lives for 5 minutes, requests with up to 10,000 users, and their status.

(Heap docs, User deletion.) relay asks for the status of a request until the request is complete, also while it
deletes other users. After a restart relay requests the same users again, which deletes nothing more.
"""

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from itertools import chain
from typing import Any, Final

import orjson

from relay.api import DELIVERED, Connector, Outcome, Reject, Retry, Skipped, Unauthorized, User

HOST: Final = "https://heapanalytics.com"
"""For all regions (Heap docs, User deletion)."""
PATH: Final = "/api/public/v0"
MOST_USERS: Final = 10_000
ASK_S: Final = (0.5, 2.0, 5.0, 10.0, 20.0)
"""Seconds to wait after each question for the status of requests. After the last wait they count as pending."""
STATUS_S: Final = 180.0
"""Seconds in which relay asks for the status of all requests, the oldest first: less than the token lives, and less
than an erasure may take."""
ANSWER_S: Final = 10.0
"""Seconds to read an answer. Without its content relay would make the same request again."""
LATER_S: Final = 60.0
"""Seconds until relay asks again for the status of a pending request."""
UNKNOWN: Final = "relay knows no external id of the user, which is the identity in Heap"
Entry = tuple[str, int]
"""An identity, and the number of its erasures. With one more erasure relay requests the identity again, because the
user may have come back."""


class Deletion:
    """Deletes users of one app."""

    def __init__(self, settings: Any, connector: Connector) -> None:
        self._settings, self._connector = settings, connector
        other = settings.endpoint if settings.mode == "api" else None  # the webhook has another URL
        self._url = (other or HOST).rstrip("/") + PATH
        self._requests: dict[Entry, str] = {}
        """Ids of the pending requests, the oldest first."""

    async def erase(self, users: Sequence[User]) -> list[Outcome]:
        """Delete the users; return an outcome for each. Raises Retry, Reject, Unauthorized if Heap gives no token."""
        if self._settings.identity == "external_user_id":
            identities = [user.external_ids for user in users]
        else:
            identities = [(user.user_id,) if user.user_id else () for user in users]
        count = Counter(chain(*identities))
        results = await self._delete(count.items()) if count else {}
        outcomes = list[Outcome]()
        for each in identities:
            entries = [(identity, count[identity]) for identity in each]
            failure = next((results[entry] for entry in entries if results[entry] != DELIVERED), None)
            if entries and failure is None:  # not before: Heap may delete one of two identities hours earlier
                for entry in entries:
                    self._requests.pop(entry, None)
            outcomes.append(failure or (DELIVERED if entries else Skipped(UNKNOWN)))
        return outcomes

    async def _delete(self, wanted: Set[Entry]) -> Mapping[Entry, Outcome]:
        """Request the identities without a pending request; return the outcomes of all. Raises what `_call` raises."""
        credentials = f"{self._settings.app_id}:{self._settings.api_key.reveal()}".encode()
        answer = await self._call("POST", "auth_token", f"Basic {b64encode(credentials).decode()}")
        bearer = f"Bearer {answer.get('access_token') or ''}"
        self._requests = {one: request for one, request in self._requests.items() if one in wanted}
        new = [one for one in wanted if one not in self._requests]
        results: dict[Entry, Outcome] = {}
        for at in range(0, len(new), MOST_USERS):
            part = new[at : at + MOST_USERS]
            body = orjson.dumps({"users": [{"identity": identity} for identity, _ in part]})
            try:
                answer = await self._call("POST", "user_deletion", bearer, body)
                self._requests |= dict.fromkeys(part, str(answer.get("deletion_request_id") or ""))
            except (Retry, Reject, Unauthorized) as error:
                results |= dict.fromkeys(part, error)
        found = await self._wait_for_requests(bearer)
        pending = Retry("Heap has taken the deletion and not completed it yet", after=LATER_S)
        results |= {one: found[request] or pending for one, request in self._requests.items()}
        lost = (Reject, Unauthorized)  # Heap answers 404 or the like: relay makes the request again
        self._requests = {one: at for one, at in self._requests.items() if not isinstance(found[at], lost)}
        return results

    async def _wait_for_requests(self, bearer: str) -> Mapping[str, Outcome | None]:
        """Ask for the status of each request until all are complete, for STATUS_S seconds at most. Return the outcomes;
        None for a request that is not complete."""
        found: dict[str, Outcome | None] = dict.fromkeys(self._requests.values())
        with suppress(TimeoutError):
            async with asyncio.timeout(STATUS_S):
                for wait in ASK_S:
                    for request in [one for one, outcome in found.items() if outcome is None]:
                        found[request] = await self._ask_status(request, bearer)
                    if None not in found.values():
                        break
                    await asyncio.sleep(wait)
        return found

    async def _ask_status(self, request: str, bearer: str) -> Outcome | None:
        try:
            answer = await self._call("GET", f"deletion_status/{request}", bearer)
        except (Retry, Reject, Unauthorized) as error:
            return error
        return DELIVERED if answer.get("status") == "complete" else None

    async def _call(self, method: str, path: str, authorization: str, body: bytes = b"") -> Mapping[str, Any]:
        """Return the JSON object of an answer; {} if the JSON is no object. Raises Retry, Reject, Unauthorized."""
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        answer = await self._connector.post(
            f"{self._url}/{path}", body, headers, method=method, answer_seconds=ANSWER_S
        )
        try:
            found = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            what = "is not JSON" if answer.complete else "was cut short"
            raise Retry(f"{path.partition('/')[0]}: the answer {what}") from None
        return found if isinstance(found, dict) else {}
