"""Signing in and out."""

from typing import Final

import structlog
from aiohttp import web

from relay.console.security.guard import SILENT, choose_page, names_its_site
from relay.console.security.refusal import ConsoleRefusal
from relay.console.security.sessions import Way
from relay.console.security.sign_in import check_secret
from relay.console.visit import NEW_SESSION, Visit
from relay.listen import describe_client, find_client
from relay.threads import ADMIN

WRONG: Final = "the name or the secret is wrong"
log = structlog.stdlib.get_logger()


async def show_form(visit: Visit) -> web.StreamResponse:
    """Ask for name and secret."""
    back = choose_page(visit.request.query.get("back", ""))
    if visit.session is not None:
        return visit.go(back)
    return _show_form(visit, back)


def _show_form(visit: Visit, back: str, *, wrong: str = "", status: int = 200) -> web.Response:
    settings = visit.console.settings.now
    has_secrets = any(user.secret for user in settings.user.values())
    silent = "" if names_its_site(visit.request) else SILENT
    told = {"back": back, "wrong": wrong, "settings": settings, "has_secrets": has_secrets, "silent": silent}
    return visit.show("sign_in.html", status=status, **told)


async def sign_in(visit: Visit) -> web.StreamResponse:
    """Begin a session for a user who types the right secret. Raises ConsoleRefusal (429)."""
    _count_try(visit)
    name, back = visit.form.get("name", ""), choose_page(visit.form.get("back", ""))
    settings = visit.console.settings.now
    if not await ADMIN.run(check_secret, settings, name, visit.form.get("secret", "")):
        client = describe_client(visit.request, settings.trusted_proxies)
        log.warning("console sign-in failed", client=client, user=name if name in settings.user else "")
        return _show_form(visit, back, wrong=WRONG, status=403)
    return _begin(visit, name, "secret", back)


async def use_link(visit: Visit) -> web.StreamResponse:
    """Begin a session for whoever has the one-time link. Raises ConsoleRefusal (403, 429)."""
    link = None if visit.console.settings.now.user else visit.console.link
    if link is not None:  # else another site could use up the tries of a user
        _count_try(visit)
    if link is None or not link.use(visit.request.query.get("key", "")):
        advice = "start relay console again for another one"
        raise ConsoleRefusal(403, f"this link is not good: a link is good once, for ten minutes; {advice}")
    return _begin(visit, visit.console.local_user, "link", "/")


async def sign_out(visit: Visit) -> web.StreamResponse:
    """End the session."""
    visit.console.sessions.end(visit.session_id)
    visit.request[NEW_SESSION] = ""
    return visit.go("/sign-in")


def _count_try(visit: Visit) -> None:
    address = find_client(visit.request, visit.console.settings.now.trusted_proxies)
    if wait := visit.console.throttle.count_try(address):
        seconds = f"{wait:.0f}"
        raise ConsoleRefusal(429, f"too many tries from this address: wait {seconds} s", {"Retry-After": seconds})


def _begin(visit: Visit, user: str, way: Way, back: str) -> web.Response:
    visit.console.sessions.end(visit.session_id)
    visit.request[NEW_SESSION], _ = visit.console.sessions.begin(user, way)
    client = describe_client(visit.request, visit.console.settings.now.trusted_proxies)
    log.info("console sign-in", client=client, user=user, way=way)
    return visit.go(back)
