"""Where the files are that come with relay: its conf.d and its systemd unit."""

import sysconfig
from pathlib import Path

import relay


def shipped(name: str) -> Path:
    """The folder `conf.d` or `systemd`: beside the package in a checkout, in share/relay in an installation.

    Raises FileNotFoundError.
    """
    beside = Path(relay.__file__).parents[1] / name
    installed = Path(sysconfig.get_path("data")) / "share" / "relay" / name
    for folder in (beside, installed):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"relay's own {name} is neither at {beside} nor at {installed}: install relay again")
