"""How partitions are shared out among processes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.postgres.shares import share_out


@pytest.mark.parametrize(
    ("holders", "wanted"),
    [
        ([None] * 4, {"a": {0, 1}, "b": {2}, "c": {3}}),
        (["a", "a", "b", "c"], {"a": {0, 1}, "b": {2}, "c": {3}}),
        (["a", "b", "c", "c"], {"a": {0}, "b": {1}, "c": {2, 3}}),  # whoever has the larger share keeps it
        (["a", "a", "b", "b"], {"a": {0, 1}, "b": {2}, "c": set()}),  # c waits for what b gives back
        (["a", "a", "b", None], {"a": {0, 1}, "b": {2}, "c": {3}}),
        (["a", "b", "dead", "dead"], {"a": {0}, "b": {1}, "c": set()}),  # their leases have not ended
        (["a", "b", None, None], {"a": {0, 2}, "b": {1}, "c": {3}}),
        (["c"], {"a": set(), "b": set(), "c": {0}}),  # more processes than partitions
        ([], {"a": set(), "b": set(), "c": set()}),
    ],
)
def test_shares_are_even_and_move_as_little_as_possible(holders: list[str | None], wanted: dict[str, set[int]]) -> None:
    assert share_out(holders, ["a", "b", "c"]) == wanted


def test_no_process_gets_a_share_without_processes() -> None:
    assert share_out([None, "dead"], []) == {}


PROCESSES = st.lists(st.integers(0, 30), min_size=1, max_size=9, unique=True)
HOLDERS = st.lists(st.none() | st.integers(0, 30), max_size=20)


@given(HOLDERS, PROCESSES)
def test_a_partition_is_wanted_by_one_process_at_most(holders: list[int | None], processes: list[int]) -> None:
    wanted = share_out(holders, processes)
    numbers = [number for one in wanted.values() for number in one]
    assert len(numbers) == len(set(numbers))
    for process, mine in wanted.items():
        assert {holders[number] for number in mine} <= {None, process}


@given(HOLDERS, PROCESSES)
def test_a_process_gives_back_only_while_another_lacks_some(holders: list[int | None], processes: list[int]) -> None:
    wanted = share_out(holders, processes)
    most = max(len(one) for one in wanted.values())
    for process, mine in wanted.items():
        if len(mine) < holders.count(process):
            assert len(mine) == most
            assert any(holders.count(other) < len(holders) / len(processes) for other in processes)


@given(HOLDERS, PROCESSES, st.randoms())
def test_every_partition_is_soon_wanted_by_one_process_for_good(
    holders: list[int | None], processes: list[int], chance
) -> None:
    for _ in range(2):  # what has no process becomes free, and what is given back becomes another's
        holders = [holder if holder in processes else None for holder in holders]
        for process in chance.sample(processes, len(processes)):  # each looks after what others have done already
            holders = _act(holders, process, share_out(holders, processes)[process])
    for process in processes:
        holders = _act(holders, process, share_out(holders, processes)[process])
    wanted = share_out(holders, processes)
    assert {number: process for process, mine in wanted.items() for number in mine} == dict(enumerate(holders))
    sizes = [len(mine) for mine in wanted.values()]
    assert max(sizes) - min(sizes) <= 1


def _act(holders: Sequence[int | None], process: int, wanted: frozenset[int]) -> list[int | None]:
    """Return the holders once a process has taken and given back."""
    kept = [None if holder == process else holder for holder in holders]
    return [process if number in wanted else holder for number, holder in enumerate(kept)]
