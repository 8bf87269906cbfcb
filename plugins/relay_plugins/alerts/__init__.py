"""The alert types `webhook`, `slack`, `email` and `command`."""

from relay_plugins.alerts.command import Command
from relay_plugins.alerts.email import Email
from relay_plugins.alerts.slack import Slack
from relay_plugins.alerts.webhook import Webhook

__all__ = ["Command", "Email", "Slack", "Webhook"]
