"""Whether the destinations of connectors can be reached; no event is sent."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from relay.api import Secret
from relay.cli.doctor.finding import Finding, Installation
from relay.config import Configured, leaves
from relay.deliver.redaction import Redaction

PROBE_S: Final = 8.0
ADVICE: Final = "see the connector's settings; then names, routes, firewalls and certificates"


def connectors(it: Installation) -> Iterator[Finding]:
    """Probe every connector, all at a time."""
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:1")  # a name server that is dead is not waited for longer
    yield from asyncio.run(_all(it))


async def _all(it: Installation) -> list[Finding]:
    async with asyncio.TaskGroup() as group:
        probes = [
            group.create_task(_one(connector, it), name=f"probe of {name}")
            for name, connector in it.config.connectors.items()
        ]
    return [probe.result() for probe in probes]


async def _one(configured: Configured[Any, Any], it: Installation) -> Finding:
    about = f"connector {configured.name}"
    if unread := [leaf for _, leaf in leaves((), configured.settings) if isinstance(leaf, Secret) and leaf.problem]:
        return Finding("ok", about, f"not tried: {unread[0].problem}")
    try:
        async with asyncio.timeout(PROBE_S):
            said = await _probe(configured, it)
    except TimeoutError:
        return Finding("problem", about, f"no answer within {PROBE_S:g} s", ADVICE)
    except Exception as error:  # whatever a plugin raises says why
        why = Redaction(configured.settings).clean(str(error) or type(error).__name__)
        return Finding("problem", about, why, ADVICE)
    return Finding("ok", about, said or "not tried: only sending would tell")


async def _probe(configured: Configured[Any, Any], it: Installation) -> str | None:
    connector = configured.plugin(configured.name, configured.settings, folder=it.state)
    try:
        said: str | None = await connector.probe()
        return said
    finally:
        with suppress(Exception):  # it was never opened
            await connector.release()
