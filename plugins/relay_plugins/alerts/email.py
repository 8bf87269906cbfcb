"""The alert type `email`: messages by SMTP."""

import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from relay.api import Alert, AlertSettings, Contradiction, Message, Retry, Secret, Unauthorized

if TYPE_CHECKING:
    from email.message import EmailMessage

PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}


def _check_address(text: str) -> str:
    if text.count("@") != 1 or not text.isprintable() or " " in text or text[0] == "@" or text[-1] == "@":
        raise ValueError("expected an address such as ops@example.com")
    return text


Address = Annotated[str, AfterValidator(_check_address)]


class Email(Alert, type="email"):
    """Sends messages by e-mail."""

    requires: ClassVar = {"aiosmtplib": "currents-relay[email]"}

    class Settings(AlertSettings):
        """The server, the sender and the recipients."""

        host: str = Field(min_length=1)
        """The SMTP server."""
        port: int | None = Field(default=None, ge=1, le=65535)
        """Port of the server. Left out: 587 with `starttls`, 465 with `tls`, 25 with `none`."""
        tls: Literal["starttls", "tls", "none"] = "starttls"
        """When encryption begins. `"starttls"`: after the greeting. `"tls"`: from the start. `"none"`: never."""
        user: str = ""
        """User name for the login. Without `user` relay does not log in."""
        password: Secret | None = None
        """Password for the login."""
        sender: Address
        """Address that sends the messages."""
        to: tuple[Address, ...] = Field(min_length=1, max_length=100)
        """Addresses that get the messages."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield a login without user or password, or without encryption."""
            if bool(self.user) != bool(self.password):
                yield "user password", "user and password belong together: set both, or leave both out"
            elif self.user and self.tls == "none":
                yield "tls user", 'tls = "none" would send the password for everybody to read: use starttls or tls'

    settings: Settings

    async def send(self, message: Message) -> None:
        """Send the message to all recipients. Raises `Unauthorized`, `Retry`."""
        import aiosmtplib  # an extra of the package: imported only where it is used

        it = self.settings
        context = None if it.tls == "none" else await self.run_blocking(ssl.create_default_context)
        server = aiosmtplib.SMTP(
            hostname=it.host,
            port=it.port or PORTS[it.tls],
            use_tls=it.tls == "tls",
            start_tls=it.tls == "starttls",
            tls_context=context,
            timeout=it.timeout,
        )
        try:
            async with server:
                if it.password:
                    await server.login(it.user, it.password.reveal())
                await server.send_message(self.make_email(message), sender=it.sender, recipients=[*it.to])
        except aiosmtplib.SMTPAuthenticationError as error:
            raise Unauthorized(f"{it.host} refuses the login: {error.code} {error.message}") from None
        except aiosmtplib.SMTPException as error:
            said, cause = str(error), str(error.__cause__ or "")
            reason = " ".join(f"{said} {'' if cause in said else cause}".split()) or type(error).__name__
            raise Retry(f"{it.host}: {reason}") from None

    def make_email(self, message: Message) -> "EmailMessage":
        """Return the e-mail. Its Message-ID is the id of the message, so that mail programs recognise a repetition."""
        from email.message import EmailMessage  # slow to import, and rarely needed
        from email.utils import formatdate

        email = EmailMessage()
        email["From"] = self.settings.sender
        email["To"] = ", ".join(self.settings.to)
        email["Subject"] = " ".join(message.title.split())
        email["Date"] = formatdate(message.at)
        email["Message-ID"] = f"<{message.id}@{self.settings.sender.rpartition('@')[2]}>"
        email["Auto-Submitted"] = "auto-generated"
        email.set_content(message.text)
        return email
