"""Finds the files that come with relay: its conf.d, its systemd unit, its README."""

import sysconfig
from pathlib import Path

import relay


def find_shipped(name: str) -> Path:
    """Return the folder `conf.d` or `systemd`, or README.md, in a checkout or in share/relay.

    Raises FileNotFoundError.
    """
    beside = Path(relay.__file__).parents[1] / name
    installed = Path(sysconfig.get_path("data")) / "share" / "relay" / name
    for place in (beside, installed):
        if place.exists():
            return place
    raise FileNotFoundError(f"relay's own {name} is neither at {beside} nor at {installed}: install relay again")
