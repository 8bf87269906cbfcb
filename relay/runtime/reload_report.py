"""Reports a reload in the log and the history. `Daemon.reload` applies it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import structlog
from msgspec.structs import replace

from relay.admin import make_reload_entry
from relay.config import Config, Mistake
from relay.proposal import add_pending
from relay.status import (
    EXPIRED,
    RefusedReload,
    ReloadResult,
    ReloadWarning,
    Status,
    classify_certificate,
    describe_certificate,
    merge_results,
)
from relay.store import Entry

HANGUP: Final = "SIGHUP"
"""Who requests a reload by SIGHUP."""
log = structlog.stdlib.get_logger()


def make_refused(mistakes: Sequence[Mistake | str]) -> ReloadResult:
    """Make the result of a refused reload. A text stands for a mistake that is in no file."""
    return ReloadResult(mistakes=[Mistake(reason=one) if isinstance(one, str) else one for one in mistakes])


class Reloading(Protocol):
    """What is reloaded: one process, or several workers as one."""

    config: Config
    refused_reload: RefusedReload | None

    def note(self, entry: Entry) -> None:
        """Write an entry into the history."""

    async def status(self) -> Status:
        """Return the status."""


async def reload_and_report(view: Reloading, reload: Callable[[], Awaitable[ReloadResult]], by: str) -> ReloadResult:
    """Reload, and report the result in log and history, with the pending events of added and removed connectors.

    `by`: who requested it.
    """
    before = await view.status()
    result = await reload()
    if result.ok:
        after = await view.status()
        pending = {one.connector: one.pending for one in after.gone}
        pending |= {lane.connector: lane.pending for lane in after.lanes}
        result = add_pending(result, before, pending, after.failing_erasures, view.config.journal.retention)
        expired = [  # the reload may not have renewed a certificate that senders refuse
            ReloadWarning(f"certificate {one.certificate}", describe_certificate(one, after.now))
            for one in after.certificates
            if classify_certificate(one, after.now) == EXPIRED
        ]
        result = merge_results([result, ReloadResult(warnings=expired)])
    # Log the result, however often: whoever sent a SIGHUP learns it nowhere else
    if result.ok:
        log.info("configuration reloaded", changes=result.said)
    else:
        log.error("configuration not reloaded, the old one goes on", mistakes=result.said, always=True)
    entry = make_reload_entry(result, by)
    view.refused_reload = None if result.ok else RefusedReload(at=entry.at, said="; ".join(entry.about["said"]))
    view.note(entry)
    return replace(result, at=entry.at)


async def catch_bug(reload: Awaitable[ReloadResult]) -> ReloadResult:
    """Return the result of a reload, also if a bug ends it."""
    try:
        return await reload
    except Exception as error:
        log.error("reload failed by a bug", exc_info=error, always=True)
        return make_refused([f"a bug in relay: {type(error).__name__}: {error}; restart it to be sure"])
