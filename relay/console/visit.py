"""A request on its way to a page, with who sends it, and what all pages share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from relay import __version__
from relay.client import ANSWER_S, ClientError
from relay.console.relay_view import RelayView, StatusSnapshot
from relay.console.security.refusal import ConsoleRefusal
from relay.console.security.rights import Right
from relay.console.security.sessions import Session, Sessions
from relay.console.security.sign_in import OneTimeLink
from relay.console.security.throttle import Throttle
from relay.console.settings import ConsoleOptions, LiveSettings
from relay.console.streams import Streams
from relay.console.templates import Templates
from relay.proposal import AvailableTypes
from relay.threads import ADMIN, JOURNAL_READS

COOKIE: Final = "relay_console"
SECURE_COOKIE: Final = "__Host-relay_console"
"""Over TLS. The prefix has browsers refuse it from anybody else, and without TLS."""
NEW_SESSION: Final = "relay.session"
"""The key of a request under which the id of its new session is; "": the session has ended."""
TURN_S: Final = 150.0
"""Seconds that a launch waits for the launch before."""
LAUNCH: Final = "launch"
"""What the field `act` of a form says that launches."""

Read = Callable[[StatusSnapshot], dict[str, Any] | None]
"""Returns the values of a live template for a status."""
Fetch = Callable[[], Awaitable[dict[str, Any]]]
"""Returns values of a live template that relay does not say in its status. Raises ConsoleRefusal."""


@dataclass(slots=True)
class Console:
    """What all pages share."""

    settings: LiveSettings
    relay: RelayView
    local_user: str
    """The name of whoever comes in by the one-time link: the login of this process."""
    link: OneTimeLink | None = None
    """None with users in conf.d, or without a terminal to print it on."""
    sessions: Sessions = field(default_factory=Sessions)
    throttle: Throttle = field(default_factory=Throttle)
    templates: Templates = field(default_factory=Templates)
    streams: Streams = field(default_factory=Streams)
    types: AvailableTypes | None = None
    """The types when a page asked last. A form that comes back has the fields that it was shown with."""
    _launching: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def options(self) -> ConsoleOptions:
        """What the command line says."""
        return self.settings.options

    @asynccontextmanager
    async def take_turn(self) -> AsyncIterator[None]:
        """Have one launch at a time: who launches reads conf.d after the launch before. Raises ConsoleRefusal (503)."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._launching.acquire()
        except TimeoutError:
            raise ConsoleRefusal(503, "another launch is under way: check again in a while") from None
        try:
            yield
        finally:
            self._launching.release()

    def find_right(self, session: Session) -> Right | None:
        """Return what the user may do now; None for a user who has left conf.d."""
        users = self.settings.now.user
        if session.way == "link":
            return None if users else Right.CONFIGURE
        return Right.parse(users[session.user].may) if session.user in users else None


@dataclass(slots=True, kw_only=True)
class Visit:
    """A request that may see its page."""

    request: web.Request
    console: Console
    session_id: str = ""
    session: Session | None = None
    right: Right | None = None
    """None: nobody is signed in."""
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def user(self) -> str:
        """The user who is signed in."""
        return self.session.user if self.session else ""

    def render(self, template: str, /, **values: Any) -> str:
        """Render a template with what every page shows."""
        common = {"visit": self, "Right": Right, "version": __version__, "page": self.request.path}
        return self.console.templates.render(template, **common, **values)

    def show(self, template: str, /, *, status: int = 200, **values: Any) -> web.Response:
        """Answer with a page."""
        return web.Response(text=self.render(template, **values), status=status, content_type="text/html")

    async def stream(self, template: str, read: Read, fetch: Fetch | None = None) -> web.StreamResponse:
        """Answer with a fragment that follows the status, until the session ends. Raises ConsoleRefusal.

        `read`: returns the values of the template; None ends the stream. `fetch`: returns more values. While relay
        does not answer, the last of them stay.
        """
        fetched = await fetch() if fetch else {}

        async def render() -> str | None:
            nonlocal fetched
            if self.console.sessions.find(self.session_id, is_use=False) is not self.session:
                return None
            if self.session is None or self.console.find_right(self.session) is None:
                return None
            snapshot = await self.console.relay.read()
            values = read(snapshot)
            if fetch:
                with suppress(ConsoleRefusal):
                    fetched = await fetch()
            return None if values is None else self.render(template, snapshot=snapshot, **fetched, **values)

        return await self.console.streams.send(self.request, render)

    async def ask(self, method: str, target: str, body: object = None, *, timeout: float = ANSWER_S) -> Any:
        """Ask relay in the name of the user; return the decoded answer. Raises ConsoleRefusal, as `read` does."""
        return msgspec.json.decode(await self.read(method, target, body, timeout=timeout))

    async def read(self, method: str, target: str, body: object = None, *, timeout: float = ANSWER_S) -> bytes:
        """Ask relay in the name of the user. Raises ConsoleRefusal (502) with relay's reason. `timeout` in seconds."""
        try:
            return await self.request_relay(method, target, body, timeout=timeout)
        except ClientError as error:
            raise ConsoleRefusal(502, str(error)) from None

    async def request_relay(self, method: str, target: str, body: object = None, *, timeout: float = ANSWER_S) -> bytes:
        """Ask relay in the name of the user. Raises ClientError.

        `timeout` in seconds: a long request keeps no thread from short ones.
        """
        pool = ADMIN if timeout <= ANSWER_S else JOURNAL_READS
        return await pool.run(partial(self._read, method, target, body, timeout))

    def _read(self, method: str, target: str, body: object, timeout: float) -> bytes:
        return self.console.relay.connect(self.user).read(method, target, body, timeout=timeout)

    @staticmethod
    def go(path: str) -> web.Response:
        """Send the browser to a page."""
        return web.Response(status=303, headers={"Location": path})


@dataclass(frozen=True, slots=True)
class ConsoleRoute:
    """A path of the console, and the right that it takes."""

    method: Literal["GET", "POST"]
    path: str
    handle: Callable[[Visit], Awaitable[web.StreamResponse]]
    right: Right | None
    """None: whoever reaches the console."""
    subject: str = ""
    """What the route changes, as the history names it, such as "connector {name}"; "": nothing of relay."""
    launches: bool = False
    """Whether its form may launch a change of conf.d, which takes the right to configure."""

    def find_act(self, form: Mapping[str, str]) -> str:
        """Return what a form asks for, as the history names it."""
        return LAUNCH if self.is_launch(form) else self.path.rpartition("/")[2]

    def is_launch(self, form: Mapping[str, str]) -> bool:
        """Return whether a form asks for a launch."""
        return self.launches and form.get("act") == LAUNCH
