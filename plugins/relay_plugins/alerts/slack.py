"""The alert type `slack`: messages in the form that Slack's incoming webhooks take, and Discord's and Teams' own.

Discord also takes Slack's form, at the webhook's URL with /slack behind it. Teams took `{"text": ...}` until Microsoft
switched off its Office 365 connectors in 2026; the webhooks of its Workflows take a message with an adaptive card.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, Literal

from relay.api import Alert, Contradiction, HttpAlertSettings, Message
from relay_plugins.alerts.url import SecretUrl, plain, problem_of

MOST: Final = {"slack": 2000, "discord": 2000, "teams": 10_000}
"""Characters of a message: Discord takes no more, in either form, and Teams takes 28 KB."""
ESCAPED: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""In Slack's texts, where `<!channel>` would call everybody."""


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
            """A secret that is no URL."""
            yield from super().contradictions()
            if problem := problem_of(self.url):
                yield "url", problem

        def warnings(self) -> Iterator[Contradiction]:
            """A secret that is written out."""
            yield from super().warnings()
            if isinstance(self.url, str):
                yield "url", 'whoever has it can post: it is a secret, such as { credential = "slack-webhook" }'

    settings: Settings

    async def send(self, message: Message) -> None:
        """Post it."""
        body = json.dumps(body_of(message, self.settings.form)).encode()
        await self.post(plain(self.settings.url), body, {"content-type": "application/json"})


def body_of(message: Message, form: str) -> dict[str, Any]:
    """The JSON of a message in a form."""
    most = MOST[form]
    if form == "discord":
        return {"content": message.brief(most), "allowed_mentions": {"parse": []}}
    if form == "teams":
        title, _, rest = message.brief(most).partition("\n\n")
        blocks = [_block(title, weight="Bolder"), *map(_block, filter(None, rest.split("\n\n")))]
        card = {"type": "AdaptiveCard", "version": "1.2", "body": blocks}
        card["$schema"] = "http://adaptivecards.io/schemas/adaptive-card.json"
        content_type = "application/vnd.microsoft.card.adaptive"
        return {"type": "message", "attachments": [{"contentType": content_type, "contentUrl": None, "content": card}]}
    return {"text": message.brief(most).translate(ESCAPED), "unfurl_links": False}


def _block(text: str, **style: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": text.replace("\n", "\n\n"), "wrap": True, **style}
