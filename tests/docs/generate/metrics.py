"""docs/reference/metrics.md: every metric of /metrics, by subject, with the text of its HELP line."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from relay.histogram import QUICK, Histogram
from relay.status import JournalStatus, Status
from relay.status.prometheus import list_metrics
from tests.docs.generate.markdown import code, document, table

INTRO: Final = """
This page lists every metric that Prometheus reads from relay. The HELP lines of `/metrics` say the same.

```toml
[metrics]
listen = ["127.0.0.1:9464"]     # Prometheus scrapes http://127.0.0.1:9464/metrics, without a token
```

[Monitoring](../guide/monitoring.md) shows how to scrape, and has rules and a dashboard.

- Counters begin with 0 when relay starts. Those marked *kept for ever* outlast restarts, and are exact.
- With several workers the metrics are of all workers together. Counters go on when one worker starts again. A killed
  worker loses its counts of the last 5 seconds. Counters marked *kept for ever* lose nothing.
- With a journal in PostgreSQL the metrics are of one node, and of the partitions that it runs. Counters of connectors
  and of the journal begin with 0 when the node starts. They go on when partitions come and go.
- What is true of the whole cluster comes from one node alone: the node that runs partition 0. While nobody runs
  partition 0, the last node that did goes on. These are parked events, failing erasures, doubts
  (`relay_runtime_doubtful`), alerts, and the metrics below *Cluster* that say so.
- A histogram `NAME` is read as `NAME_bucket`, `NAME_count` and `NAME_sum`.
- Labels are names of the configuration and words of fixed lists. Event types are no label: senders make them up.
"""
KEPT: Final = " Kept for ever."


def page() -> str:
    """Make the page."""
    return document("Metrics", "relay/status/prometheus.py", _parts())


def _parts() -> Iterator[str]:
    yield INTRO
    for subject, metrics in list_metrics(_nothing()).items():
        yield f"## {subject}"
        yield table(["metric", "type", "labels", "meaning", ""], map(_row, metrics))


def _row(metric: Metric) -> tuple[str, ...]:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    labels: tuple[str, ...] = vars(metric)["_labelnames"]  # the library has no other way to ask
    kept = "kept for ever" if metric.documentation.endswith(KEPT) else ""
    about = metric.documentation.removesuffix(KEPT)
    return code(name), metric.type, ", ".join(labels), about, kept


def _nothing() -> Status:
    """A status with nothing in it: the metrics alone matter."""
    journal = JournalStatus(
        oldest=0, head=0, size=0, needed=0, capacity=0, full_in=None, refusing=None, bytes=0, failed=0,
        syncs=Histogram(QUICK),
    )  # fmt: skip
    return Status(version="", now=0.0, started=0.0, cpu=0.0, memory=0, sources=(), lanes=(), journal=journal, parked=())
