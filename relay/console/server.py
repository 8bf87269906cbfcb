"""The console's HTTP: takes each request through its checks to its page, and answers refusals with a sentence."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial
from urllib.parse import urlencode

import structlog
from aiohttp import web

from relay.console.routes import ROUTES
from relay.console.security.guard import (
    HEADERS,
    MOST_FORM,
    check_host,
    check_origin,
    check_token,
    is_encrypted,
    read_form,
)
from relay.console.security.refusal import ConsoleRefusal, SignInNeeded
from relay.console.security.rights import Right
from relay.console.security.sessions import Session
from relay.console.security.sign_in import find_proxied_user
from relay.console.visit import COOKIE, NEW_SESSION, SECURE_COOKIE, Console, ConsoleRoute, Visit
from relay.listen import describe_client

log = structlog.stdlib.get_logger()


def make_app(console: Console) -> web.Application:
    """Make the application with all routes."""
    app = web.Application(client_max_size=MOST_FORM, middlewares=[_answer_unknown_paths(console)])
    for route in ROUTES:
        app.router.add_route(route.method, route.path, partial(_serve, console, route))
    app.on_response_prepare.append(partial(_add_headers, console))
    return app


async def _serve(console: Console, route: ConsoleRoute, request: web.Request) -> web.StreamResponse:
    """Answer a request with its page, or with the reason why not."""
    visit = Visit(request=request, console=console)
    try:
        await _admit(visit, route)
        async with visit.console.take_turn() if route.is_launch(visit.form) else nullcontext():
            return await route.handle(visit)
    except SignInNeeded as needed:
        return visit.go(f"/sign-in?{urlencode({'back': needed.back})}")
    except ConsoleRefusal as refusal:
        return _refuse(visit, refusal, route.path)


async def _admit(visit: Visit, route: ConsoleRoute) -> None:
    """Find out who sends the request. Raises ConsoleRefusal, or SignInNeeded, unless the user may have the page."""
    request, settings = visit.request, visit.console.settings.now
    check_host(request, settings.hosts)
    _find_session(visit)
    if request.method == "POST":
        check_origin(request)
    if route.right is None:
        if request.method == "POST":
            visit.form = await read_form(request)
        return
    if visit.session is None or visit.right is None:
        raise SignInNeeded(request.path_qs if request.method == "GET" else request.path.rpartition("/")[0] or "/")
    if request.method == "POST":
        visit.form = await read_form(request)
        check_token(visit.session, visit.form)
    needed = Right.CONFIGURE if route.is_launch(visit.form) else route.right
    if visit.right < needed:
        if route.subject:
            await _note_refused_action(visit, route)
        raise ConsoleRefusal(403, f"this takes the right to {needed}, and {visit.user} may only {visit.right}")


async def _note_refused_action(visit: Visit, route: ConsoleRoute) -> None:
    """Write to relay's history that a user tried an action without its right, if relay runs."""
    subject = route.subject.format_map(visit.request.match_info)
    with suppress(ConsoleRefusal):  # the log has the refusal too
        await visit.ask("POST", "/history", {"subject": subject, "refused": route.find_act(visit.form)})


def _find_session(visit: Visit) -> None:
    """Find the session of the cookie, or begin the session of a user whom a trusted proxy names."""
    request, console = visit.request, visit.console
    settings = console.settings.now
    name = SECURE_COOKIE if is_encrypted(request, settings.trusted_proxies) else COOKIE
    visit.session_id = request.cookies.get(name, "")
    session = console.sessions.find(visit.session_id)
    named = find_proxied_user(request, settings)
    if session is not None and (console.find_right(session) is None or _is_other_proxied(session, named)):
        console.sessions.end(visit.session_id)
        session = None
    if session is None and named is not None:
        visit.session_id, session = console.sessions.begin(named, "proxy")
        request[NEW_SESSION] = visit.session_id
    visit.session = session
    visit.right = None if session is None else console.find_right(session)


def _is_other_proxied(session: Session, named: str | None) -> bool:
    """Return whether the proxy now names another user than the session's, or nobody any more."""
    return session.user != named if session.way == "proxy" else named is not None


def _refuse(visit: Visit, refusal: ConsoleRefusal, path: str) -> web.Response:
    """Log the reason, and answer with it: by a page, or by a line for a live page. `path`: of the route."""
    proxies = visit.console.settings.now.trusted_proxies
    told = {"client": describe_client(visit.request, proxies), "user": visit.user, "page": path}
    log.warning("console request refused", **told, status=refusal.status, reason=refusal.reason)
    if "text/event-stream" in visit.request.headers.get("Accept", ""):
        response = web.Response(text=refusal.reason, status=refusal.status)
    else:
        response = visit.show("refused.html", status=refusal.status, refusal=refusal)
    response.headers.update(refusal.headers)
    return response


def _answer_unknown_paths(console: Console) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Make the middleware that answers for paths and methods that are none, and after a bug."""

    @web.middleware
    async def answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            visit = Visit(request=request, console=console)
            try:
                check_host(request, console.settings.now.hosts)
                _find_session(visit)
            except ConsoleRefusal as refusal:
                return _refuse(visit, refusal, "")
            reason = "the console has no such page" if error.status == 404 else error.reason
            return _refuse(visit, ConsoleRefusal(error.status, reason), "")

    return answer


async def _add_headers(console: Console, request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers of every answer, and the cookie of a session that has begun or ended."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    key = request.get(NEW_SESSION)
    if key is None:
        return
    secure = is_encrypted(request, console.settings.now.trusted_proxies)
    name = SECURE_COOKIE if secure else COOKIE
    if key:
        response.set_cookie(name, key, path="/", httponly=True, samesite="Strict", secure=secure)
    else:
        response.del_cookie(name, path="/", httponly=True, samesite="Strict", secure=secure)
    response.headers.add("Set-Cookie", response.cookies[name].OutputString())  # aiohttp has written the others already
