"""Lanes: batch, retry, pause, split, acknowledge; one per connector, none in another's way. And erasures."""

from relay.deliver.erasing import Eraser
from relay.deliver.fleet import Fleet

__all__ = ["Eraser", "Fleet"]
