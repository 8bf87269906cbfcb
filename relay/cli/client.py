"""Finds the running relay that a command asks: that of --url, or the relay of the state folder."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from relay.cli.options import ADMIN_URL
from relay.client import Client, ClientError, find_local, probe
from relay.engine import find_holder


def find_running(state: Path) -> Client | None:
    """Return the relay of --url, else the relay that runs with a state folder; None without any."""
    context = click.get_current_context(silent=True)
    if context is not None and (url := context.meta.get(ADMIN_URL)):
        # Take the relay at the URL, if it listens
        path = url.removeprefix("unix:")
        at = Path(path) if path != url else urlsplit(url)
        try:
            probe(at)
        except OSError as error:
            raise ClientError(f"nobody answers at {url}: {error.strerror or error}") from None
        return Client(at)
    return find_local(state)


def require_running(state: Path) -> Client:
    """Return the running relay. Raises ClientError without any."""
    client = find_running(state)
    if client is None:
        raise ClientError(describe_idle(state))
    return client


def describe_idle(state: Path) -> str:
    """Describe that no relay runs with a state folder, or that a relay does not listen yet."""
    if process := find_holder(state):
        said = f"relay (process {process}) is starting with the state folder {state}, or nearly stopped"
        return f"{said}: ask again in a moment"
    return f"no relay runs with the state folder {state} (relay audit looks at a stopped relay)"
