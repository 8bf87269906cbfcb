"""What is measured: which connectors relay has, and what it is sent."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from console import CONSOLE
from references import NGINX

import relay.catalogue
from relay.config.model import RuntimeSettings
from relay.sandbox.shapes import list_types

HALF: Final = list(list_types())[::2]
CONNECTIONS: Final = 64
ENTRIES: Final = 1000
MANY: Final = 50
API_EVENTS: Final = 8_000
"""Below Heap's limit of 15,000 a minute with the warm-up, in which each connection sends a request at least."""
HAS_WORKERS: Final = "workers" in RuntimeSettings.model_fields


def http(name: str, more: str = "") -> str:
    """A connector of type http; PORT stands for the destination's port."""
    return f'[connector.{name}]\ntype = "http"\nurl = "http://127.0.0.1:PORT/{name}"\n{more}\n'


MAIN: Final = http("main")
BESIDE: Final = http("beside")
FEW: Final = f"events = {HALF}".replace("'", '"')
REDACT: Final = '[filter.no_user]\ntype = "redact"\nfields = ["user.user_id"]\n'
KNOWN_TYPES: Final = Path(relay.catalogue.__file__).with_name("types.csv")
RESHAPE: Final = {
    "keep": 'field = "user.user_id"\nregex = "^[0-9a-f]"\n',
    "only": 'fields = ["user", "properties.campaign_id"]\n',
    "rename": 'fields = { "user.user_id" = "user.braze_id" }\n',
    "set": 'values = { "user.region" = "eu" }\n',
    "hash": 'fields = ["user.user_id"]\nsecret = { env = "PATH" }\n',
    "lookup": f'file = "{KNOWN_TYPES}"\nkey = "event_type"\nfields = {{ "user.group" = "group" }}\n',
}
"""The settings of each further kind of filter."""
FOR_EVERY_EVENT: Final = ("keep", "only", "set", "lookup")
"""The kinds that change every event here, or read it. The others change the events with a user id."""
API: Final = """
[connector.main]
type = "heap"
mode = "api"
app_id = "1"
endpoint = "http://127.0.0.1:PORT"
identity = "user_id"
without_identity = "skip"
rate = 0
"""
S3: Final = """
[connector.main]
type = "s3"
bucket = "lake"
endpoint = "http://127.0.0.1:PORT"
access_key = { env = "BENCHMARK_TOKEN" }
secret_key = { env = "BENCHMARK_TOKEN" }
batch = { age = "1s" }
"""
"""The destination takes objects as a store does, and does not look into them."""
POSTGRES: Final = """
[connector.main]
type = "postgres"
dsn = { env = "BENCHMARK_DSN" }
"""
FILE: Final = '[connector.archive]\ntype = "file"\npath = "archive/{date}.ndjson"\n'
IDLE: Final = "".join(http(f"idle_{number}", 'events = ["of.no.event"]') for number in range(1, MANY))
MANY_ENTRIES: Final = [f"users.invented.Type{number}" for number in range(ENTRIES - 1)] + ["*"]
PLENTY: Final = '[journal]\nmax_size = "1TB"\n'
COMPRESSED: Final = '[journal]\ncompress = "zstd"\n'


def make_filter(kind: str) -> str:
    """A filter of this kind."""
    return f'[filter.{kind}]\ntype = "{kind}"\n{RESHAPE[kind]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One situation to measure in."""

    name: str
    batch: int
    connections: int = CONNECTIONS
    rate: int = 0
    """Events per second that are sent; 0: as many as go."""
    reference: str = ""
    """Without relay: the sender into this one of REFERENCES."""
    bare: bool = False
    """Without relay: the sender straight into the destination."""
    conf: str = MAIN
    get_all: tuple[str, ...] = ("/main",)
    """The destination's paths that must get every event."""
    most: int = 2_000_000
    """Events of a run at most."""
    retained: bool = False
    """With an old, full journal."""
    workers: int = 1
    database: bool = False
    """With a PostgreSQL server that has the table of events."""
    compared: bool = False
    """With `relay diff` over the journal."""
    looked_at: bool = False
    """With a console, and four live pages open."""
    one_cpu: bool = False
    """relay has one CPU, and everything else the other CPUs."""

    def __str__(self) -> str:
        return self.name


STEADY: Final = 2000
FEW_CONNECTIONS: Final = 16
ON_ONE_CPU: Final = ("1 worker on one CPU", "2 workers on one CPU")
"""What shows the gain of a second core: the CPU per event of two workers that take turns. Twice the events at the same
latency are twice the requests under way, so each worker has as many connections as one alone."""
CASES: Final = (
    Case(name="batch 100", batch=100),
    Case(name="a further http connector, batch 100", batch=100, conf=MAIN + BESIDE, get_all=("/main", "/beside")),
    Case(name="half the types beside, batch 100", batch=100, conf=MAIN + http("beside", FEW)),
    Case(name="half the types alone, batch 100", batch=100, conf=http("main", FEW), get_all=()),
    Case(name="redact, batch 100", batch=100, conf=http("main", 'filters = ["no_user"]') + REDACT),
    *(
        Case(name=f"{kind}, batch 100", batch=100, conf=http("main", f'filters = ["{kind}"]') + make_filter(kind))
        for kind in RESHAPE
    ),
    Case(name="file beside, batch 100", batch=100, conf=MAIN + FILE),
    Case(name="heap api, batch 100", batch=100, conf=API, get_all=(), most=API_EVENTS),
    Case(name="s3, batch 100", batch=100, conf=S3, get_all=()),
    Case(name="postgres, batch 100", batch=100, conf=POSTGRES, get_all=(), most=60_000, database=True),
    Case(name="compressed, batch 100", batch=100, conf=MAIN + COMPRESSED),
    Case(name="10 GiB retained, batch 100", batch=100, conf=MAIN + PLENTY, retained=True),
    Case(name="50 connectors, batch 100", batch=100, conf=MAIN + IDLE),
    Case(name="1,000 entries, batch 100", batch=100, conf=http("main", f"events = {MANY_ENTRIES}".replace("'", '"'))),
    Case(name="batch 10", batch=10),
    Case(name="a further http connector, batch 10", batch=10, conf=MAIN + BESIDE, get_all=("/main", "/beside")),
    Case(name="50 connectors, batch 10", batch=10, conf=MAIN + IDLE),
    Case(name="2 workers, batch 10", batch=10, workers=2),
    Case(name="batch 1", batch=1),
    Case(name="2 workers, batch 1", batch=1, workers=2),
    *(
        Case(
            name=f"{name}, batch {batch}", batch=batch, connections=workers * CONNECTIONS, workers=workers, one_cpu=True
        )
        for batch in (1, 10)
        for workers, name in enumerate(ON_ONE_CPU, 1)
    ),
    Case(name="2,000/s, batch 10", batch=10, rate=STEADY),
    Case(name="2,000/s with 50 connectors, batch 10", batch=10, rate=STEADY, conf=MAIN + IDLE),
    Case(name="2,000/s with a console, batch 10", batch=10, rate=STEADY, conf=MAIN + CONSOLE, looked_at=True),
    Case(
        name="2,000/s beside relay diff, batch 10",
        batch=10,
        rate=STEADY,
        conf=PLENTY + MAIN,
        retained=True,
        compared=True,
    ),
    Case(name="a bare thread that syncs, 2,000/s, batch 10", batch=10, rate=STEADY, bare=True),
    Case(name="batch 1, 16 connections", batch=1, connections=FEW_CONNECTIONS),
    Case(name="batch 1, 64 connections", batch=1),
    Case(name="batch 10, 16 connections", batch=10, connections=FEW_CONNECTIONS),
    Case(name="batch 100, 16 connections", batch=100, connections=FEW_CONNECTIONS),
    Case(name="no connector, batch 1, 16 connections", batch=1, connections=FEW_CONNECTIONS, conf="", get_all=()),
    Case(name="floor, 16 connections", batch=1, connections=FEW_CONNECTIONS, reference="floor"),
    Case(name="floor, 64 connections", batch=1, reference="floor"),
    Case(name="ceiling, 16 connections", batch=1, connections=FEW_CONNECTIONS, reference="ceiling"),
    Case(name="ceiling, 64 connections", batch=1, reference="ceiling"),
    Case(name="without relay, batch 100", batch=100, bare=True),
    Case(name="without relay, batch 10", batch=10, bare=True),
    Case(name="without relay, batch 1", batch=1, bare=True),
)
QUICK: Final = (
    "batch 100",
    "a further http connector, batch 100",
    "file beside, batch 100",
    "heap api, batch 100",
    "batch 10",
    "batch 1",
    "2,000/s, batch 10",
    "without relay, batch 100",
)


def chosen(quick: bool) -> list[Case]:
    """The cases that can be measured."""
    can, one_cpu_left = {"ceiling": NGINX is not None}, len(os.sched_getaffinity(0)) > 1
    return [
        case
        for case in CASES
        if (case.name in QUICK or not quick)
        and (case.workers == 1 or HAS_WORKERS)
        and can.get(case.reference, True)
        and (one_cpu_left or not case.one_cpu)
    ]


def is_asked(name: str, only: str) -> bool:
    """Whether a name has one of the texts, which have | between."""
    return any(text in name for text in only.split("|"))
