"""Turns conf.d into one `Config`, or into all its mistakes at once."""

from relay.config.address import Address, TcpAddress, UnixAddress, format_address, parse_address, takes_ipv4
from relay.config.checks.crosscheck import match_entries, read_all_traits, read_shared_traits
from relay.config.checks.tables import NAME, RouteTest
from relay.config.console.folder import (
    CONF_FOLDERS,
    ConfFolders,
    find_changed_files,
    find_folders,
    find_written_folder,
    read_folders,
    read_stamps,
)
from relay.config.console.settings import ConsoleSettings, ConsoleUser
from relay.config.descriptions import read_descriptions, summarize, type_description
from relay.config.dsn import GivenDsn, read_words
from relay.config.effective import Effective
from relay.config.excerpt import HIDDEN, explain_plain_secret, hide_in_text, is_secret, show_value
from relay.config.files import (
    FILE_PREFIXES,
    MOST_BYTES,
    Document,
    Text,
    counts,
    find_event_file,
    is_file_name,
    name_file,
    parse_document,
    read_texts,
)
from relay.config.line_numbers import KeyPath
from relay.config.load import Loaded, load, load_again, load_console, load_journal
from relay.config.merge import Merged, is_reference, list_leaves
from relay.config.mistake import ConfigError, Mistake, format_path
from relay.config.model import (
    OWN_TABLES,
    AdminSettings,
    Config,
    Configured,
    ErasureSettings,
    IngestSettings,
    JournalSettings,
    LogSettings,
    MetricsSettings,
)
from relay.config.plugins.make import (
    Made,
    NotMade,
    find_unmade,
    make_alerts,
    make_connectors,
    make_filters,
    make_mistakes,
    make_sources,
)
from relay.config.plugins.registry import BROKEN, KINDS, PluginInfo, Registry, stamp_plugins
from relay.config.plugins.traits import read_traits
from relay.config.redaction import LOG, Redaction
from relay.config.schema import describe_settings, make_schema
from relay.config.shipped import find_shipped
from relay.config.tls import TlsError, TlsSettings, expiry_warning, make_server_context
from relay.plugin_places import PLUGIN_FOLDERS

__all__ = [
    "BROKEN",
    "CONF_FOLDERS",
    "FILE_PREFIXES",
    "HIDDEN",
    "KINDS",
    "LOG",
    "MOST_BYTES",
    "NAME",
    "OWN_TABLES",
    "PLUGIN_FOLDERS",
    "Address",
    "AdminSettings",
    "ConfFolders",
    "Config",
    "ConfigError",
    "Configured",
    "ConsoleSettings",
    "ConsoleUser",
    "Document",
    "Effective",
    "ErasureSettings",
    "GivenDsn",
    "IngestSettings",
    "JournalSettings",
    "KeyPath",
    "Loaded",
    "LogSettings",
    "Made",
    "Merged",
    "MetricsSettings",
    "Mistake",
    "NotMade",
    "PluginInfo",
    "Redaction",
    "Registry",
    "RouteTest",
    "TcpAddress",
    "Text",
    "TlsError",
    "TlsSettings",
    "UnixAddress",
    "counts",
    "describe_settings",
    "expiry_warning",
    "explain_plain_secret",
    "find_changed_files",
    "find_event_file",
    "find_folders",
    "find_shipped",
    "find_unmade",
    "find_written_folder",
    "format_address",
    "format_path",
    "hide_in_text",
    "is_file_name",
    "is_reference",
    "is_secret",
    "list_leaves",
    "load",
    "load_again",
    "load_console",
    "load_journal",
    "make_alerts",
    "make_connectors",
    "make_filters",
    "make_mistakes",
    "make_schema",
    "make_server_context",
    "make_sources",
    "match_entries",
    "name_file",
    "parse_address",
    "parse_document",
    "read_all_traits",
    "read_descriptions",
    "read_folders",
    "read_shared_traits",
    "read_stamps",
    "read_texts",
    "read_traits",
    "read_words",
    "show_value",
    "stamp_plugins",
    "summarize",
    "takes_ipv4",
    "type_description",
]
