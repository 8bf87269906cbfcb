"""The status as metrics in Prometheus' text format. Pure: everything comes from the status.

Names are `relay_<stage>_<noun>_<unit>`. Labels are names of the configuration and words of closed lists. What senders
make up, such as event types, is never a label.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, get_args

from msgspec.structs import asdict
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.histogram import Histogram
from relay.status.model import State, Status
from relay.store import SETTINGS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STATES: Final = [state for state in get_args(State) if state != "idle"]
"""The states of a connector that runs: metrics are those of this node."""
BY_ONE: Final = "Only from the node that runs partition 0."
"""Sums over nodes would count it twice."""

Labels = Sequence[str]
Samples = Iterable[tuple[Labels, float]]


def render_metrics(status: Status, cluster: Status | None = None) -> bytes:
    """Render all metrics as text. `cluster`: as in `list_metrics`."""
    registry = CollectorRegistry()
    registry.register(_Collected([metric for metrics in list_metrics(status, cluster).values() for metric in metrics]))
    return generate_latest(registry)


def list_metrics(status: Status, cluster: Status | None = None) -> dict[str, list[Metric]]:
    """List all metrics by subject.

    `cluster`: the status of all nodes that share the partitions, at the node that announces; None elsewhere.
    """
    return {
        "Listeners": [*_make_listeners(status)],
        "Sources": [*_make_ingest(status)],
        "Journal": [*_make_journal(status)],
        "Connectors and parked events": [*_make_deliver(status)],
        "Alerts": [*_make_alerts(status)],
        "Process": [*_make_runtime(status)],
        "Cluster": [*_make_cluster(status, cluster)],
    }


class _Collected(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _make_listeners(status: Status) -> Iterator[Metric]:
    yield _make_gauge(
        "relay_listener_certificate_expiry_timestamp_seconds",
        "When the certificate in service ends, in Unix seconds.",
        ("listener",),
        (((one.certificate,), one.ends) for one in status.certificates),
    )
    yield _make_gauge(
        "relay_listener_certificate_begin_timestamp_seconds",
        "When the certificate in service begins, in Unix seconds.",
        ("listener",),
        (((one.certificate,), one.begins) for one in status.certificates),
    )
    yield _make_gauge(
        "relay_listener_connections",
        "Open connections of ingest, admin or metrics.",
        ("listener",),
        (((name,), one.connections) for name, one in status.listeners.items()),
    )
    yield _make_counter(
        "relay_listener_refused_connections",
        "Connections refused or closed without a request: malformed (no HTTP or TLS), too_large (headers), timeout,"
        " evicted (to make room), full (503), bug (of relay).",
        ("listener", "cause"),
        (((name, cause), number) for name, one in status.listeners.items() for cause, number in one.refused.items()),
    )


def _make_ingest(status: Status) -> Iterator[Metric]:
    sources, by = status.sources, ("source",)
    yield _make_counter(
        "relay_ingest_requests",
        "Requests by answer: 2xx, 403 (not allowed from there), 429 (over the rate), other 4xx, 5xx.",
        ("source", "status"),
        (((one.source, name), number) for one in sources for name, number in one.requests.items()),
    )
    yield _make_counter(
        "relay_ingest_stray_requests",
        "Requests to paths that no source has: perhaps of a sender whose source has moved.",
        (),
        [((), status.strays)],
    )
    yield _make_counter(
        "relay_ingest_accepted_events",
        "Events accepted: they are on disk.",
        by,
        (((one.source,), one.accepted) for one in sources),
    )
    yield _make_counter(
        "relay_ingest_duplicate_events",
        "Events left out because they had come before (dedupe). Kept for ever.",
        by,
        (((one.source,), one.duplicates) for one in sources),
    )
    yield _make_counter(
        "relay_ingest_unreadable_events",
        "Entries of bodies that were no events, and are parked.",
        by,
        (((one.source,), one.unreadable) for one in sources),
    )
    yield _make_gauge(
        "relay_ingest_last_accepted_timestamp_seconds",
        "When events were accepted last, in Unix seconds; absent until then.",
        by,
        (((one.source,), one.last) for one in sources if one.last is not None),
    )
    yield _make_gauge(
        "relay_ingest_refusing_seconds",
        "Seconds for which the source has answered nothing but errors; 0: it takes events.",
        by,
        (((one.source,), status.now - one.refusing.since if one.refusing else 0.0) for one in sources),
    )
    yield _make_gauge(
        "relay_ingest_unknown_types",
        "Event types since the start that are not in the catalogue, 100 at most; relay status names them.",
        by,
        (((one.source,), len(one.unknown_types)) for one in sources),
    )
    yield _make_gauge(
        "relay_ingest_incomplete_syncs",
        "Segment syncs of the last week that lack pages.",
        by,
        (((one.source,), one.incomplete) for one in sources),
    )
    yield _make_histogram(
        "relay_ingest_ack_seconds",
        "Seconds from a request's headers to its 2xx answer, body and fsync included.",
        "source",
        {one.source: one.ack for one in sources},
    )


def _make_journal(status: Status) -> Iterator[Metric]:
    journal = status.journal
    yield _make_counter(
        "relay_journal_accepted_events",
        "Events written to the journal. Kept for ever.",
        (),
        [((), journal.head if journal.own_events is None else journal.own_events)],
    )
    yield _make_counter(
        "relay_journal_accepted_bytes", "Bytes of the events written since the start.", (), [((), journal.bytes)]
    )
    yield _make_counter(
        "relay_journal_failed_commits", "Commits that failed: their senders got 503.", (), [((), journal.failed)]
    )
    yield _make_counter(
        "relay_journal_lost_events",
        "Events that connectors or replays could not read: damaged, or removed by somebody else.",
        (),
        [((), journal.lost)],
    )
    each = {str(one.worker): one.journal for one in status.workers if one.journal} or {"0": journal}
    yield _make_gauge(
        "relay_journal_size_bytes",
        "Bytes of the journal on disk.",
        ("worker",),
        (((worker,), one.size) for worker, one in each.items()),
    )
    yield _make_gauge(
        "relay_journal_needed_bytes",
        "Bytes of the journal that some connector still needs, in whole segments.",
        ("worker",),
        (((worker,), one.needed) for worker, one in each.items()),
    )
    yield _make_gauge(
        "relay_journal_capacity_bytes",
        "Bytes that the journal may take: max_size, and of the file system all but min_free.",
        ("worker",),
        (((worker,), one.capacity) for worker, one in each.items()),
    )
    yield _make_histogram(
        "relay_journal_fsync_seconds",
        "Seconds of each commit's fdatasync; the count is that of the commits.",
        "",
        {"": journal.syncs},
    )


def _make_deliver(status: Status) -> Iterator[Metric]:
    lanes, by = status.lanes, ("connector",)
    yield _make_counter(
        "relay_deliver_events",
        "Events by outcome: delivered, unselected, filtered, expired, damaged, erased. Kept for ever.",
        ("connector", "outcome"),
        (
            ((one.connector, outcome), number)
            for one in lanes
            for outcome, number in (one.outcomes if one.own_outcomes is None else one.own_outcomes).items()
            if outcome != "parked"  # a replay that succeeds takes it back: it is no counter
        ),
    )
    yield _make_counter(
        "relay_deliver_parked_events",
        "Events parked, those of replays included.",
        by,
        (((one.connector,), one.parked) for one in lanes),
    )
    pending = (((one.connector,), one.pending) for one in lanes)
    yield _make_gauge("relay_deliver_pending_events", "Accepted events without an outcome.", by, pending)
    yield _make_gauge(
        "relay_deliver_oldest_pending_seconds",
        "Seconds for which the oldest pending event has waited; 0: nothing is pending.",
        by,
        (((one.connector,), max(0.0, status.now - one.oldest_pending) if one.oldest_pending else 0.0) for one in lanes),
    )
    yield _make_gauge(
        "relay_deliver_batch_wait_seconds",
        "Seconds that an event may wait for its batch to be full (batch.age).",
        by,
        (((one.connector,), one.batch_wait) for one in lanes),
    )
    yield _make_gauge(
        "relay_deliver_lane_state",
        "1 for the state of the connector, 0 for the other states.",
        ("connector", "state"),
        (((one.connector, state), float(one.state == state)) for one in lanes for state in STATES),
    )
    yield _make_counter(
        "relay_deliver_attempts",
        "Attempts by outcome: delivered, retried, refused, unauthorized, bug.",
        ("connector", "outcome"),
        (((one.connector, outcome), number) for one in lanes for outcome, number in one.attempts.items()),
    )
    yield _make_counter(
        "relay_deliver_counted",
        "What a connector of a plugin counts itself (self.metrics).",
        ("connector", "name"),
        (((one.connector, name), number) for one in lanes for name, number in one.counted.items()),
    )
    yield _make_histogram(
        "relay_deliver_attempt_seconds",
        "Seconds that attempts took.",
        "connector",
        {one.connector: one.attempt for one in lanes},
    )
    yield _make_histogram(
        "relay_deliver_end_to_end_seconds",
        "Seconds from the receipt of an event to its delivery, without replays.",
        "connector",
        {one.connector: one.end_to_end for one in lanes},
    )
    yield _make_gauge(
        "relay_deliver_failing_erasure_seconds",
        "Seconds for which the oldest erasure has failed at the connector; 0: none fails. Without connector: in the"
        " journal and the tables.",
        by,
        (((connector,), seconds) for connector, seconds in _measure_failing(status).items()),
    )
    yield _make_gauge(
        "relay_parked_events",
        "Events that are parked now. Without connector: at a source.",
        ("source", "connector", "cause"),
        (((one.source, one.connector or "", one.cause), one.events) for one in status.parked),
    )
    yield _make_gauge(
        "relay_parked_bytes",
        "About the bytes of the events that are parked now.",
        ("source", "connector", "cause"),
        (((one.source, one.connector or "", one.cause), one.bytes) for one in status.parked),
    )
    yield _make_counter(
        "relay_parked_removed_events",
        "Parked events that relay removed for parked.retention, parked.max_size or journal.min_free. Kept for ever.",
        ("source", "connector", "cause", "setting"),
        (
            ((one.source, one.connector or "", one.cause, setting), one.removed.get(setting, 0))
            for one in status.parked
            for setting in SETTINGS.values()
        ),
    )


def _measure_failing(status: Status) -> dict[str, float]:
    """Return for how many seconds erasures have failed, by connector; "": in the journal and the tables."""
    if not status.announces:
        return {}
    none = dict.fromkeys(["", *(one.connector for one in status.lanes)], 0.0)
    return none | {one.connector or "": max(0.0, status.now - one.since) for one in status.failing_erasures}


def _make_alerts(status: Status) -> Iterator[Metric]:
    alerts, by = status.alerts, ("alert",)
    yield _make_counter(
        "relay_alert_messages",
        "Messages of alerts: sent, or given_up after a day.",
        ("alert", "outcome"),
        (
            ((one.alert, outcome), number)
            for one in alerts
            for outcome, number in (("sent", one.sent), ("given_up", one.given_up))
        ),
    )
    failed = (((one.alert,), one.failed) for one in alerts)
    yield _make_counter("relay_alert_failed_attempts", "Failed attempts to send a message.", by, failed)
    waiting = (((one.alert,), one.waiting) for one in alerts)
    yield _make_gauge("relay_alert_waiting_messages", "Messages that wait to be sent.", by, waiting)
    yield _make_gauge(
        "relay_alert_failing_seconds",
        "Seconds for which no message could be sent; 0: the last message was sent.",
        by,
        (((one.alert,), max(0.0, status.now - one.failing) if one.failing else 0.0) for one in alerts),
    )


def _make_runtime(status: Status) -> Iterator[Metric]:
    yield _make_gauge(
        "relay_runtime_build_info", "1, with the version as a label.", ("version",), [((status.version,), 1)]
    )
    yield _make_gauge(
        "relay_runtime_start_timestamp_seconds", "When relay started, in Unix seconds.", (), [((), status.started)]
    )
    yield _make_counter("relay_runtime_cpu_seconds", "Seconds of CPU used.", (), [((), status.cpu)])
    dropped = "Lines of the log that standard error did not take: its reader stalls, or a disk is full."
    yield _make_counter("relay_runtime_dropped_log_lines", dropped, (), [((), status.dropped_log_lines)])
    yield _make_gauge("relay_runtime_memory_bytes", "Bytes of memory in RAM.", (), [((), status.memory)])
    doubts = {one.what for one in status.doubts}
    yield _make_gauge(
        "relay_runtime_doubtful",
        "1: the journal or the clock is not as it was; see relay status and relay accept.",
        ("what",),
        (((what,), float(what in doubts)) for what in ("clock", "journal") if status.announces),
    )
    away = sum(one.away for one in status.workers)
    yield _make_gauge(
        "relay_runtime_workers_away", "Workers that do not answer, or that start again.", (), [((), away)]
    )


def _make_cluster(status: Status, cluster: Status | None) -> Iterator[Metric]:
    """Make the metrics on the nodes that share a database: two of this node, the others of `cluster`."""
    own, told = [status] if status.shares_partitions else [], [cluster] if cluster else []
    yield _make_gauge(
        "relay_cluster_unreachable_seconds",
        "Seconds for which the database has not let this node work; 0: it does.",
        (),
        (((), max(0.0, one.now - one.unreachable_since) if one.unreachable_since else 0.0) for one in own),
    )
    running = (((), len(one.partitions)) for one in own)
    yield _make_gauge("relay_cluster_running_partitions", "Partitions that this node runs.", (), running)
    waiting = (((), len(one.waiting_partitions)) for one in told)
    yield _make_gauge("relay_cluster_waiting_partitions", f"Partitions that no node runs. {BY_ONE}", (), waiting)
    away = (((), len({node.node for node in one.nodes if node.state == "away"})) for one in told)
    yield _make_gauge("relay_cluster_away_nodes", f"Nodes without a sign of life for a lease. {BY_ONE}", (), away)
    yield _make_gauge(
        "relay_cluster_held_snapshots",
        f"Snapshots of the database that somebody has held for 10 minutes, or for 100,000 transactions. {BY_ONE}",
        (),
        (((), one.held_snapshots) for one in told),
    )
    yield _make_gauge(
        "relay_cluster_standbys",
        f"Synchronous standbys: named by the server's rule, needed by each COMMIT, connected. {BY_ONE}",
        ("count",),
        (((count,), number) for one in told for count, number in asdict(one.standbys).items()),
    )


def _make_counter(name: str, help: str, labels: Labels, samples: Samples) -> Metric:
    return _fill(CounterMetricFamily(name, help, labels=labels), samples)


def _make_gauge(name: str, help: str, labels: Labels, samples: Samples) -> Metric:
    return _fill(GaugeMetricFamily(name, help, labels=labels), samples)


def _fill(family: CounterMetricFamily | GaugeMetricFamily, samples: Samples) -> Metric:
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _make_histogram(name: str, help: str, label: str, histograms: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, help, labels=[label] if label else [])
    for value, one in histograms.items():
        # Prometheus wants cumulative buckets: the number of values up to each bound
        found, total = [], 0
        for bound, count in zip([*map(str, one.bounds), "+Inf"], one.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        family.add_metric([value] if label else [], found, one.sum)
    return family
