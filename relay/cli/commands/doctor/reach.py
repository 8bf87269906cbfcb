"""Checks whether the destinations of connectors can be reached. Sends no event."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from relay.api import Connector, Secret
from relay.cli.commands.doctor.report import Finding, Installation
from relay.config import Configured, Redaction, list_leaves, read_traits
from relay.guests import contained, find_reason, read_text, run_limited

PROBE_S: Final = 8.0
ADVICE: Final = "see the connector's settings; then names, routes, firewalls and certificates"
WRITING: Final = "see path in the connector's settings; then the rights of its folder, and ReadWritePaths= in the unit"
ALLOWING: Final = (
    "ReadWritePaths=FOLDER in the unit, and a permanent user (docs/guide/install.md); or a path in its state folder"
)


def check_connectors(it: Installation) -> Iterator[Finding]:
    """Probe every connector, all at a time."""
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:1")  # a name server that is dead is not waited for longer
    yield from asyncio.run(_check_all(it))


async def _check_all(it: Installation) -> list[Finding]:
    async with asyncio.TaskGroup() as group:
        probes = [
            group.create_task(_check_one(connector, it), name=f"probe of {name}")
            for name, connector in it.config.connectors.items()
        ]
    return [probe.result() for probe in probes]


async def _check_one(configured: Configured[Any, Any], it: Installation) -> Finding:
    about = f"connector {configured.name}"
    if unread := [
        leaf for _, leaf in list_leaves((), configured.settings) if isinstance(leaf, Secret) and leaf.problem
    ]:
        return Finding("ok", about, f"not tried: {unread[0].problem}")
    advice = ADVICE
    try:
        async with asyncio.timeout(PROBE_S), _make_connector(configured, it) as (connector, local_path):
            advice = WRITING if local_path else ADVICE
            said = await run_limited(connector.probe, PROBE_S, f"{about}: probe")
            why = await asyncio.to_thread(_explain_unwritable, local_path, it)
    except TimeoutError:
        return Finding("problem", about, f"no answer within {PROBE_S:g} s", advice)
    except Exception as error:  # whatever a plugin raises says why
        why = Redaction(configured.settings).clean(find_reason(error))
        return Finding("problem", about, why, advice)
    if why:
        return Finding("warning", about, f"{local_path} cannot be written by the service: {why}", ALLOWING)
    told = Redaction(configured.settings).clean(read_text(said)) if said else "not tried: only sending would tell"
    return Finding("ok", about, told)


@asynccontextmanager
async def _make_connector(
    configured: Configured[Any, Any], it: Installation
) -> AsyncIterator[tuple[Connector, Path | None]]:
    with contained():
        connector: Connector = configured.plugin(configured.name, configured.settings, folder=it.state)
        local_path = read_traits(connector).local_path
    try:
        yield connector, local_path
    finally:
        with suppress(Exception):  # it was never opened
            await run_limited(connector.release, PROBE_S, f"connector {configured.name}: close")


def _explain_unwritable(path: Path | None, it: Installation) -> str | None:
    """Return why the service could not write there, though this user could."""
    with suppress(OSError):  # then this user is not allowed to look
        return it.unit.explain_unwritable(path) if it.unit and path else None
    return None
