"""Checks the users of [console], and what [console] refers to outside conf.d."""

from collections.abc import Iterator

from msgspec.structs import replace

from relay.api import Secret
from relay.config.address import TcpAddress
from relay.config.checks import secrets
from relay.config.console.settings import ConsoleSettings
from relay.config.merge import Merged
from relay.config.mistake import Mistake
from relay.config.tls import TlsError, expiry_warning, make_server_context

TABLE = ("console",)


def find_barred_users(console: ConsoleSettings, merged: Merged) -> Iterator[Mistake]:
    """Find users who have no way in."""
    for name, user in console.user.items():
        if user.secret is None and not console.user_header:
            reason = "has no `secret`, and there is no `user_header`: nobody can sign in by this name"
            yield merged.make_mistake((*TABLE, "user", name), reason)


def find_doubts(console: ConsoleSettings, merged: Merged) -> Iterator[Mistake]:
    """Find what the console cannot use, or what may not be meant. None of it is a mistake: the daemon does without."""
    yield from secrets.find_doubtful_secrets(TABLE, console, merged)
    unread = [_name_unit(*found) for found in secrets.find_unread_secrets(TABLE, console, merged)]
    yield from unread
    if console.tls is None:
        if console.user and (plain := console.find_plain()):
            reason = f"nobody can sign in at {plain} by plain http: set tls, or trusted_proxies for a proxy with TLS"
            yield merged.make_mistake((*TABLE, "listen"), reason)
        return
    if not any(isinstance(address, TcpAddress) for address in console.listen):
        yield merged.make_mistake((*TABLE, "tls"), "there is no TCP address in `listen` to serve it on")
    if not any(mistake.key.startswith("console.tls.") for mistake in unread):
        try:
            make_server_context(console.tls)
            if ending := expiry_warning(console.tls):
                yield merged.make_mistake((*TABLE, "tls", "certificate"), ending)
        except TlsError as error:
            yield merged.make_mistake((*TABLE, "tls", error.key), error.reason)


def _name_unit(secret: Secret, mistake: Mistake) -> Mistake:
    """Name the unit that has to load a credential: not the daemon's."""
    if secret.how != "credential":
        return mistake
    line = f"LoadCredential={secret.name}:/PATH"
    return replace(
        mistake, reason=f"{secret} cannot be read here: relay-console.service has it, if the unit has {line}"
    )
