"""What relay asks of a source, which is a guest: whatever it raises or gives wrongly is told under its name.

Where a sender waits, that is a Problem: 401 or 400 if the source says so, else 500 for the plugin's bug, of which the
log has more. Where nobody waits, relay goes on without it.
"""

import math
import re
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final

import structlog

from relay.api import Decoded, Denied, Entries, Kind, Malformed, Request, Response, Source
from relay.config import Redaction
from relay.guests import (
    BLOCKED_S,
    Wrong,
    described,
    escaped,
    kind_of,
    place_of,
    quick,
    reason_of,
    tell_blocked,
    text_of,
)
from relay.ingest.decoded import checked
from relay.ingest.problem import Problem

RESPONSE_BYTES: Final = 64 << 10
CONTENT_TYPE: Final = re.compile(r"[\w.+-]{1,80}/[\w.+-]{1,80}", re.ASCII)
MEMORY_CHARS: Final = 4 << 20
"""Of what a source remembers."""
log = structlog.stdlib.get_logger()


class SourceCalls:
    """Calls the methods of one source."""

    def __init__(self, source: Source) -> None:
        self.source: Any = source  # whatever its methods promise
        self.clean = Redaction(source.settings).clean
        """Takes the source's secrets out of a text."""
        self.new_types: list[str] = []
        """Event types that came for the first time, until somebody has looked at them."""
        self._known: set[Kind] = set()
        self._are_known = self._known.issuperset
        self.authorize: Callable[[Request], None] = source.authorize
        """Has it look at the sender's credentials. Raises Problem, and Denied."""
        if self._has_own("authorize"):
            self.authorize = self._authorize
        self._looks_first = self._has_own("verify") or self._has_own("respond")

    def _has_own(self, call: str) -> bool:
        return getattr(getattr(self.source, call), "__func__", None) is not getattr(Source, call)

    def _authorize(self, request: Request) -> None:
        try:
            _check_nothing("authorize", self._timed("authorize", request))
        except BaseException as error:
            raise self._refusal("authorize", error) from None

    def denied(self, denied: Denied) -> Problem:
        """The answer to a sender whose credentials are wrong."""
        return Problem(401, self.clean(reason_of(denied)), WWW_Authenticate="Bearer")

    def read(self, request: Request) -> Decoded | Response:
        """The events of a request, or what the source answers to it by itself. On the event loop. Raises Problem."""
        if self._looks_first and (response := self._looked_at(request)) is not None:
            return response
        try:
            began = perf_counter()
            decoded: Decoded = self.source.decode(request)
            if perf_counter() - began >= BLOCKED_S:
                tell_blocked("decode", perf_counter() - began, source=self.source.name)
            if (  # as it nearly always is: nothing more is looked at
                type(decoded) is Decoded
                and type(decoded.bodies) is Entries
                and len(decoded.kinds) == len(decoded.bodies)
                and self._are_known(decoded.kinds)
                and decoded.ids is None
                and not decoded.unreadable
            ):
                return decoded
            return checked(decoded, self.source.name, self._known, self.new_types)
        except BaseException as error:
            raise self._refusal("decode", error) from None

    def read_in_thread(self, request: Request) -> Decoded | Response:
        """The same for a large body, in a thread, where it may take its time."""
        if self._looks_first and (response := self._looked_at(request, math.inf)) is not None:
            return response
        try:
            return checked(self.source.decode(request), self.source.name, self._known, self.new_types)
        except BaseException as error:
            raise self._refusal("decode", error) from None

    def hanging(self, seconds: float) -> Problem:
        """What is said of a large body while the thread that reads one does not come back."""
        return self._bug("decode", Wrong(f"its thread has not read a large body within {seconds:g} seconds"))

    def _looked_at(self, request: Request, most: float = BLOCKED_S) -> Response | None:
        """Verify a request; return what the source answers to it by itself. Raises Problem."""
        try:
            _check_nothing("verify", self._timed("verify", request, most))
        except BaseException as error:
            raise self._refusal("verify", error) from None
        return self.respond(request, most)

    def respond(self, request: Request, most: float = BLOCKED_S) -> Response | None:
        """What the source answers to a request that brings no events. Raises Problem."""
        try:
            response = self._timed("respond", request, most)
            return None if response is None else _good(response)
        except BaseException as error:
            raise self._refusal("respond", error) from None

    def kept(self, bodies: Sequence[Any]) -> None:
        """Have it see events that are on disk. They stay there, whatever it does."""
        self._call("kept", lambda: _check_nothing("kept", self.source.kept(bodies)))

    def look_after(self) -> None:
        """Have it say what is overdue."""
        self._call("look_after", lambda: _check_nothing("look_after", self.source.look_after()))

    def remember(self) -> str | None:
        """What is to outlast a restart; None: it cannot say."""
        memory: str | None = self._call("remember", lambda: _memory(self.source.remember()))
        return memory

    def recall(self, memory: str) -> None:
        """Have it go on with what it remembered."""
        try:
            with quick("recall", source=self.source.name):
                self.source.recall(memory)
        except Exception as error:
            told = self.clean(reason_of(error))
            log.error("what a source remembers cannot be read", source=self.source.name, error=told)

    @property
    def notice(self) -> str:
        """What an admin should know."""
        said = self._call("notice", lambda: _of_type("notice", self.source.notice, str))
        return "its notice cannot be read, see the log" if said is None else self.clean(text_of(said))

    @property
    def incomplete(self) -> int:
        """How many things lack a part."""
        return self._call("incomplete", lambda: _of_type("incomplete", self.source.incomplete, int)) or 0

    def _timed(self, call: str, request: Request, most: float = BLOCKED_S) -> Any:
        """What a call gives; the log tells if it took `most` seconds or more."""
        began = perf_counter()
        answer = getattr(self.source, call)(request)
        if (seconds := perf_counter() - began) >= most:
            tell_blocked(call, seconds, source=self.source.name)
        return answer

    def _call(self, call: str, work: Callable[[], Any]) -> Any:
        """What a call gives for which no sender waits; None if it fails, which the log tells."""
        try:
            with quick(call, source=self.source.name):
                return work()
        except Exception as error:
            self._tell(call, error)
            return None

    def _refusal(self, call: str, error: BaseException) -> BaseException:
        """What is to be raised for what a call has raised."""
        if isinstance(error, Denied):
            return self.denied(error)
        if isinstance(error, Malformed):
            return Problem(400, self.clean(reason_of(error)))
        if not isinstance(error := escaped(error), Exception):
            return error  # somebody else ends the request
        return self._bug(call, error)

    def _bug(self, call: str, error: Exception) -> Problem:
        what = self._tell(call, error)
        return Problem(500, f"source {self.source.name}: bug in its plugin {self._plugin}: {what}; see relay's log")

    def _tell(self, call: str, error: Exception) -> str:
        """Log a bug, and say what it is, by its kind and place: its words may hold what a sender sent."""
        what = self.clean(text_of(error)) if isinstance(error, Wrong) else f"{call} raised {kind_of(error)}"
        place = {} if isinstance(error, Wrong) else {"traceback": place_of(error)}
        whose = {"source": self.source.name, "plugin": self._plugin, "call": call}
        log.error("bug in a source", **whose, reason=what, **place)
        return what

    @property
    def _plugin(self) -> str:
        """The plugin's name, and its source type: who wrote it knows one of them."""
        kind = type(self.source)
        return f"{kind.__module__.removeprefix('relay_dropin_')} (source type {kind.type})"


def _check_nothing(call: str, answer: object) -> None:
    """Raise Wrong if a call that says what it has to say by raising has returned something."""
    if answer is not None:
        raise Wrong(f"{call} returned {described(answer)}: it has to return nothing, and to raise what is wrong")


def _good(response: object) -> Response:
    if not isinstance(response, Response):
        raise Wrong(f"respond returned {described(response)}, not a Response or None")
    body = response.body.encode() if isinstance(response.body, str) else response.body
    if not isinstance(body, bytes) or len(body) > RESPONSE_BYTES:
        raise Wrong(f"respond returned a body that is no text or bytes, or has more than {RESPONSE_BYTES:,} bytes")
    if not isinstance(response.status, int) or not 200 <= response.status < 300:
        raise Wrong("respond returned a status that is not from 200 to 299: it has to raise instead")
    if not isinstance(response.content_type, str) or not CONTENT_TYPE.fullmatch(response.content_type):
        raise Wrong("respond returned a content type that is none")
    return Response(body, response.content_type, response.status)


def _memory(memory: object) -> str:
    text: str = _of_type("remember", memory, str)
    if len(text) > MEMORY_CHARS:
        raise Wrong(f"remember returned {len(text):,} characters: it may return {MEMORY_CHARS:,}")
    text.encode()
    return text


def _of_type(call: str, answer: Any, wanted: type) -> Any:
    if not isinstance(answer, wanted):
        raise Wrong(f"{call} gave {described(answer)}, not one of the type {wanted.__name__}")
    return answer
