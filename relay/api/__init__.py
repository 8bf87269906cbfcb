"""Everything a plugin may import. What is not exported here is not part of the API."""

import warnings
from typing import TYPE_CHECKING, Final

from relay.api.alert import Alarm, Alert, AlertSettings, Message
from relay.api.authentication import check_hmac, check_secret, signed_headers, signing_key
from relay.api.batch import Batch, Block
from relay.api.connector import BatchSettings, Connector, ConnectorSettings, RetrySettings
from relay.api.currents import StorageField, find_known_paths, find_personal_fields, find_storage_fields
from relay.api.event import ERASED, REDACTED, Event, Kind, UnreadableEvent, read_time
from relay.api.filter import Filter, FilterSettings
from relay.api.hooks import hookimpl, hookspec
from relay.api.json_parts import (
    LARGE,
    UNREADABLE,
    Walk,
    is_dense,
    is_utf8,
    value_in,
    why_unreadable,
    without_surrogates,
)
from relay.api.outcome import (
    DELIVERED,
    Delivered,
    Outcome,
    Reject,
    Retry,
    Skipped,
    Unauthorized,
)
from relay.api.plugin import Plugin, PluginMetrics, require_library
from relay.api.request import Denied, Malformed, Request, Response
from relay.api.secret import BearerToken, HeaderSecret, Secret
from relay.api.settings import ByteSize, Contradiction, Duration, EventSelection, HttpUrl, Settings, UrlPath, load_zstd
from relay.api.source import Decoded, Entries, Source, SourceSettings, Unreadable, read_entries
from relay.api.store import (
    AdminTable,
    KeyValueStore,
    StoreError,
    StoreReader,
    Stores,
    TableColumn,
    TableQuery,
    TableRow,
    find_stores,
)
from relay.api.transport.answer import Answered, check, retry_after
from relay.api.transport.framing_headers import check_headers
from relay.api.transport.plain_file import read_plain
from relay.api.transport.route import CertificateSettings, HttpAlertSettings, HttpConnectorSettings
from relay.api.user import OtherId, User

__all__ = [
    "DELIVERED",
    "ERASED",
    "LARGE",
    "REDACTED",
    "UNREADABLE",
    "AdminTable",
    "Alarm",
    "Alert",
    "AlertSettings",
    "Answered",
    "Batch",
    "BatchSettings",
    "BearerToken",
    "Block",
    "ByteSize",
    "CertificateSettings",
    "Connector",
    "ConnectorSettings",
    "Contradiction",
    "Decoded",
    "Delivered",
    "Denied",
    "Duration",
    "Entries",
    "Event",
    "EventSelection",
    "Filter",
    "FilterSettings",
    "HeaderSecret",
    "HttpAlertSettings",
    "HttpConnectorSettings",
    "HttpUrl",
    "KeyValueStore",
    "Kind",
    "Malformed",
    "Message",
    "OtherId",
    "Outcome",
    "Plugin",
    "PluginMetrics",
    "Reject",
    "Request",
    "Response",
    "Retry",
    "RetrySettings",
    "Secret",
    "Settings",
    "Skipped",
    "Source",
    "SourceSettings",
    "StorageField",
    "StoreError",
    "StoreReader",
    "Stores",
    "TableColumn",
    "TableQuery",
    "TableRow",
    "Unauthorized",
    "Unreadable",
    "UnreadableEvent",
    "UrlPath",
    "User",
    "Walk",
    "check",
    "check_headers",
    "check_hmac",
    "check_secret",
    "find_known_paths",
    "find_personal_fields",
    "find_storage_fields",
    "find_stores",
    "hookimpl",
    "hookspec",
    "is_dense",
    "is_utf8",
    "load_zstd",
    "read_entries",
    "read_plain",
    "read_time",
    "require_library",
    "retry_after",
    "signed_headers",
    "signing_key",
    "value_in",
    "why_unreadable",
    "without_surrogates",
]

GOING: Final[dict[str, tuple[object, str]]] = {}
"""Names that go with the next version of relay: what each still stands for, and what to use instead."""

if not TYPE_CHECKING:  # a type checker would take any name for one of the API

    def __getattr__(name: str) -> object:
        """Return what a name stands for that goes with the next version, and warn of it."""
        if name not in GOING:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        thing, instead = GOING[name]
        warnings.warn(f"{__name__}.{name} goes with the next version of relay: {instead}", FutureWarning, stacklevel=2)
        return thing
