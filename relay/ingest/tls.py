"""The certificate of the listeners, which is renewed while they listen."""

import asyncio
import ssl
import time
from typing import Any, Final

import structlog

from relay.config import TlsError, TlsSettings, expiry_warning, server_context
from relay.threads import ADMIN
from relay.words import moment

WATCH_S: Final = 60.0
"""A renewed certificate is served after so many seconds at most."""
WORRY_S: Final = 86400.0
"""A certificate that ends is told of so often."""
LOOKED_AT: Final = "the one before is served on; the files are looked at again every minute"
RELOADED: Final = "the one before is served on; renew the files, then relay reload"
log = structlog.stdlib.get_logger()


class Renewable(ssl.SSLContext):
    """What a listener keeps for good: each new connection gets the context that is current then.

    Loading a renewed chain into a context in use would leave it without a key if that failed halfway, and with two
    certificates if the kind of key has changed; so a new one is made, and takes over when it is complete.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *streams: Any, **options: Any) -> ssl.SSLObject:
        """Begin the TLS of one connection."""
        return self.current.wrap_bio(*streams, **options)


class Watched(ssl.SSLObject):
    """The TLS of one connection; a handshake that fails is told, for the sender knows no more than that it failed."""

    def do_handshake(self) -> None:
        """Go on with the handshake."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLSyscallError):
            raise
        except ssl.SSLError as error:
            log.warning("TLS handshake failed", reason=error.reason or str(error))
            raise


class Certificates:
    """Loads what `[ingest] tls` names, again whenever the files have changed."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises TlsError."""
        self._settings = settings
        self.validity = settings.validity
        """When the certificate is good that is served."""
        self.context = Renewable(ssl.PROTOCOL_TLS_SERVER)
        self.context.current = _context(settings)
        self._failure = ""
        self._told = -WORRY_S
        self._told_expired = False

    async def reload(self, settings: TlsSettings | None = None) -> bool:
        """Serve new connections with what the files hold now, or with other settings; tell whether it is any other.

        Connections go on as they are. Raises TlsError, and then all stays as it was, and that is told.
        """
        try:
            return await ADMIN.run(self.renew, settings)
        except TlsError as error:
            self._tell_failure(error, LOOKED_AT if settings is None else RELOADED)
            raise

    def renew(self, settings: TlsSettings | None = None) -> bool:
        """The same. Blocking."""
        fresh = settings or self._settings.reread()
        if fresh == self._settings:
            return False
        context, validity, now = _context(fresh), fresh.validity, time.time()
        if self.validity.is_good(now) and not validity.is_good(now):
            raise TlsError("certificate", f"is good only {validity}: senders would refuse it")
        self.context.current, self.validity, self._settings = context, validity, fresh
        return True

    async def watch(self) -> None:
        """Look for ever whether the files have changed, and whether the certificate ends soon."""
        while True:
            left = self.validity.ends - time.time()
            await asyncio.sleep(min(WATCH_S, left + 1) if left > 0 else WATCH_S)  # its end is told at once
            await self._look()

    async def _look(self) -> None:
        try:
            renewed = await self.reload()
            reason = await ADMIN.run(expiry_warning, self._settings)
        except Exception as error:  # whatever it is, listening goes on
            self._tell_failure(error, LOOKED_AT)
            return
        self._failure = ""
        if renewed:
            log.info("certificate renewed")
            self._told = -WORRY_S
        expired = not self.validity.is_good(time.time())
        is_news = time.monotonic() - self._told > WORRY_S or expired > self._told_expired
        if reason and is_news:
            told = {"listener": "ingest", "files": self._settings.files, "ends": moment(self.validity.ends)}
            log.error("certificate needs renewal", **told, reason=reason)
            self._told, self._told_expired = time.monotonic(), expired

    def _tell_failure(self, error: Exception, advice: str) -> None:
        if str(error) != self._failure:
            log.error("renewed certificate cannot be used", reason=str(error), advice=advice)
        self._failure = str(error)


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = server_context(settings)
    context.sslobject_class = Watched
    return context
