"""Checks whether the destinations of connectors can be reached. Sends no event."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from relay.api import Secret
from relay.cli.commands.doctor.report import Finding, Installation
from relay.config import Configured, list_leaves
from relay.proposal import probe_connector

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
    probe = await probe_connector(configured, it.state)
    if probe.reached is False:
        return Finding("problem", about, probe.said, WRITING if probe.file else ADVICE)
    if why := await asyncio.to_thread(_explain_unwritable, probe.file, it):
        return Finding("warning", about, f"{probe.file} cannot be written by the service: {why}", ALLOWING)
    return Finding("ok", about, probe.said)


def _explain_unwritable(path: str | None, it: Installation) -> str | None:
    """Return why the service could not write there, though this user could."""
    with suppress(OSError):  # then this user is not allowed to look
        return it.unit.explain_unwritable(Path(path)) if it.unit and path else None
    return None
