"""Lanes: batch, retry, pause, split, acknowledge; one per connector, none in another's way. And erasures."""

from relay.deliver.erasing import Eraser
from relay.deliver.fleet import Fleet
from relay.deliver.outfit import Changes

__all__ = ["Changes", "Eraser", "Fleet"]
