"""The filter types `redact`, `keep`, `drop` and `sample`. Each names a field by its dotted path."""

from relay_plugins.filters.condition import Drop, Keep
from relay_plugins.filters.redact import Redact
from relay_plugins.filters.sample import Sample

__all__ = ["Drop", "Keep", "Redact", "Sample"]
