"""The alert type `webhook`: messages as JSON."""

import json
from collections.abc import Iterator

from relay.api import Alert, BearerToken, Contradiction, HttpAlertSettings, Message, Secret, signed_headers, signing_key
from relay_plugins.alerts.url import SecretUrl, check_url, reveal_url


class Webhook(Alert, type="webhook"):
    """Posts messages as JSON. The `Idempotency-Key` is the id of the message."""

    class Settings(HttpAlertSettings):
        """Where to send messages, and how to prove where they come from."""

        url: SecretUrl
        """URL that gets the messages, or a reference if it is secret."""
        token: BearerToken | None = None
        """A bearer token, sent as `Authorization: Bearer ...`."""
        signing_secret: Secret | None = None
        """Secret of Standard Webhooks (`whsec_...`): relay signs each request with it."""

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield secrets that hold no URL or no signing key."""
            yield from super().contradictions()
            if problem := check_url(self.url):
                yield "url", problem
            if self.signing_secret and not self.signing_secret.problem:
                try:
                    signing_key(self.signing_secret)
                except ValueError as error:
                    yield "signing_secret", str(error)

    settings: Settings

    async def send(self, message: Message) -> None:
        """Post the message. Raises what `post` raises."""
        body = json.dumps(message.data).encode()
        headers = {"content-type": "application/json", "idempotency-key": message.id}
        if self.settings.token:
            headers["authorization"] = f"Bearer {self.settings.token.reveal()}"
        if self.settings.signing_secret:
            headers |= signed_headers(signing_key(self.settings.signing_secret), message.id, body)
        await self.post(reveal_url(self.settings.url), body, headers)
