"""The daemon's own settings tables, and `Config`: everything that conf.d says, checked."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import gethostname
from typing import ClassVar, Final, Generic, Literal, TypeVar, get_type_hints

from pydantic import Field, field_validator

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
    load_zstd,
)
from relay.api.internal import SECRET_FORMS, NetworkList, Networks, write_size
from relay.catalogue import drop_opt_in
from relay.config.address import Listen, ListenIfAny, TcpAddress, UnixAddress
from relay.config.console.folder import ConfFolders
from relay.config.console.settings import ConsoleSettings
from relay.config.dsn import Dsn, load_driver
from relay.config.effective import Effective
from relay.config.files import Text
from relay.config.tls import TlsSettings

MIB: Final = 1 << 20
GIB: Final = 1 << 30
DAY_SECONDS: Final = 86400.0
SMALLEST: Final = 16 * MIB
"""Bytes that `max_size` gives each journal, or each partition of a journal, at least."""
NOT_IN_POSTGRES: Final[Mapping[str, str]] = {
    "path": "the events are in the database that dsn and schema name; leave path out",
    "min_free": "max_size limits the journal; leave min_free out, and watch the disk of the database server",
}
"""The settings of [journal] that only the embedded backend has, with what to do instead."""
POSTGRES_ONLY: Final = ("dsn", "schema_name", "node", "partitions", "lease")
FOR_POSTGRES: Final = 'set backend = "postgres", or leave it out'


class IngestSettings(Settings):
    """The HTTP listeners to which senders post events."""

    listen: Listen = (TcpAddress("127.0.0.1", 8080),)
    """Address to which senders post, such as `"127.0.0.1:8080"`, `"[::1]:8080"` or `"unix:/run/relay/ingest.sock"`, or
    a list of addresses. Without `tls`, put a proxy with TLS in front, and let only the proxy reach this address.

    `"[::]:8080"` accepts IPv4 as well, unless another address has that port. `ingest`, `admin` and `metrics` cannot
    share an address.
    """
    tls: TlsSettings | None = None
    """HTTPS on the TCP addresses. relay uses renewed files within a minute, without a restart."""
    trusted_proxies: NetworkList = Networks()
    """Proxies whose X-Forwarded-For header is trusted: networks such as `["10.0.0.0/8"]`, or `"unix"` for unix sockets.
    Behind a proxy, the setting `allow` of a source needs them.

    The sender is the last address in the header that is no trusted proxy. Without trusted proxies relay ignores the
    header.
    """
    max_body: ByteSize = Field(8 * MIB, ge=1)
    """Maximum size of a request body, before and after decompression. relay answers 413 to a larger body.

    relay also answers 413 to a body of more than half of `journal.max_size`.
    """
    max_in_flight: ByteSize = Field(64 * MIB, ge=1)
    """Memory for all request bodies at a time. When it is used up, senders get 503 and send again later.

    relay also counts 150 bytes for each event, and the events that a source of type `heap_segments` makes of a body.
    relay answers 413 to a single body that needs more than `max_in_flight`. `max_in_flight` must be at least
    `max_body`.
    """
    max_connections: int = Field(1000, ge=1)
    """Maximum number of connections at a time, in each worker. Connections without a request make room for new
    connections.

    relay first closes the connection that has waited longest for a request. If every connection has a request under
    way, relay answers 503 with Retry-After to a new connection. Over TLS relay closes the new connection.
    """
    read_timeout: Duration = Field(30.0, gt=0)
    """Time that a sender has to send the headers of a request, and again to send its body. After that relay answers
    408."""
    idle_timeout: Duration = Field(660.0, gt=0)
    """Time that a connection stays open between two requests. It must be longer than the idle timeout of the load
    balancer in front."""

    def contradictions(self) -> Iterator[Contradiction]:
        """A body fits."""
        if self.max_body > self.max_in_flight:
            reason = "max_in_flight must be at least max_body, or no large body could ever be taken"
            yield "max_body max_in_flight", reason


class JournalSettings(Settings):
    """The durable log of all events, on disk or in PostgreSQL."""

    backend: Literal["embedded", "postgres"] = "embedded"
    """Where events and state are. `"embedded"`: on the disk of this machine. `"postgres"`: in a PostgreSQL database, 14
    or newer, which several relays share. It needs the package `currents-relay[postgres]`, and `dsn`.

    A change of `backend`, `path`, `dsn`, `schema`, `node`, `partitions` or `lease` takes a restart.
    """
    path: Path = Path("journal")
    """Folder of the embedded journal. A relative path starts at the state folder (/var/lib/relay)."""
    dsn: Dsn | None = None
    """The PostgreSQL database, as a reference to a secret: `{ credential = "relay-dsn" }`. The secret has the words of
    libpq, such as `host=db1,db2 dbname=relay user=relay target_session_attrs=read-write sslmode=verify-full
    sslrootcert=/etc/relay/db-ca.pem`."""
    schema_name: str = Field("relay", alias="schema", pattern="^[a-z_][a-z0-9_]*$", max_length=63)
    """Schema of relay's tables in the PostgreSQL database. All relays of one schema are one cluster. `relay journal
    init` makes it."""
    node: str = Field("", max_length=100)
    """Name of this relay among those that share the PostgreSQL database. Empty: the name of the host. relay does not
    start while another relay runs with the same name."""
    partitions: int = Field(4, ge=1, le=256)
    """Parts of the journal in PostgreSQL, which the processes of all relays share. The number may grow, and never
    shrinks. A process beyond it takes events in and delivers none."""
    lease: Duration = Field(10.0, ge=3, le=300)
    """Time after which another process takes over the partitions of a process that died, hangs, or cannot reach the
    PostgreSQL database."""
    max_size: ByteSize = Field(10 * GIB, ge=SMALLEST)
    """Disk space for the journal, in each worker. In PostgreSQL: of all partitions together. When the journal needs
    more, `on_full` says what happens."""
    min_free: ByteSize = 256 * MIB
    """Free space that the embedded journal and parked events leave on their file systems. 0: no minimum.

    The database `relay.db` needs some of this space. While less is free, connectors wait instead of parking events.
    While less than twice as much is free, relay removes the oldest unreadable events.
    """
    on_full: Literal["refuse", "expire_oldest"] = "refuse"
    """What happens when there is no more room and every event is still needed. `"refuse"`: senders get 503 and keep
    their events. `"expire_oldest"`: relay removes the oldest events, delivered or not.

    relay removes settled events first, the oldest first, whatever `retention` says. If a connector still needed a
    removed event, the event counts as expired.
    """
    retention: Duration = 7 * DAY_SECONDS
    """Time that settled events stay in the journal for replays, within `max_size`."""
    memory: ByteSize = 64 * MIB
    """Memory for recent events. A connector that keeps up never reads from disk."""
    compress: Literal["none", "zstd"] = "none"
    """Compression of new events on disk. `"zstd"` makes events three to nine times smaller, and needs the package
    `currents-relay[zstd]`.

    A change takes effect for new events at the reload. relay reads events of either form. An earlier relay, which does
    not know compression, does not start with compressed events. Compression costs some CPU under load.
    """

    PLACE: ClassVar = ("backend", "path", *POSTGRES_ONLY)
    """The fields that say where the journal is, and who shares it. A change takes a restart."""

    @classmethod
    def read(cls, text: str) -> "JournalSettings":
        """Parse what `write` wrote. Reads the secret where it is now."""
        return cls.model_validate_json(text)

    def write(self) -> str:
        """Return the settings as JSON for another process of this relay. A secret stays a reference."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)

    def take_place(self, other: "JournalSettings") -> "JournalSettings":
        """Return these settings at the place of others."""
        return self.model_copy(update={name: getattr(other, name) for name in self.PLACE})

    @property
    def node_name(self) -> str:
        """The name of this relay among those that share the database."""
        return self.node or gethostname()

    @field_validator("compress")
    @classmethod
    def _check_compress(cls, compress: str) -> str:
        if compress == "zstd":
            load_zstd()
        return compress

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, backend: str) -> str:
        if backend == "postgres":
            load_driver()
        return backend

    def contradictions(self) -> Iterator[Contradiction]:
        """Yield settings of the other backend, and a missing `dsn`."""
        others = NOT_IN_POSTGRES if self.backend == "postgres" else dict.fromkeys(POSTGRES_ONLY, FOR_POSTGRES)
        for name, reason in others.items():
            if name in self.model_fields_set:
                written = type(self).model_fields[name].alias or name
                yield f"{written} backend", f'{written} means nothing with backend = "{self.backend}": {reason}'
        if self.backend == "postgres" and self.max_size < (least := self.partitions * SMALLEST):
            yield "max_size partitions", f"max_size must be at least 16MiB for each partition: {write_size(least)}"
        if self.backend == "postgres" and self.dsn is None:
            yield "backend dsn", f'backend = "postgres" needs dsn, a reference to a secret: {SECRET_FORMS}'


class ParkedSettings(Settings):
    """Parked events (dead letters): events that a source could not read or a connector could not deliver."""

    retention: Duration = 90 * DAY_SECONDS
    """Time that an event stays parked after its last failure. 0: until somebody drops it."""
    max_size: ByteSize = GIB
    """Disk space for parked events in the database, in each worker. In PostgreSQL: of all partitions together. When it
    is used up, relay removes the oldest parked events, unreadable events first. 0: no limit."""


class ErasureSettings(Settings):
    """Erasure: removal of a user's events on request."""

    on: tuple[str, ...] = ()
    """Event types that request an erasure of their user, such as `["users.UserDeleteRequest"]`. The command `relay
    erasures request` requests an erasure by hand.

    `"users.UserOrphan"` is another such type: Braze has merged the profile into another profile.
    """
    after: Duration = 3600.0
    """Time from the request to the erasure. relay still delivers events under way in this time, the request
    included."""
    identities: bool = False
    """Whether relay keeps the external ids of users by user id, from all events that pass. A delete request of Braze
    has the user id alone."""


class RuntimeSettings(Settings):
    """The process: its name, its workers and its stop."""

    name: str = Field("relay", min_length=1, max_length=100)
    """Name of this relay in alerts."""
    workers: int = Field(1, ge=1, le=64)
    """Processes that share the work, each with a journal of its own. A connector that keeps an order or a rate, or
    writes to one file, runs in the first worker alone.

    With a journal in PostgreSQL the workers of all relays share its partitions. A connector that keeps an order runs in
    the first partition alone. Every partition has its part of a `rate`.
    """
    drain: Duration = 10.0
    """Time that a stop has to finish deliveries. relay delivers the remaining events after the next start.

    The time runs from the signal to the end of all processes, and is at least one second. Deliveries under way get all
    of this time but 2 seconds, and at least half of it. Connectors, listeners, journal and database close in the rest.
    relay waits no longer for anything that hangs.
    """


class AdminSettings(Settings):
    """The admin API. It is always on the unix socket of the state folder."""

    listen: ListenIfAny = ()
    """Loopback addresses for the admin API, such as `"127.0.0.1:8081"`, beside the unix socket. These addresses need
    `tokens`."""
    tokens: tuple[BearerToken, ...] = ()
    """Bearer tokens for the loopback addresses, as references to secrets: `[{ credential = "admin-token" }]`. Each
    token is accepted. The unix socket needs no token."""
    group: str = ""
    """Group of this machine whose members may use the unix socket, such as `"relay-ops"`. Without a group, only root
    and relay's own user may use the socket."""

    def contradictions(self) -> Iterator[Contradiction]:
        """It is not open."""
        outside = [one for one in self.listen if isinstance(one, UnixAddress) or not one.is_loopback]
        for address in outside:
            yield "listen", f"listen: {address} is no loopback address: who may reach it could stop deliveries"
        if self.listen and not (self.tokens or outside):
            yield "listen tokens", "listen: every user of this machine could reach it: set tokens"


class MetricsSettings(Settings):
    """Listeners for Prometheus without a token, beside the metrics of the admin API."""

    listen: ListenIfAny = ()
    """Addresses that answer `GET /metrics` and nothing else, such as `"127.0.0.1:9464"`."""


class LogSettings(Settings):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of messages in the log."""
    format: Literal["auto", "json", "console"] = "auto"
    """Format of the log. `"auto"` is console on a terminal, and JSON elsewhere."""


class HistorySettings(Settings):
    """The history: what happened, when, and who did it. `relay history` shows the entries."""

    keep: Duration = 400 * DAY_SECONDS
    """Time that an entry of the history stays. 0: until there are more than `max_entries`."""
    max_entries: int = Field(10_000, ge=100)
    """Maximum number of entries in the history. When there are more, relay removes the oldest."""


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

    # by model_construct: pydantic would build a validator for each table to check its defaults
    ingest: IngestSettings = field(default_factory=IngestSettings.model_construct)
    journal: JournalSettings = field(default_factory=JournalSettings.model_construct)
    parked: ParkedSettings = field(default_factory=ParkedSettings.model_construct)
    erasure: ErasureSettings = field(default_factory=ErasureSettings.model_construct)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings.model_construct)
    admin: AdminSettings = field(default_factory=AdminSettings.model_construct)
    metrics: MetricsSettings = field(default_factory=MetricsSettings.model_construct)
    log: LogSettings = field(default_factory=LogSettings.model_construct)
    history: HistorySettings = field(default_factory=HistorySettings.model_construct)
    console: ConsoleSettings = field(default_factory=ConsoleSettings.model_construct)
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
    digests: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """A digest of each table as the files have it, by names such as "journal" and "connector.heap"."""
    folders: ConfFolders = field(default=ConfFolders(()), compare=False, repr=False)
    """Where these files lie; nowhere if they were not read from there."""

    plugins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """`Registry.fingerprints` of the plugins that this process has loaded."""
    plugin_folders: Sequence[Path] = field(default=(), compare=False, repr=False)
    """The folders of drop-in plugins."""
    list_effective: Callable[[], Iterable["Effective"]] = field(default=tuple, compare=False, repr=False)
    """Lists every setting with its place. Takes milliseconds: the event loop calls it in a thread."""
    written: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where the daemon's own settings are written, as "00-relay.toml:2" by "ingest.listen"; defaults are not there."""

    @property
    def kept_for(self) -> list[str]:
        """The connectors for which the journal keeps the events that they still need, come what may."""
        return [] if self.journal.on_full == "expire_oldest" else sorted(self.connectors)

    def get_connector(self, name: str) -> ConnectorSettings:
        """The settings of a connector. Raises LookupError."""
        if name not in self.connectors:
            known = ", ".join(sorted(self.connectors)) or "none"
            raise LookupError(f"no connector {name} is configured; there are: {known}")
        return self.connectors[name].settings

    def list_entries(self, name: str) -> tuple[str, ...]:
        """What a connector selects: its `events`, without what `*` does not ask for. Raises LookupError."""
        return drop_opt_in(self.get_connector(name).events, self.connectors[name].plugin.accepted_types)


OWN_TABLES: Final[Mapping[str, type[Settings]]] = {
    name: made for name, made in get_type_hints(Config).items() if isinstance(made, type) and issubclass(made, Settings)
}
"""The daemon's own tables, each with its settings."""
