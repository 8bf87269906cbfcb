"""The daemon's own settings tables, and `Config`: everything that conf.d says, checked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar, get_type_hints

from pydantic import Field

from relay.api import (
    Alert,
    AlertSettings,
    BearerToken,
    ByteSize,
    Connector,
    ConnectorSettings,
    Contradiction,
    Duration,
    Filter,
    FilterSettings,
    Plugin,
    Settings,
    Source,
    SourceSettings,
)
from relay.api.network import NetworkList, Networks
from relay.catalogue import without_opt_in
from relay.config.address import Listen, ListenIfAny, TcpAddress, UnixAddress
from relay.config.files import Text
from relay.config.tls import TlsSettings

MIB: Final = 1 << 20
GIB: Final = 1 << 30
DAY_SECONDS: Final = 86400.0


class IngestSettings(Settings):
    """[ingest]: HTTP in."""

    listen: Listen = (TcpAddress("127.0.0.1", 8080),)
    """One address or a list: "host:port", "[v6]:port", "unix:/path"."""
    tls: TlsSettings | None = None
    """HTTPS on the TCP addresses; None: plain HTTP."""
    trusted_proxies: NetworkList = Networks()
    """Who says in X-Forwarded-For where a request comes from."""
    max_body: ByteSize = Field(8 * MIB, ge=1)
    """Bytes of a request body after decompression; 413 beyond."""
    max_in_flight: ByteSize = Field(64 * MIB, ge=1)
    """Bytes of request bodies held in memory at a time; 503 beyond."""
    max_connections: int = Field(1000, ge=1)
    """Connections open at a time, in each worker; those that wait for a request make room for new ones."""
    read_timeout: Duration = Field(30.0, gt=0)
    """Seconds a sender may take to send the headers of a request, and again to send its body."""
    idle_timeout: Duration = Field(660.0, gt=0)
    """Seconds that a connection stays open between two requests; load balancers want it longer than their own."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A body fits."""
        if self.max_body > self.max_in_flight:
            reason = "max_in_flight must be at least max_body, or no large body could ever be taken"
            yield "max_body max_in_flight", reason


class JournalSettings(Settings):
    """[journal]: the durable log."""

    path: Path = Path("journal")
    """The journal's folder; a relative path starts at the state folder."""
    max_size: ByteSize = Field(10 * GIB, ge=16 * MIB)
    """Bytes on disk; when they are used up, `on_full` says what happens."""
    min_free: ByteSize = 256 * MIB
    """Bytes of the file system that journal and parked events leave to others; 0: they do not look."""
    on_full: Literal["refuse", "expire_oldest"] = "refuse"
    """When space is lacking and all is still needed: senders get 503 and Retry-After, or the oldest events go."""
    retention: Duration = 7 * DAY_SECONDS
    """Seconds that settled events stay replayable, within `max_size`."""
    memory: ByteSize = 64 * MIB
    """Bytes of recent events kept in memory, so that lanes need not read them from disk."""


class ParkedSettings(Settings):
    """[parked]: events that were put aside."""

    retention: Duration = 90 * DAY_SECONDS
    """Seconds after its last failure that an event stays parked; 0: until somebody drops it."""
    max_size: ByteSize = GIB
    """Bytes of parked events in each worker's database; beyond, the oldest go, unreadable ones first; 0: no limit."""


class ErasureSettings(Settings):
    """[erasure]: users' events that are removed on request."""

    on: tuple[str, ...] = ()
    """Types of events that ask for it, for the user they are about."""
    after: Duration = 3600.0
    """Seconds from the request until the user's events are removed."""
    identities: bool = False
    """Whether the external ids of users are kept, by user id, from all events that pass."""


class RuntimeSettings(Settings):
    """[runtime]: start, reload, stop."""

    name: str = Field("relay", min_length=1, max_length=100)
    """What alerts call this relay."""
    workers: int = Field(1, ge=1, le=64)
    """Processes that share the work, each with a journal of its own."""
    drain: Duration = 10.0
    """Seconds a stop may take to finish the deliveries under way; what is left is delivered after the next start."""


class AdminSettings(Settings):
    """[admin]: the admin API beside its unix socket."""

    listen: ListenIfAny = ()
    """Loopback addresses, for tools that cannot use a unix socket."""
    tokens: tuple[BearerToken, ...] = ()
    """Bearer tokens for these addresses, any of which is accepted; the unix socket needs none."""
    group: str = ""
    """A group of this machine whose members may use the unix socket, beside relay's user and root."""

    def contradictions(self) -> Iterator[Contradiction]:
        """It is not open."""
        outside = [one for one in self.listen if isinstance(one, UnixAddress) or not one.is_loopback]
        for address in outside:
            yield "listen", f"listen: {address} is no loopback address: who may reach it could stop deliveries"
        if self.listen and not (self.tokens or outside):
            yield "listen tokens", "listen: every user of this machine could reach it: set tokens"


class MetricsSettings(Settings):
    """[metrics]: a listener of its own for Prometheus."""

    listen: ListenIfAny = ()
    """Where GET /metrics is answered without a token, and nothing else."""


class LogSettings(Settings):
    """[log]: what goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """`auto` is console on a terminal and json elsewhere."""


class HistorySettings(Settings):
    """[history]: what happened, when, and by whom."""

    keep: Duration = 400 * DAY_SECONDS
    """Seconds that an entry stays; 0: until there are too many."""
    max_entries: int = Field(10_000, ge=100)
    """Beyond it the oldest go."""


P = TypeVar("P", bound=Plugin)
S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Configured(Generic[P, S]):
    """A named table of conf.d: the plugin class it asks for and the settings to make one with."""

    name: str
    plugin: type[P]
    settings: S
    file: str = field(default="", compare=False)
    """The file of conf.d that opens the table; moving it elsewhere changes nothing."""
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole, valid configuration. Sources, connectors and alerts with `enabled = false` are not in it."""

    ingest: IngestSettings = field(default_factory=IngestSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    parked: ParkedSettings = field(default_factory=ParkedSettings)
    erasure: ErasureSettings = field(default_factory=ErasureSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    sources: Mapping[str, Configured[Source, SourceSettings]] = field(default_factory=dict)
    connectors: Mapping[str, Configured[Connector, ConnectorSettings]] = field(default_factory=dict)
    filters: Mapping[str, Configured[Filter, FilterSettings]] = field(default_factory=dict)
    alerts: Mapping[str, Configured[Alert, AlertSettings]] = field(default_factory=dict)
    disabled: Sequence[str] = ()
    """Tables that are switched off, such as "connector.heap"."""
    stale_plugins: Sequence[str] = ()
    """Those whose files are not any more what this process has loaded, and why these cannot be used, if so."""
    texts: Sequence[Text] = field(default=(), compare=False, repr=False)
    """What the files said that it was loaded from."""
    folders: Sequence[Path] = field(default=(), compare=False, repr=False)
    """Where these files lie; none if they were not read from there."""

    written: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where the daemon's own settings are written, as "00-relay.toml:2" by "ingest.listen"; defaults are not there."""

    @property
    def kept_for(self) -> list[str]:
        """The connectors for which the journal keeps the events that they still need, come what may."""
        return [] if self.journal.on_full == "expire_oldest" else sorted(self.connectors)

    def connector(self, name: str) -> ConnectorSettings:
        """The settings of a connector. Raises LookupError."""
        if name not in self.connectors:
            known = ", ".join(sorted(self.connectors)) or "none"
            raise LookupError(f"no connector {name} is configured; there are: {known}")
        return self.connectors[name].settings

    def entries(self, name: str) -> tuple[str, ...]:
        """What a connector selects: its `events`, without what `*` does not ask for. Raises LookupError."""
        return without_opt_in(self.connector(name).events, self.connectors[name].plugin.takes)


OWN_TABLES: Final[Mapping[str, type[Settings]]] = {
    name: made for name, made in get_type_hints(Config).items() if isinstance(made, type) and issubclass(made, Settings)
}
"""The daemon's own tables, each with its settings."""
