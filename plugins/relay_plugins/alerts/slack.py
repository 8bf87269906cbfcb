"""The alert type `slack`: messages in the form of Slack, Discord or Teams.

Discord also takes Slack's form, at the webhook's URL with /slack at the end. Teams took `{"text": ...}` until Microsoft
switched off its Office 365 connectors in 2026; the webhooks of its Workflows take a message with an adaptive card.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, Literal

from relay.api import Alert, Contradiction, HttpAlertSettings, Message
from relay_plugins.alerts.url import SecretUrl, check_url, reveal_url

MOST: Final = {"slack": 2000, "discord": 2000, "teams": 10_000}
"""Most characters of a message. Discord takes no more in either form; Teams takes 28 KB."""
ESCAPED: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""Characters to escape for Slack, where `<!channel>` would notify everybody."""


class Slack(Alert, type="slack"):
    """Posts messages to a channel of Slack, Discord or Teams, or of a service that accepts Slack's form."""

    class Settings(HttpAlertSettings):
        """The channel's webhook."""

        url: SecretUrl
        """URL of the incoming webhook. Anybody with the URL can post: write `{ credential = "slack-webhook" }`."""
        form: Literal["slack", "discord", "teams"] = "slack"
        """The service of the webhook. A message has at most 2,000 characters, for `"teams"` 10,000.

        `"slack"` is for incoming webhooks of Slack, Mattermost and Rocket.Chat, and of Discord with `/slack` after the
        URL. `"discord"` is for the URL as Discord shows it, and mentions nobody. `"teams"` is for a webhook of the
        Workflows app ("Post to a channel when a webhook request is received").
        """

        def contradictions(self) -> Iterator[Contradiction]:
            """Yield `url` if it is no http or https URL."""
            yield from super().contradictions()
            if problem := check_url(self.url):
                yield "url", problem

        def warnings(self) -> Iterator[Contradiction]:
            """Yield `url` if it is written out: it is a secret."""
            yield from super().warnings()
            if isinstance(self.url, str):
                yield "url", 'whoever has it can post: it is a secret, such as { credential = "slack-webhook" }'

    settings: Settings

    async def send(self, message: Message) -> None:
        """Post the message. Raises what `post` raises."""
        body = json.dumps(make_body(message, self.settings.form)).encode()
        await self.post(reveal_url(self.settings.url), body, {"content-type": "application/json"})


def make_body(message: Message, form: str) -> dict[str, Any]:
    """Return the JSON of a message in the form of a service."""
    most = MOST[form]
    if form == "discord":
        return {"content": message.brief(most), "allowed_mentions": {"parse": []}}
    if form == "teams":
        title, _, rest = message.brief(most).partition("\n\n")
        blocks = [_make_block(title, weight="Bolder"), *map(_make_block, filter(None, rest.split("\n\n")))]
        card = {"type": "AdaptiveCard", "version": "1.2", "body": blocks}
        card["$schema"] = "http://adaptivecards.io/schemas/adaptive-card.json"
        content_type = "application/vnd.microsoft.card.adaptive"
        return {"type": "message", "attachments": [{"contentType": content_type, "contentUrl": None, "content": card}]}
    return {"text": message.brief(most).translate(ESCAPED), "unfurl_links": False}


def _make_block(text: str, **style: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": text.replace("\n", "\n\n"), "wrap": True, **style}
