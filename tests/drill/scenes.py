"""The scenes: how each trouble is brought about and undone, and what each voice must say of it."""

import asyncio
import re
import signal
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.drill.stage import Act, Stage
from tests.drill.voices import metric

CERTIFICATE_S: Final = 30.0
"""How long the certificate is still good when relay starts."""
NOT_YET_FULL: Final = 0.7
NEARLY_FULL: Final = 0.85
STATE: Final = r'^relay_deliver_lane_state\{connector="heap",state="%s"\} 1\.0'
MORE_THAN_0: Final = r" ([1-9]|0\.\d*[1-9])"
WELL: Final = {"status": r"\Aexit code 0"}
OVER: Final = {**WELL, "alert": "no longer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One trouble."""

    name: str
    how: str
    """How it is brought about."""
    cause: Act
    says: Mapping[str, str]
    """For each voice what it must say: regular expressions, one a line."""
    mended: str
    """How it is undone."""
    mend: Act
    over: Mapping[str, str] = field(default_factory=lambda: OVER)
    prepare: Act
    """Configures and starts relay."""
    disk: int = 0
    """Its state folder is on a file system of so many MiB; 0: on that of the temporary folder."""


def prepared(*, journal: str = "", heap: str = "", load: bool = True) -> Act:
    """Start a relay that is well."""

    async def prepare(stage: Stage) -> None:
        stage.configure(journal=journal, heap=heap)
        await stage.start()
        if load:
            stage.load_on()

    return prepare


def switched(**switches: object) -> Act:
    """Have Heap behave so."""

    async def cause(stage: Stage) -> None:
        stage.switch(**switches)

    return cause


def resumed(**switches: object) -> Act:
    """Have Heap behave so, and have relay try it at once."""

    async def mend(stage: Stage) -> None:
        stage.switch(**switches)
        await stage.relay("resume", "heap")

    return mend


async def go_away(stage: Stage) -> None:
    await stage.heap_goes()


async def come_back(stage: Stage) -> None:
    await stage.heap_comes()
    await stage.relay("resume", "heap")


async def replay_parked(stage: Stage) -> None:
    stage.switch(fail=0)
    await stage.until(lambda: stage.heap.statuses[200])
    await stage.relay("parked", "replay", "--connector", "heap")


async def fill_disk(stage: Stage) -> None:
    stage.load.filling = 20_000  # a segment that is begun takes events until it is full
    path = stage.daemon.state.parent / "strange"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


async def make_room(stage: Stage) -> None:
    stage.load.filling = 0
    (stage.daemon.state.parent / "strange").unlink()


async def fill(stage: Stage, share: float) -> None:
    """Have events wait until they take that share of the journal."""
    stage.load.filling = 20_000
    bodies = [stage.load.body() for _ in range(8)]
    while await _fill(stage) < share:
        for body in bodies:
            await stage.load.send(stage.daemon.url, body)
    stage.load.filling = 0


async def _fill(stage: Stage) -> float:
    text = await metric(stage)
    needed, capacity = (
        float(re.findall(rf"^relay_journal_{name}_bytes\S* (\S+)", text, re.MULTILINE)[0])
        for name in ("needed", "capacity")
    )
    return needed / capacity


async def fill_journal(stage: Stage) -> None:
    await stage.heap_goes()
    await fill(stage, NOT_YET_FULL)
    stage.strike()
    await fill(stage, NEARLY_FULL)


async def overfill_journal(stage: Stage) -> None:
    await stage.heap_goes()
    await fill(stage, NEARLY_FULL)
    stage.strike()
    stage.load.filling = 20_000
    stage.load_on()


async def empty_journal(stage: Stage) -> None:
    stage.load.filling = 0
    await come_back(stage)


async def prepare_tls(stage: Stage) -> None:
    stage.authority.issue(days=CERTIFICATE_S / 86400)
    stage.daemon.configure("05-tls", stage.authority.table())
    stage.load.trusting = ssl.create_default_context(cafile=str(stage.authority.ca))
    ends = time.time() + CERTIFICATE_S
    await prepared()(stage)
    await asyncio.sleep(ends - time.time())


async def let_it_end(stage: Stage) -> None:
    """It has ended."""


async def renew(stage: Stage) -> None:
    stage.authority.issue()
    await stage.relay("reload")


async def damage(stage: Stage) -> None:
    await stage.relay("pause", "heap")
    stage.load.filling = 20_000
    while len(_segments(stage)) < 3:
        await stage.load.send(stage.daemon.url, stage.load.body())
    stage.load.filling = 0
    stage.load_on()
    path = _segments(stage)[1]
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    stage.strike()
    await stage.relay("resume", "heap")


def _segments(stage: Stage) -> list[Path]:
    return sorted((stage.daemon.state / "journal").glob("*.log"))


async def accept_journal(stage: Stage) -> None:
    await stage.relay("accept", "journal", "--yes", "--conf", str(stage.daemon.conf))


async def lose_database(stage: Stage) -> None:
    await stage.load_off()
    await stage.daemon.stop()
    for path in stage.daemon.state.glob("relay.db*"):
        path.rename(stage.folder / path.name)
    stage.strike()
    await stage.daemon.start()
    stage.load_on()


async def use_wrong_token(stage: Stage) -> None:
    stage.load.token = "another-token"


async def use_right_token(stage: Stage) -> None:
    stage.load.token = "braze-token"


async def kill(stage: Stage) -> None:
    await stage.daemon.kill()


async def start_again(stage: Stage) -> None:
    await stage.daemon.start()


async def stop_process(stage: Stage) -> None:
    stage.daemon.signal(signal.SIGSTOP)


async def go_on(stage: Stage) -> None:
    stage.daemon.signal(signal.SIGCONT)


async def reload_mistake(stage: Stage) -> None:
    path = stage.daemon.conf / "60-heap.toml"
    path.write_text(path.read_text().replace("endpoint", "endpiont"))
    await stage.relay("reload")


async def reload_good(stage: Stage) -> None:
    path = stage.daemon.conf / "60-heap.toml"
    path.write_text(path.read_text().replace("endpiont", "endpoint"))
    await stage.relay("reload")


SCENES: Final = (
    Scene(
        name="sender-refused",
        how="the sender has another token than the source",
        prepare=prepared(),
        cause=use_wrong_token,
        says={
            "sender": "HTTP 401",
            "log": "request refused",
            "status": "^exit code 1\n^braze: has refused everything since .*: 401 .*lost: Braze .*disables .*compare",
            "doctor": "problem .*braze",
            "metric": r'^relay_ingest_refusing_seconds\{source="braze"\} [1-9]',
            "alert": "source braze: refusing",
        },
        mended="the sender gets the right token",
        mend=use_right_token,
    ),
    Scene(
        name="certificate-ended",
        how="the certificate that senders see comes to its end",
        prepare=prepare_tls,
        cause=let_it_end,
        says={
            "sender": "certificate has expired",
            "log": "certificate needs renewal.*fullchain.pem",
            "status": "^exit code 1\n^certificate ingest: has expired.*; renew .*fullchain.pem and .*5 days .*: at",
            "doctor": "problem  certificate ingest",
            "metric": r"^relay_listener_certificate_expiry_timestamp_seconds",
            "alert": "^certificate ingest: expired, was expiring, trouble since",
            "history": "certificate_expired",
        },
        mended="the files are renewed, relay reload",
        mend=renew,
        over={**OVER, "history": "certificate_renewed"},
    ),
    Scene(
        name="destination-away",
        how="nobody listens at Heap's address any more",
        prepare=prepared(),
        cause=go_away,
        says={
            "log": "delivery failed, will be tried again.*Connection refused",
            "status": "^exit code 1\n^heap: failing since .*Connection refused",
            "doctor": "problem  connector heap .*failing\nproblem  connector heap .*Connection refused",
            "metric": STATE % "failing",
            "alert": "connector heap: failing",
            "history": "failing +heap",
        },
        mended="Heap is back, relay resume heap",
        mend=come_back,
        over={**OVER, "whole log": "deliveries work again", "history": "recovered +heap"},
    ),
    Scene(
        name="destination-busy",
        how="Heap answers 503 to everything",
        prepare=prepared(),
        cause=switched(fail=1, fail_status=503),
        says={
            "log": "delivery failed, will be tried again.*503",
            "status": "^exit code 1\n^heap: failing since .*503",
            "doctor": "problem  connector heap .*503",
            "metric": STATE % "failing",
            "alert": "connector heap: failing",
            "history": "failing +heap",
        },
        mended="Heap takes events again, relay resume heap",
        mend=resumed(fail=0),
        over={**OVER, "whole log": "deliveries work again", "history": "recovered +heap"},
    ),
    Scene(
        name="destination-hangs",
        how="Heap takes connections and answers nothing (timeout = 20s)",
        prepare=prepared(heap='timeout = "20s"'),
        cause=switched(slow=3600),
        says={
            "status": r"^heap: .*no answer yet for \d+s",
            "log": "delivery failed, will be tried again.*no answer",
            "doctor": "problem  connector heap .*no answer.*ask whoever runs the destination",
            "metric": STATE % "failing",
            "alert": "connector heap: failing",
            "history": "failing +heap",
        },
        mended="Heap answers again, relay resume heap",
        mend=resumed(slow=0),
        over={**OVER, "whole log": "deliveries work again", "history": "recovered +heap"},
    ),
    Scene(
        name="destination-unauthorized",
        how="Heap answers 401 to everything",
        prepare=prepared(),
        cause=switched(fail=1, fail_status=401),
        says={
            "log": "destination does not accept relay",
            "status": "^exit code 1\n^heap: unauthorized.*check token .*: it was accepted until then",
            "doctor": "problem  connector heap .*unauthorized",
            "metric": STATE % "unauthorized",
            "alert": "connector heap: unauthorized",
            "history": "unauthorized +heap",
        },
        mended="Heap accepts the token again, relay resume heap",
        mend=resumed(fail=0),
        over={**OVER, "whole log": "deliveries work again", "history": "recovered +heap"},
    ),
    Scene(
        name="destination-refuses",
        how="Heap answers 400 to everything",
        prepare=prepared(),
        cause=switched(fail=1, fail_status=400),
        says={
            "log": "destination refuses everything",
            "status": "^exit code 1\n^heap: refusing.*oldest of them are removed in.*relay pause heap.*NUMBER",
            "doctor": "problem  connector heap .*refusing",
            "metric": STATE % "refusing",
            "alert": "connector heap: refusing",
            "history": "refusing +heap",
        },
        mended="Heap takes events again, relay parked replay --connector heap",
        mend=replay_parked,
        over={**OVER, "whole log": "destination takes events again", "history": "recovered +heap"},
    ),
    Scene(
        name="journal-fills",
        how="Heap is away until most of the journal is needed for it",
        prepare=prepared(journal='max_size = "32MiB"', load=False),
        cause=fill_journal,
        says={
            "log": "journal fills up",
            "status": "^exit code 1\n^journal: .*still needed.*connector heap waits longest: repair heap, or raise",
            "doctor": "problem  journal",
            "metric": r"^relay_journal_needed_bytes",
            "alert": "journal: filling",
            "history": "journal_filling",
        },
        mended="Heap is back, relay resume heap",
        mend=empty_journal,
        over={**OVER, "history": "journal_recovered"},
    ),
    Scene(
        name="journal-full",
        how="Heap is away until all of the journal is needed for it",
        prepare=prepared(journal='max_size = "32MiB"', load=False),
        cause=overfill_journal,
        says={
            "sender": "HTTP 503.*Retry-After",
            "log": "the journal takes no events",
            "status": "^exit code 1\n^journal: takes no events.*connector heap waits longest: repair heap, or raise",
            "doctor": "problem  journal .*takes no events",
            "readyz": "HTTP 503",
            "metric": rf"^relay_journal_failed_commits_total{MORE_THAN_0}",
            "alert": "^journal: full, was filling, trouble since",
            "history": "journal_full",
        },
        mended="Heap is back, relay resume heap",
        mend=empty_journal,
        over={**OVER, "readyz": "HTTP 200", "history": "journal_recovered"},
    ),
    Scene(
        name="disk-full",
        how="somebody else fills the disk",
        disk=64,
        prepare=prepared(journal='max_size = "32MiB"'),
        cause=fill_disk,
        says={
            "sender": "HTTP 503.*Retry-After",
            "log": "the journal takes no events",
            "status": "^exit code 1\n^journal: takes no events.*files that are not relay's",
            "doctor": "problem  room",
            "readyz": "HTTP 503",
            "metric": rf"^relay_journal_failed_commits_total{MORE_THAN_0}",
            "alert": "^journal: .*full",
        },
        mended="there is room again",
        mend=make_room,
        over={**OVER, "readyz": "HTTP 200", "history": "journal_recovered"},
    ),
    Scene(
        name="segment-damaged",
        how="a bit flips in a sealed segment that Heap still needs",
        prepare=prepared(journal='max_size = "64MiB"\nmemory = "1MiB"', load=False),
        cause=damage,
        says={
            "log": "events of the journal cannot be read\nevents are damaged",
            "status": "^exit code 1\nheap has lost .*events cannot be read.*are delivered.* relay accept journal ends",
            "doctor": "problem  journal",
            "metric": r'^relay_deliver_events_total\{connector="heap",outcome="damaged"\} [1-9]',
            "alert": "^journal: events damaged, since",
            "history": "damaged",
        },
        mended="relay accept journal",
        mend=accept_journal,
        over={**WELL, "alert": "no events damaged any more", "history": "accepted"},
    ),
    Scene(
        name="database-gone",
        how="relay.db is moved away between a stop and a start",
        prepare=prepared(),
        cause=lose_database,
        says={
            "log": "relay.db does not know the journal",
            "status": "^exit code 1\n^journal: .*did not know",
            "doctor": "problem  journal",
            "metric": r'^relay_runtime_doubtful\{what="journal"\} 1',
            "alert": "^journal: not as the database knows it, since\n.*no event of the journal is lost",
            "history": "doubt",
        },
        mended="relay accept journal",
        mend=accept_journal,
        over={**WELL, "alert": "^journal: as the database knows it", "history": "accepted"},
    ),
    Scene(
        name="relay-dead",
        how="relay is killed, and not started again",
        prepare=prepared(),
        cause=kill,
        says={
            "sender": "Cannot connect",
            "status": "^exit code 1\nno relay runs",
            "doctor": "relay .*no relay runs",
        },
        mended="relay is started",
        mend=start_again,
        over={**WELL, "whole log": "the last run has not ended by a stop", "history": "started .*not"},
    ),
    Scene(
        name="relay-stopped",
        how="relay's process is stopped (SIGSTOP)",
        prepare=prepared(),
        cause=stop_process,
        says={
            "status": "^exit code 1\nrelay does not answer within 3 s: .*it is stopped",
            "doctor": "problem .*does not answer within 3 s",
        },
        mended="its process goes on (SIGCONT)",
        mend=go_on,
        over=WELL,
    ),
    Scene(
        name="reload-refused",
        how="a reload finds a mistake in conf.d",
        prepare=prepared(),
        cause=reload_mistake,
        says={
            "log": "configuration not reloaded, the old one goes on",
            "status": "^exit code 1\n^reload: refused at .* the configuration before goes on: 60-heap.toml",
            "doctor": "problem  configuration\nproblem  reload",
            "alert": "relay: reload refused, since",
            "history": "reload_refused",
        },
        mended="the mistake is corrected, relay reload",
        mend=reload_good,
        over={**OVER, "history": "reloaded"},
    ),
)
