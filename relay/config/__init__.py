"""Turns conf.d into one typed `Config`, or into every mistake at once, and finds the plugins it may use."""

from relay.config.address import Address, TcpAddress, UnixAddress, shown, takes_ipv4
from relay.config.discovery import PLUGIN_FOLDERS
from relay.config.effective import Effective, effective
from relay.config.files import CONF_FOLDERS, Text
from relay.config.load import Loaded, load, load_again
from relay.config.make import (
    Failure,
    Made,
    NotMade,
    find_unmade,
    make_alerts,
    make_connectors,
    make_sources,
    mistakes_of,
)
from relay.config.merge import leaves
from relay.config.mistake import ConfigError, Mistake, dotted
from relay.config.model import (
    AdminSettings,
    Config,
    Configured,
    ErasureSettings,
    HistorySettings,
    IngestSettings,
    JournalSettings,
    LogSettings,
    MetricsSettings,
    ParkedSettings,
    RuntimeSettings,
)
from relay.config.private import HIDDEN
from relay.config.redaction import LOG, Redaction
from relay.config.registry import COMMANDS, PluginInfo, Registry
from relay.config.tls import TlsError, TlsSettings, expiry_warning, server_context

__all__ = [
    "COMMANDS",
    "CONF_FOLDERS",
    "HIDDEN",
    "LOG",
    "PLUGIN_FOLDERS",
    "Address",
    "AdminSettings",
    "Config",
    "ConfigError",
    "Configured",
    "Effective",
    "ErasureSettings",
    "Failure",
    "HistorySettings",
    "IngestSettings",
    "JournalSettings",
    "Loaded",
    "LogSettings",
    "Made",
    "MetricsSettings",
    "Mistake",
    "NotMade",
    "ParkedSettings",
    "PluginInfo",
    "Redaction",
    "Registry",
    "RuntimeSettings",
    "TcpAddress",
    "Text",
    "TlsError",
    "TlsSettings",
    "UnixAddress",
    "dotted",
    "effective",
    "expiry_warning",
    "find_unmade",
    "leaves",
    "load",
    "load_again",
    "make_alerts",
    "make_connectors",
    "make_sources",
    "mistakes_of",
    "server_context",
    "shown",
    "takes_ipv4",
]
