"""Metrics have the values of the status."""

from relay.status.model import AlertStatus
from relay.status.prometheus import render_metrics
from relay.store import StandbyCounts
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


def test_metrics_on_the_cluster_have_the_numbers_of_its_status() -> None:
    own = a_status(shares_partitions=True, partitions=[0, 2], unreachable_since=NOON - 90)
    whole = a_status(waiting_partitions=[1], held_snapshots=3, standbys=StandbyCounts(named=2, needed=1, connected=0))
    lines = render_metrics(own, whole).decode().splitlines()
    assert [line for line in lines if line.startswith("relay_cluster_")] == [
        "relay_cluster_unreachable_seconds 90.0",
        "relay_cluster_running_partitions 2.0",
        "relay_cluster_waiting_partitions 1.0",
        "relay_cluster_away_nodes 0.0",
        "relay_cluster_held_snapshots 3.0",
        'relay_cluster_standbys{count="named"} 2.0',
        'relay_cluster_standbys{count="needed"} 1.0',
        'relay_cluster_standbys{count="connected"} 0.0',
    ]
