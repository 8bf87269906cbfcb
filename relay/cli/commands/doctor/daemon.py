"""Checks the running relay: whether it answers, what is wrong, and whether its certificates are good."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from relay.cli.client import find_running
from relay.cli.commands.doctor.report import Finding, Installation, Level
from relay.cli.commands.doctor.unit import list_given
from relay.client import ClientError
from relay.config import TlsError
from relay.engine import find_holder
from relay.inspect import has_run
from relay.status import CertificateStatus, classify_certificate, describe_certificate, diagnose


def check_answers(it: Installation) -> Iterator[Finding]:
    """Ask the running relay what is wrong, and for its certificates; read the files if none runs."""
    seen = it.running
    if seen is not None:
        found = diagnose(seen)
        # Other checks cover doubts, alerts, certificates and the database
        named = [(f"connector {one.name}", one) for one in found.lanes]
        named += [(f"source {one.name}", one) for one in found.sources]
        nodes = [one for one in found.nodes if one.name != "database"]
        named += [(one.name, one) for one in (found.journal, *found.workers, *nodes, *found.erasures, found.reload)]
        yield from (Finding("problem", about, one.said.partition(": ")[2]) for about, one in named if not one.ok)
    elif it.unit is None and has_run(it.state):
        process = find_holder(it.state)
        what = f"relay (process {process}) is starting" if process else "no relay runs"
        yield Finding("warning", "relay", f"{what} with the state folder {it.state}")
    for one in seen.certificates if seen else _read_certificates(it):
        kind = classify_certificate(one, now := time.time())
        level: Level = "ok" if kind is None else "warning" if kind == "certificate_expiring" else "problem"
        name, _, said = describe_certificate(one, now).partition(": ")
        yield Finding(level, name, said)


def find_given(state: Path, option: str) -> list[Path]:
    """Return the folders that the relay of a state folder was started with by this option; none if that is unknown."""
    try:
        process = Path(f"/proc/{client.find_process()}") if (client := find_running(state)) else None
        words = (process / "cmdline").read_bytes().split(b"\0") if process else []
        given = list_given([os.fsdecode(word) for word in words], option)
        return [(process / "cwd").resolve() / folder for folder in given] if process else []
    except (OSError, click.ClickException, ClientError):
        return []


def describe_place(it: Installation) -> Finding:
    """Describe which state folder is checked, and whether a relay runs with it."""
    if find_running(it.state):
        said = "a relay runs with it"
    elif process := find_holder(it.state):
        said = f"relay (process {process}) is starting with it"
    elif it.state.exists():
        said = "no relay runs with it"
    else:
        said = "it does not exist, so no relay runs with it (--state DIR looks at another)"
    return Finding("ok", "state folder", f"{it.state}: {said}")


def _read_certificates(it: Installation) -> list[CertificateStatus]:
    tls = it.config.ingest.tls
    if tls is None or tls.certificate.problem:
        return []
    try:
        good = tls.validity
    except TlsError:  # the configuration says so
        return []
    return [CertificateStatus(certificate="ingest", begins=good.begins, ends=good.ends, files=tls.files)]
