"""Tells people what is wrong: when, how often and in which words, by the alerts of the configuration."""

from relay.alerts.alerts import Alerts

__all__ = ["Alerts"]
