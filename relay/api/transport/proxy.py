"""Which proxy requests go through."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib import request

from yarl import URL

from relay.api.secret import Secret
from relay.api.transport.route import ENVIRONMENT, WaySettings, is_proxy


class Via(NamedTuple):
    """A proxy: its URL without a password, and the headers of its password."""

    url: URL
    headers: Mapping[str, str]


def make_proxy_finder(settings: WaySettings) -> Callable[[URL], Via | None] | None:
    """Return a function that finds the proxy of a URL; None if there is no proxy."""
    if settings.proxy == ENVIRONMENT:
        return _Environment(request.getproxies_environment()).via
    written = settings.proxy.reveal() if isinstance(settings.proxy, Secret) else settings.proxy
    if not written:
        return None
    via = _make_via(written)
    return lambda _: via


class _Environment:
    """The proxies that environment variables name."""

    def __init__(self, proxies: dict[str, Any]) -> None:
        self._proxies = proxies

    def via(self, url: URL) -> Via | None:
        written = self._proxies.get(url.scheme) or self._proxies.get("all")
        bypassed: bool = request.proxy_bypass_environment(f"{url.host}:{url.port}", self._proxies)  # type: ignore[attr-defined]
        if not written or bypassed:
            return None
        return _make_via(written if "://" in written else f"http://{written}")


def _make_via(written: str) -> Via:
    """Make a proxy of its URL. Raises OSError, without the password."""
    if not is_proxy(written):
        raise OSError("the proxy that the environment names is no http:// URL")
    url = URL(written)
    if not (url.user or url.password):
        return Via(url, {})
    known = base64.b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()
    return Via(url.with_user(None), {"Proxy-Authorization": f"Basic {known}"})
