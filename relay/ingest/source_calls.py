"""Calls the methods of a source. Whatever a source raises or returns wrongly is logged under its name.

If a sender waits, the error becomes a Problem: 401 or 400 if the source says so, else 500 for the plugin's bug. If
nobody waits, relay logs the error and goes on.
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
    describe_answer,
    find_reason,
    find_type_name,
    format_place,
    quick,
    read_text,
    warn_blocked,
    wrap_escape,
)
from relay.ingest.decoded import check_decoded
from relay.ingest.problem import Problem

RESPONSE_BYTES: Final = 64 << 10
CONTENT_TYPE: Final = re.compile(r"[\w.+-]{1,80}/[\w.+-]{1,80}", re.ASCII)
MEMORY_CHARS: Final = 4 << 20
"""Characters of a source's memory, at most."""
log = structlog.stdlib.get_logger()


class SourceCalls:
    """Calls the methods of one source."""

    def __init__(self, source: Source) -> None:
        self.source: Any = source  # whatever its methods promise
        self.clean = Redaction(source.settings).clean
        """Remove the source's secrets from a text."""
        self.new_types: list[str] = []
        """Event types that came for the first time, until they are reported."""
        self._known: set[Kind] = set()
        self._are_known = self._known.issuperset
        self.authorize: Callable[[Request], None] = source.authorize
        """Check the credentials of a sender. Raises Problem, Denied."""
        if self._has_own("authorize"):
            self.authorize = self._authorize
        self._verifies_first = self._has_own("verify") or self._has_own("respond")

    def _has_own(self, call: str) -> bool:
        return getattr(getattr(self.source, call), "__func__", None) is not getattr(Source, call)

    def _authorize(self, request: Request) -> None:
        try:
            _check_nothing("authorize", self._call_timed("authorize", request))
        except BaseException as error:
            raise self._convert_error("authorize", error) from None

    def make_denied(self, denied: Denied) -> Problem:
        """Make the answer to wrong credentials."""
        return Problem(401, self.clean(find_reason(denied)), WWW_Authenticate="Bearer")

    def read(self, request: Request) -> Decoded | Response:
        """Read the events of a request, or get the source's own answer. Runs on the event loop. Raises Problem."""
        if self._verifies_first and (response := self._verify(request)) is not None:
            return response
        try:
            began = perf_counter()
            decoded: Decoded = self.source.decode(request)
            if perf_counter() - began >= BLOCKED_S:
                warn_blocked("decode", perf_counter() - began, source=self.source.name)
            if (  # as it nearly always is: nothing more is looked at
                type(decoded) is Decoded
                and type(decoded.bodies) is Entries
                and len(decoded.kinds) == len(decoded.bodies)
                and self._are_known(decoded.kinds)
                and decoded.ids is None
                and not decoded.unreadable
            ):
                return decoded
            return check_decoded(decoded, self.source.name, self._known, self.new_types)
        except BaseException as error:
            raise self._convert_error("decode", error) from None

    def read_in_thread(self, request: Request) -> Decoded | Response:
        """Read a large body in a thread, without a warning for the time it takes. Raises Problem."""
        if self._verifies_first and (response := self._verify(request, math.inf)) is not None:
            return response
        try:
            return check_decoded(self.source.decode(request), self.source.name, self._known, self.new_types)
        except BaseException as error:
            raise self._convert_error("decode", error) from None

    def report_hang(self, seconds: float) -> Problem:
        """Report a thread that does not return from a large body; make the answer to its sender."""
        return self._report_bug("decode", Wrong(f"its thread has not read a large body within {seconds:g} seconds"))

    def _verify(self, request: Request, most: float = BLOCKED_S) -> Response | None:
        """Verify a request; return the source's own answer, or None. Raises Problem."""
        try:
            _check_nothing("verify", self._call_timed("verify", request, most))
        except BaseException as error:
            raise self._convert_error("verify", error) from None
        return self.respond(request, most)

    def respond(self, request: Request, most: float = BLOCKED_S) -> Response | None:
        """Return the source's own answer to a request, or None. Raises Problem."""
        try:
            response = self._call_timed("respond", request, most)
            if response is None:
                return None
            if not isinstance(response, Response):
                raise Wrong(f"respond returned {describe_answer(response)}, not a Response or None")
            body = response.body.encode() if isinstance(response.body, str) else response.body
            if not isinstance(body, bytes) or len(body) > RESPONSE_BYTES:
                raise Wrong(
                    f"respond returned a body that is no text or bytes, or has more than {RESPONSE_BYTES:,} bytes"
                )
            if not isinstance(response.status, int) or not 200 <= response.status < 300:
                raise Wrong("respond returned a status that is not from 200 to 299: it has to raise instead")
            if not isinstance(response.content_type, str) or not CONTENT_TYPE.fullmatch(response.content_type):
                raise Wrong("respond returned a content type that is none")
            return Response(body, response.content_type, response.status)
        except BaseException as error:
            raise self._convert_error("respond", error) from None

    def kept(self, bodies: Sequence[Any]) -> None:
        """Pass events on disk to the source. The events stay on disk, whatever the source does."""
        self._call_safely("kept", lambda: _check_nothing("kept", self.source.kept(bodies)))

    def look_after(self) -> None:
        """Make the source report what is overdue."""
        self._call_safely("look_after", lambda: _check_nothing("look_after", self.source.look_after()))

    def remember(self) -> str | None:
        """Return the source's memory for the next start; None if the source cannot give it."""
        memory: str | None = self._call_safely("remember", lambda: _check_memory(self.source.remember()))
        return memory

    def recall(self, memory: str) -> None:
        """Pass the memory back to the source."""
        try:
            with quick("recall", source=self.source.name):
                self.source.recall(memory)
        except Exception as error:
            told = self.clean(find_reason(error))
            log.error("what a source remembers cannot be read", source=self.source.name, error=told)

    @property
    def notice(self) -> str:
        """The source's message for an admin."""
        said = self._call_safely("notice", lambda: _check_type("notice", self.source.notice, str))
        return "its notice cannot be read, see the log" if said is None else self.clean(read_text(said))

    @property
    def incomplete(self) -> int:
        """The source's number of incomplete things."""
        return self._call_safely("incomplete", lambda: _check_type("incomplete", self.source.incomplete, int)) or 0

    def _call_timed(self, call: str, request: Request, most: float = BLOCKED_S) -> Any:
        """Call a method and return its result. Logs a call that blocks for `most` seconds or more."""
        began = perf_counter()
        answer = getattr(self.source, call)(request)
        if (seconds := perf_counter() - began) >= most:
            warn_blocked(call, seconds, source=self.source.name)
        return answer

    def _call_safely(self, call: str, work: Callable[[], Any]) -> Any:
        """Call a method that no sender waits for; return its result. Logs an error and returns None then."""
        try:
            with quick(call, source=self.source.name):
                return work()
        except Exception as error:
            self._log_bug(call, error)
            return None

    def _convert_error(self, call: str, error: BaseException) -> BaseException:
        """Convert an exception of a source into the exception to raise."""
        if isinstance(error, Denied):
            return self.make_denied(error)
        if isinstance(error, Malformed):
            return Problem(400, self.clean(find_reason(error)))
        if not isinstance(error := wrap_escape(error), Exception):
            return error  # somebody else ends the request
        return self._report_bug(call, error)

    def _report_bug(self, call: str, error: Exception) -> Problem:
        what = self._log_bug(call, error)
        return Problem(500, f"source {self.source.name}: bug in its plugin {self._plugin}: {what}; see relay's log")

    def _log_bug(self, call: str, error: Exception) -> str:
        """Log a bug, and describe it by kind and place. Its message may hold what a sender sent."""
        what = self.clean(read_text(error)) if isinstance(error, Wrong) else f"{call} raised {find_type_name(error)}"
        place = {} if isinstance(error, Wrong) else {"traceback": format_place(error)}
        whose = {"source": self.source.name, "plugin": self._plugin, "call": call}
        log.error("bug in a source", **whose, reason=what, **place)
        return what

    @property
    def _plugin(self) -> str:
        """The plugin's module and source type. The plugin's author knows one of them."""
        kind = type(self.source)
        return f"{kind.__module__.removeprefix('relay_dropin_')} (source type {kind.type})"


def _check_nothing(call: str, answer: object) -> None:
    """Check that a method that reports errors by raising has returned None. Raises Wrong."""
    if answer is not None:
        raise Wrong(f"{call} returned {describe_answer(answer)}: it has to return nothing, and to raise what is wrong")


def _check_memory(memory: object) -> str:
    text: str = _check_type("remember", memory, str)
    if len(text) > MEMORY_CHARS:
        raise Wrong(f"remember returned {len(text):,} characters: it may return {MEMORY_CHARS:,}")
    text.encode()
    return text


def _check_type(call: str, answer: Any, wanted: type) -> Any:
    if not isinstance(answer, wanted):
        raise Wrong(f"{call} gave {describe_answer(answer)}, not one of the type {wanted.__name__}")
    return answer
