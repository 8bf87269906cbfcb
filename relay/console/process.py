"""The process `relay console`: reads [console], listens, tells systemd, and stops in good order."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from relay import __version__
from relay.client import find_login
from relay.config import TlsError
from relay.console.relay_view import RelayView
from relay.console.security.sign_in import LINK_S, OneTimeLink
from relay.console.server import make_app
from relay.console.settings import ConsoleOptions, LiveSettings
from relay.console.visit import Console
from relay.listen import Acceptor, AppRunner, Certificates, ListenerLimits, ListenError, bind, describe_sockets
from relay.systemd import Notify
from relay.words import describe_error

LIMITS: Final = ListenerLimits(head=30.0, idle=75.0, answer=30.0, connections=256, opens_ahead=True)
BEAT_S: Final = 5.0
"""Seconds between two signs of life for systemd, at most."""
NICE: Final = 10
"""The console gives way to relay, where both want a processor."""
STOP_S: Final = 2.0
"""Seconds that requests under way have to end."""
log = structlog.stdlib.get_logger()


class ConsoleError(Exception):
    """Raised when the console cannot start, with the reason."""


def run_console(options: ConsoleOptions, tell: Callable[[str], None] | None) -> None:
    """Run the console until SIGTERM or SIGINT. `tell`: shows a line on the terminal; None: there is no terminal.

    Raises ConfigError, ConsoleError.
    """
    try:
        settings = LiveSettings(options)
    except OSError as error:
        raise ConsoleError(describe_error(error)) from None
    if exposed := settings.find_exposed():
        advice = "add [console.user.NAME], or listen on a loopback address"
        raise ConsoleError(f"{exposed} is neither a loopback address nor a unix socket, and there is no user: {advice}")
    try:
        asyncio.run(_run(options, settings, tell))
    except TlsError as error:
        raise ConsoleError(f"console.tls.{error.key}: {error.reason}") from None
    except ListenError as error:
        raise ConsoleError(str(error)) from None


async def _run(options: ConsoleOptions, settings: LiveSettings, tell: Callable[[str], None] | None) -> None:
    with suppress(OSError):  # as relay-console.service, which sets the priority itself, forbids it
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    console = Console(settings, RelayView(options.state), find_login())
    tls = None if settings.now.tls is None else Certificates(settings.now.tls, "console")
    notify = Notify()
    async with _listen(console, tls, "--listen" if options.listen else "console.listen") as addresses:
        _offer_link(console, addresses, tell)
        if plain := settings.now.find_plain():
            log.warning("nobody can sign in by plain http", listen=str(plain), advice="set console.tls")
        log.info("console runs", listen=addresses, version=__version__, state=str(options.state))
        status = f"listens at {', '.join(addresses)}"
        await notify.report_ready(status)
        async with asyncio.TaskGroup() as group:
            working = [
                group.create_task(settings.follow(), name="settings of the console"),
                group.create_task(console.relay.keep_rates(), name="rates of relay"),
                group.create_task(_keep_reporting(notify, status), name="signs of life"),
                *([group.create_task(tls.watch(), name="certificate of the console")] if tls else []),
            ]
            await stop.wait()
            log.info("console stops")
            await notify.report_stopping("finishing the requests under way")
            console.streams.stop()
            for task in working:
                task.cancel()
    log.info("console stopped")


async def _keep_reporting(notify: Notify, status: str) -> None:
    """Report to systemd that the event loop turns, until cancelled. A relay that does not answer is no matter here."""
    while notify.listens:
        await notify.report_alive(status)
        await asyncio.sleep(min(BEAT_S, notify.watchdog / 4) if notify.watchdog else BEAT_S)


@asynccontextmanager
async def _listen(console: Console, tls: Certificates | None, key: str) -> AsyncIterator[Sequence[str]]:
    """Listen; yield the addresses. Raises ListenError."""
    runner = AppRunner(make_app(console), "console", LIMITS, handle_signals=False, shutdown_timeout=STOP_S)
    await runner.setup()
    accepting: list[Acceptor] = []
    try:
        (sockets,) = bind(console.settings.now.listen, key)
        for one in sockets:
            context = tls.context if tls and one.family != socket.AF_UNIX else None
            accepting.append(Acceptor(runner.within, one, context))
        yield describe_sockets(sockets, tls=tls is not None)
    finally:
        for acceptor in accepting:
            acceptor.close()
        await runner.cleanup()


def _offer_link(console: Console, addresses: Sequence[str], tell: Callable[[str], None] | None) -> None:
    """Show a link that is good once, if no user is configured."""
    if console.settings.now.user:
        return
    if tell is None:
        log.warning("nobody can sign in to the console", advice="add [console.user.NAME], or start it on a terminal")
        return
    console.link = OneTimeLink()
    address = next((one for one in addresses if one.startswith("http")), "http://localhost")
    tell(f"Open {address}/sign-in/link?key={console.link.key}")
    tell(f"The link is good once, for {LINK_S / 60:g} minutes. Whoever opens it may do everything.")
