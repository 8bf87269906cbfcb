"""Reads the status of this process: its sources, its inbox, and the partitions that it runs."""

import asyncio
import time
from collections.abc import Hashable, Sequence

from relay import __version__
from relay.config import Config
from relay.ingest import Ingest, Intake
from relay.logs import count_dropped_lines
from relay.runtime.partitions import Partitions
from relay.runtime.secret_settings import list_secrets
from relay.status import (
    EVERY_S,
    NOW_S,
    CertificateStatus,
    JournalStatus,
    ListenerStatus,
    Rates,
    Refusing,
    SourceStatus,
    Status,
    measure_cpu,
    measure_memory,
    merge_parts,
)
from relay.store import Appender


class StatusReader:
    """Reads the status, with rates from earlier counters."""

    def __init__(self, partitions: Partitions, ingest: Ingest, events: Appender) -> None:
        """`events` is where this process puts events."""
        self._partitions, self._ingest, self._events = partitions, ingest, events
        self._rates = Rates()
        self._started = time.time()

    async def keep_sampling(self) -> None:
        """Note the counters once a second, for ever."""
        while True:
            now = time.monotonic()
            accepted: dict[Hashable, float] = {
                name: intake.traffic.accepted for name, intake in self._ingest.intakes.items()
            }
            self._rates.note(now, accepted)
            for partition in self._partitions:
                partition.status_reader.sample(now)
            await asyncio.sleep(EVERY_S)

    async def read_status(self, config: Config, restart: Sequence[str]) -> Status:
        """Return the status by the configuration in force. `restart`: what waits for a restart."""
        own = Status(
            version=__version__,
            now=time.time(),
            started=self._started,
            cpu=measure_cpu(),
            memory=measure_memory(),
            sources=[self._read_source(name, intake, config) for name, intake in self._ingest.intakes.items()],
            lanes=(),
            journal=self._read_inbox(),
            strays=self._ingest.unrouted,
            dropped_log_lines=count_dropped_lines(),
            listeners={"ingest": ListenerStatus(connections=self._ingest.connections, refused=self._ingest.refused)},
            certificates=self._read_certificates(config),
            parked=(),
            restart=restart,
            unopened=self._partitions.unopened,
            shares_partitions=self._partitions.are_shared,
            unreachable_since=self._partitions.unreachable_since,
        )
        return merge_parts([own, *await self._partitions.read_statuses(config)])

    def _read_inbox(self) -> JournalStatus:
        """Return what this process has put into the journal."""
        events = self._events
        return JournalStatus(
            oldest=0,
            head=0,
            size=0,
            needed=0,
            capacity=0,
            full_in=None,
            refusing=events.refusing,
            bytes=events.bytes,
            failed=events.failed,
            syncs=events.syncs.copy(),
        )

    def _read_source(self, name: str, intake: Intake, config: Config) -> SourceStatus:
        traffic, ledger = intake.traffic, intake.ledger
        refusals = ledger.refusals
        refusing = None
        if refusals:
            refusing = Refusing(
                since=refusals.since, status=refusals.status, reason=refusals.reason, deadline=refusals.deadline
            )
        return SourceStatus(
            source=name,
            file=config.sources[name].file,
            accepted=traffic.accepted,
            unreadable=traffic.unreadable,
            duplicates=ledger.duplicates,
            requests={**traffic.requests},
            last=traffic.last,
            rate=self._rates.measure_change(name, NOW_S),
            refusing=refusing,
            ack=traffic.ack.copy(),
            incomplete=intake.calls.incomplete,
            notice=intake.calls.notice,
            unknown_types=[*traffic.unknown_types],
            secrets=list_secrets(f"source {name}", config.sources[name].settings, config),
        )

    def _read_certificates(self, config: Config) -> list[CertificateStatus]:
        shown, tls = self._ingest.certificate, config.ingest.tls
        if shown is None:
            return []
        files = tls.files if tls else ""  # to go without TLS takes a restart
        return [CertificateStatus(certificate="ingest", begins=shown.begins, ends=shown.ends, files=files)]
