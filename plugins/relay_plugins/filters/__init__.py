"""The filter types: which events a connector gets, and what is in them. Each names a field by its dotted path."""

from relay_plugins.filters.condition import Drop, Keep
from relay_plugins.filters.lookup import Lookup
from relay_plugins.filters.redact import Hash, Redact
from relay_plugins.filters.reshape import Only, Rename, Set
from relay_plugins.filters.sample import Sample

__all__ = ["Drop", "Hash", "Keep", "Lookup", "Only", "Redact", "Rename", "Sample", "Set"]
