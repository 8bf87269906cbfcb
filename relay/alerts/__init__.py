"""Reports what is wrong to people, by the alerts of the configuration."""

from relay.alerts.alerts import Alerts

__all__ = ["Alerts"]
