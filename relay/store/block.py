"""Joins events into a block: what a log appends at once, and what readers get. Pure."""

from array import array
from collections.abc import Sequence
from itertools import accumulate, count
from operator import add
from typing import Any

from relay.api import Block, Kind


class _Table(dict[Kind, int]):
    """Kinds in the order of their first use."""

    def __missing__(self, kind: Kind) -> int:
        self[kind] = number = len(self)
        return number


def make_block(offset: int, received_us: int, kinds: Sequence[Kind], bodies: Sequence[Any]) -> Block:
    """Join the events of one commit group into the block that is written, and read by the lanes."""
    table = _Table()
    index = array("I", [table[kind] for kind in kinds])
    ends = array("I", map(add, accumulate(map(len, bodies)), count()))
    offsets = range(offset, offset + len(bodies))
    return Block(offsets, received_us / 1e6, tuple(table), index, ends, b",".join(bodies))
