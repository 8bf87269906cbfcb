"""Turns conf.d into one typed `Config`, or into every mistake at once, and finds the plugins it may use."""

from relay.config.address import Address, TcpAddress, UnixAddress
from relay.config.crosscheck import leaves
from relay.config.discovery import PLUGIN_FOLDERS
from relay.config.files import CONF_FOLDERS
from relay.config.load import Loaded, load
from relay.config.mistake import ConfigError, Mistake
from relay.config.model import (
    Config,
    Configured,
    ErasureSettings,
    IngestSettings,
    JournalSettings,
    LogSettings,
    ParkedSettings,
    RuntimeSettings,
)
from relay.config.private import HIDDEN
from relay.config.registry import PluginInfo, Registry
from relay.config.tls import TlsError, TlsSettings, server_context, worry

__all__ = [
    "CONF_FOLDERS",
    "HIDDEN",
    "PLUGIN_FOLDERS",
    "Address",
    "Config",
    "ConfigError",
    "Configured",
    "ErasureSettings",
    "IngestSettings",
    "JournalSettings",
    "Loaded",
    "LogSettings",
    "Mistake",
    "ParkedSettings",
    "PluginInfo",
    "Registry",
    "RuntimeSettings",
    "TcpAddress",
    "TlsError",
    "TlsSettings",
    "UnixAddress",
    "leaves",
    "load",
    "server_context",
    "worry",
]
