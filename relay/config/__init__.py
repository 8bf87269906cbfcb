"""Turns conf.d into one `Config`, or into every mistake at once."""

from relay.config.address import Address, TcpAddress, UnixAddress, shown, takes_ipv4
from relay.config.crosscheck import traits_by_name, unmatched
from relay.config.descriptions import descriptions, summary, type_description
from relay.config.effective import Effective, effective
from relay.config.excerpt import HIDDEN
from relay.config.files import CONF_FOLDERS, Text, changed_files, file_stamps
from relay.config.line_numbers import KeyPath
from relay.config.load import NAME, Loaded, load, load_again
from relay.config.merge import leaves
from relay.config.mistake import ConfigError, Mistake, dotted
from relay.config.model import (
    OWN_TABLES,
    AdminSettings,
    Config,
    Configured,
    ErasureSettings,
    IngestSettings,
    LogSettings,
    MetricsSettings,
)
from relay.config.plugins.discovery import PLUGIN_FOLDERS
from relay.config.plugins.make import (
    Made,
    NotMade,
    find_unmade,
    make_alerts,
    make_connectors,
    make_sources,
    mistakes_of,
)
from relay.config.plugins.registry import PluginInfo, Registry
from relay.config.plugins.traits import traits_of
from relay.config.redaction import LOG, Redaction
from relay.config.schema import schema
from relay.config.shipped import shipped
from relay.config.tls import TlsError, TlsSettings, expiry_warning, server_context

__all__ = [
    "CONF_FOLDERS",
    "HIDDEN",
    "LOG",
    "NAME",
    "OWN_TABLES",
    "PLUGIN_FOLDERS",
    "Address",
    "AdminSettings",
    "Config",
    "ConfigError",
    "Configured",
    "Effective",
    "ErasureSettings",
    "IngestSettings",
    "KeyPath",
    "Loaded",
    "LogSettings",
    "Made",
    "MetricsSettings",
    "Mistake",
    "NotMade",
    "PluginInfo",
    "Redaction",
    "Registry",
    "TcpAddress",
    "Text",
    "TlsError",
    "TlsSettings",
    "UnixAddress",
    "changed_files",
    "descriptions",
    "dotted",
    "effective",
    "expiry_warning",
    "file_stamps",
    "find_unmade",
    "leaves",
    "load",
    "load_again",
    "make_alerts",
    "make_connectors",
    "make_sources",
    "mistakes_of",
    "schema",
    "server_context",
    "shipped",
    "shown",
    "summary",
    "takes_ipv4",
    "traits_by_name",
    "traits_of",
    "type_description",
    "unmatched",
]
