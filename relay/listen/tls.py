"""Serves the certificate of the listeners, and reloads it when it is renewed."""

import asyncio
import ssl
import time
from typing import Any, Final

import structlog

from relay.config import TlsError, TlsSettings, expiry_warning, make_server_context
from relay.threads import ADMIN
from relay.words import format_time

WATCH_S: Final = 60.0
"""Seconds between two checks of the certificate's files."""
REMIND_S: Final = 86400.0
"""Seconds between two warnings of a certificate that ends."""
CHECKED_AGAIN: Final = "the one before is served on; the files are looked at again every minute"
RELOADED: Final = "the one before is served on; renew the files, then relay reload"
log = structlog.stdlib.get_logger()


class Renewable(ssl.SSLContext):
    """The listener's permanent context. Each new connection gets the context that is current then.

    A new context is made for a renewed chain, and takes over when it is complete. Loading the chain into a context in
    use could leave that context without a key, or with two certificates.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *streams: Any, **options: Any) -> ssl.SSLObject:
        """Start TLS on one connection with the current context."""
        return self.current.wrap_bio(*streams, **options)


class Watched(ssl.SSLObject):
    """The TLS of one connection. Logs a failed handshake, because the sender learns nothing of the cause."""

    def do_handshake(self) -> None:
        """Continue the handshake. Logs its failure."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLSyscallError):
            raise
        except ssl.SSLError as error:
            log.warning("TLS handshake failed", reason=error.reason or str(error))
            raise


class Certificates:
    """Loads the files of a listener's setting `tls`, and reloads them when they change."""

    def __init__(self, settings: TlsSettings, listener: str = "ingest") -> None:
        """`listener`: the table of conf.d with the setting. Raises TlsError."""
        self._settings, self._listener = settings, listener
        self.validity = settings.validity
        """The validity of the served certificate."""
        self.context = Renewable(ssl.PROTOCOL_TLS_SERVER)
        self.context.current = _make_context(settings)
        self._failure = ""
        self._told = -REMIND_S
        self._told_expired = False

    async def reload(self, settings: TlsSettings | None = None) -> bool:
        """Serve new connections with the present files, or with other settings; return whether anything changed.

        Open connections stay. Raises TlsError, logs it, and keeps the certificate then.
        """
        try:
            return await ADMIN.run(self.reload_blocking, settings)
        except TlsError as error:
            self._log_failure(error, CHECKED_AGAIN if settings is None else RELOADED)
            raise

    def reload_blocking(self, settings: TlsSettings | None = None) -> bool:
        """Reload the certificate as `reload` does. Blocking."""
        fresh = settings or self._settings.reread()
        if fresh == self._settings:
            return False
        context, validity, now = _make_context(fresh), fresh.validity, time.time()
        if self.validity.is_good(now) and not validity.is_good(now):
            raise TlsError("certificate", f"is good only {validity}: senders would refuse it")
        self.context.current, self.validity, self._settings = context, validity, fresh
        return True

    async def watch(self) -> None:
        """Check for renewed files and for the end of the certificate, for ever."""
        while True:
            left = self.validity.ends - time.time()
            await asyncio.sleep(min(WATCH_S, left + 1) if left > 0 else WATCH_S)  # its end is told at once
            try:
                renewed = await self.reload()
                reason = await ADMIN.run(expiry_warning, self._settings)
            except Exception as error:  # whatever it is, listening goes on
                self._log_failure(error, CHECKED_AGAIN)
                continue
            self._failure = ""
            if renewed:
                log.info("certificate renewed")
                self._told = -REMIND_S
            expired = not self.validity.is_good(time.time())
            is_news = time.monotonic() - self._told > REMIND_S or expired > self._told_expired
            if reason and is_news:
                told = {
                    "listener": self._listener,
                    "files": self._settings.files,
                    "ends": format_time(self.validity.ends),
                }
                log.error("certificate needs renewal", **told, reason=reason)
                self._told, self._told_expired = time.monotonic(), expired

    def _log_failure(self, error: Exception, advice: str) -> None:
        reason = f"{self._listener}.tls.{error.key}: {error.reason}" if isinstance(error, TlsError) else str(error)
        if reason != self._failure:
            log.error("renewed certificate cannot be used", reason=reason, advice=advice)
        self._failure = reason


def _make_context(settings: TlsSettings) -> ssl.SSLContext:
    context = make_server_context(settings)
    context.sslobject_class = Watched
    return context
