"""Metrics have the values of the status."""

from relay.status.model import AlertStatus
from relay.status.prometheus import render_metrics
from tests.unit.status.statuses import NOON, a_status


def test_messages_of_an_alert_have_their_numbers() -> None:
    alert = AlertStatus(
        alert="ops",
        type="webhook",
        file="80.toml",
        told=[],
        waiting=3,
        sent=5,
        failed=7,
        given_up=11,
        failing=NOON - 60,
        last=None,
    )
    lines = render_metrics(a_status(alerts=[alert])).decode().splitlines()
    assert [line for line in lines if line.startswith("relay_alert_")] == [
        'relay_alert_messages_total{alert="ops",outcome="sent"} 5.0',
        'relay_alert_messages_total{alert="ops",outcome="given_up"} 11.0',
        'relay_alert_failed_attempts_total{alert="ops"} 7.0',
        'relay_alert_waiting_messages{alert="ops"} 3.0',
        'relay_alert_failing_seconds{alert="ops"} 60.0',
    ]
