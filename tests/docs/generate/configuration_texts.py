"""What the page of settings says around them, and where to read on."""

from collections.abc import Mapping
from typing import Final

INTRO: Final = """
This page describes every setting of the files in `conf.d`: what it does, what may be written, and its default.
[Configuration](../guide/configuration.md) says how relay finds and merges the files.

```sh
relay check                      # every mistake in the files, with its line
relay config show --origin       # the value of every setting, and where it is written
relay config schema              # a JSON Schema, with which an editor completes and checks
```

- A **duration** is a text with a unit: `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`, `"2w"`. At most `"36500d"`.
- A **size** is a text with a unit: `"64KiB"`, `"8MiB"`, `"10GB"`. At most `"8388607TiB"`.
- 0 needs no unit.
- A **reference to a secret** is `{ credential = "NAME" }`, `{ file = "/PATH" }` or `{ env = "NAME" }`. See
  [secrets](../guide/secrets.md).
- A **rate** is 0, or from 0.000001 to 1,000,000,000 events per second.
"""

KIND_INTROS: Final[Mapping[str, str]] = {
    "source": "A source takes events over HTTP. Each source has a table with a name of your choice.",
    "connector": "A connector delivers events to a destination. Each connector has a table with a name of your choice.",
    "filter": "A filter changes or drops events. A connector names its filters in `filters`.",
    "alert": "An alert tells people of trouble. Each alert has a table with a name of your choice.",
}

HTTP_INTRO: Final = """
These settings say how relay reaches a destination over HTTP. The connectors `heap`, `http`, `segment` and
`braze_cohorts` have them, and the alerts `webhook` and `slack`. So have plugins with `HttpConnectorSettings` or
`HttpAlertSettings`.
"""

READ_ON: Final[Mapping[str, Mapping[str, str]]] = {
    "ingest": {"TLS, senders and connections": "../guide/tls-and-allow.md", "sources": "../guide/sources.md"},
    "ingesttls": {"TLS, senders and connections": "../guide/tls-and-allow.md"},
    "journal": {
        "the journal on disk": "../explain/journal-format.md",
        "the journal in PostgreSQL": "../guide/cluster.md",
        "troubleshooting": "../guide/troubleshooting.md",
    },
    "parked": {"parked events": "../guide/parked.md"},
    "erasure": {"erasure": "../guide/erasure.md"},
    "runtime": {"workers": "../guide/workers.md", "installation": "../guide/install.md"},
    "admin": {"monitoring": "../guide/monitoring.md", "the admin API": "admin-api.md"},
    "metrics": {"monitoring": "../guide/monitoring.md", "metrics": "metrics.md"},
    "log": {"log messages": "log-messages.md"},
    "history": {"history": "../guide/history.md"},
    "console": {"the console's folder": "../guide/configuration.md#console-folder", "secrets": "../guide/secrets.md"},
    "every-source": {"sources": "../guide/sources.md", "who may send": "../guide/tls-and-allow.md"},
    "source-heap_segments": {"cohorts": "../guide/cohorts.md"},
    "every-connector": {
        "selection and filters": "../guide/selection-and-filters.md",
        "batches and order": "../guide/batches-and-order.md",
        "destinations": "../guide/destinations.md",
        "event types": "event-types.md",
    },
    "http-connectors": {"destinations": "../guide/destinations.md"},
    "connector-heap": {"Heap": "../guide/heap.md"},
    "connector-http": {"HTTP": "../guide/http.md"},
    "connector-file": {"files": "../guide/files.md"},
    "connector-kafka": {"Kafka": "../guide/kafka.md"},
    "connector-postgres": {"PostgreSQL": "../guide/postgres.md"},
    "connector-s3": {"object storage": "../guide/s3.md"},
    "connector-segment": {"Segment": "../guide/segment.md"},
    "connector-stdout": {"files": "../guide/files.md"},
    "connector-braze_cohorts": {"cohorts": "../guide/cohorts.md"},
    "every-filter": {"selection and filters": "../guide/selection-and-filters.md"},
    "every-alert": {"alerts": "../guide/alerts.md"},
}
"""Pages that belong to a section of the page, by the anchor of the section."""
