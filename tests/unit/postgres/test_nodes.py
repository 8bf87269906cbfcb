"""Processes that share the partitions of a cluster, on a real PostgreSQL."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from relay.postgres import nodes as nodes_module
from relay.postgres.cluster import has_run
from relay.postgres.lease import Leases
from relay.postgres.nodes import ClusterMembership, read_processes
from relay.postgres.process import Process, name_machine
from relay.store import Unavailable
from tests.postgres import start_shared_server

GONE = 2**22 + 1
"""No process has this number: Linux gives none above 2**22."""


class Cluster:
    """Processes on one database."""

    def __init__(self) -> None:
        self.database = start_shared_server().make_database(partitions=4)
        self._leases: list[Leases] = []

    def make(self, node: str, worker: int = 0, host: str = "h", machine: str = "m", number: int = 17) -> "Member":
        """Make a process that has not joined yet."""
        process = Process(node, worker, host=host, machine=machine, number=number)
        self._leases.append(Leases(self.database, process, 60.0))
        return Member(ClusterMembership(self.database, process, 60.0), self._leases[-1])

    def join(self, *nodes: str) -> list["Member"]:
        """Have a process of each node join."""
        members = [self.make(node) for node in nodes]
        for one in members:
            one.membership.join()
        return members

    def silence(self, node: str) -> None:
        """Have the database's clock end the time of a node."""
        with self.database.use() as db:
            db.run("UPDATE $.node SET until = clock_timestamp() WHERE node = %s", [node])

    def close(self) -> None:
        """End all processes."""
        for one in self._leases:
            one.close()
        self.database.close()


class Member:
    """A process that takes and gives back what its membership says."""

    def __init__(self, membership: ClusterMembership, leases: Leases) -> None:
        self.membership, self._leases = membership, leases
        self._held = {}
        self.failing = set[int]()
        """Partitions that the process cannot open."""

    def look(self) -> set[int]:
        """Do what the membership says; return the partitions that the process has now."""
        wanted = self.membership.find_wanted(self.failing)
        for partition in self._held.keys() - wanted:
            self._held.pop(partition).give_back()
        for partition in wanted - self._held.keys():
            self._held[partition] = self._leases.take(partition)
        return {*self._held}

    def stop(self) -> None:
        """Give everything back, and leave."""
        while self._held:
            self._held.popitem()[1].give_back()
        self.membership.leave()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with closing(Cluster()) as cluster:
        yield cluster


def look_around(*members: Member) -> list[set[int]]:
    """Let all look until nothing changes; return what each has."""
    found = []
    while (now := [one.look() for one in members]) != found:
        found = now
    return found


def test_processes_share_the_partitions_and_one_that_stops_leaves_its_own(cluster: Cluster) -> None:
    first, second = cluster.join("a", "b")
    assert look_around(first, second) == [{0, 1}, {2, 3}]
    (third,) = cluster.join("c")
    assert look_around(first, second, third) == [{0, 1}, {2}, {3}]
    first.stop()
    assert look_around(second, third) == [{0, 2}, {1, 3}]


def test_what_a_silent_process_has_is_shared_out_once_its_leases_end(cluster: Cluster) -> None:
    first, second = cluster.join("a", "b")
    look_around(first, second)
    cluster.silence("a")
    assert second.look() == {2, 3}
    with cluster.database.use() as db:
        db.run("UPDATE $.lease SET until = clock_timestamp() WHERE node = 'a'")
    assert second.look() == {0, 1, 2, 3}


def test_each_node_has_a_partition_before_a_second_worker_does(cluster: Cluster) -> None:
    members = [cluster.make(node, worker) for node in ("a", "b") for worker in range(4)]
    for one in members:
        one.membership.join()
    found = look_around(*members)
    assert [bool(one) for one in found] == [True, True, False, False] * 2


def test_a_second_node_of_one_name_is_told_where_the_first_runs(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = cluster.join("a")
    monkeypatch.setattr(nodes_module, "SIGN_S", 0.0)
    monkeypatch.setattr("time.sleep", lambda seconds: first.look())
    with pytest.raises(Unavailable, match=r"node a runs already, as process 17 on h since \d{4}-.*journal\.node") as e:
        cluster.make("a", host="other", number=18).membership.join()
    assert e.value.reason == "busy"
    cluster.make("a", worker=1).membership.join()


def test_a_silent_namesake_loses_its_name_and_is_told_so(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = *cluster.join("a"), cluster.make("a", host="other", number=18)
    look_around(first)
    monkeypatch.setattr(nodes_module, "SILENCE_S", 0.0)
    second.membership.join()
    assert second.look() == set()  # the leases of the first have not ended
    monkeypatch.setattr(nodes_module, "SIGN_S", 0.0)
    assert first.look() == set()
    assert second.look() == {0, 1, 2, 3}
    second.stop()
    assert first.look() == {0, 1, 2, 3}


def test_a_node_that_was_killed_takes_over_from_itself_at_once(cluster: Cluster) -> None:
    killed = cluster.make("a", machine=name_machine(), number=GONE)
    killed.membership.join()
    assert killed.look() == {0, 1, 2, 3}
    again = cluster.make("a")
    again.membership.join()
    assert again.look() == {0, 1, 2, 3}


def test_a_node_that_was_stopped_joins_again_at_once(cluster: Cluster) -> None:
    (first,) = cluster.join("a")
    first.look()
    first.stop()
    (again,) = cluster.join("a")
    assert again.look() == {0, 1, 2, 3}


def test_two_processes_that_join_at_once_do_not_both_get_the_name(cluster: Cluster) -> None:
    first, second = cluster.make("a").membership, cluster.make("a").membership
    assert first._register(is_other_silent=False) is None
    assert second._register(is_other_silent=False) is not None


def test_everybody_reads_which_processes_run_and_what_they_report(cluster: Cluster) -> None:
    first, second, third = cluster.join("a", "b", "c")
    look_around(first, second, third)
    first.membership.report(b'{"of": "a"}', {"ingest": "1", "connector.heap": "2"})
    third.membership.report(b"old", {})
    third.stop()
    again = cluster.make("c", host="other")
    again.membership.join()
    cluster.silence("a")
    second.membership.leave()
    with cluster.database.use() as db:
        found = read_processes(db)
    assert [(one.node, one.state, one.partitions, one.host) for one in found] == [
        ("a", "away", [0, 1], "h"),
        ("b", "stopped", [2], "h"),
        ("c", "running", [], "other"),
    ]
    assert (found[0].status, found[0].tables) == (b'{"of": "a"}', {"ingest": "1", "connector.heap": "2"})
    assert found[2].status == b"", "a report is of one run of a process"
    assert all(0 <= one.silent < 60 and 0 <= one.age < 60 for one in found)


def test_commands_find_a_cluster_whose_first_relay_has_no_partition_yet(cluster: Cluster) -> None:
    with cluster.database.use() as db:
        assert not has_run(db)
        cluster.join("a")
        assert has_run(db)


def test_nodes_that_ended_long_ago_are_forgotten(cluster: Cluster) -> None:
    (old,) = cluster.join("a")
    old.membership.report(b"{}", {})
    with cluster.database.use() as db:
        db.run("UPDATE $.node SET seen = seen - interval '25 hours'")
        db.run("UPDATE $.node_report SET at = at - interval '25 hours'")
    cluster.join("b")
    with cluster.database.use() as db:
        assert [one.node for one in read_processes(db)] == ["b"]
        assert db.run("SELECT count(*) FROM $.node_report").fetchone() == (0,)


def test_a_process_keeps_its_number_and_leaves_it_to_another(cluster: Cluster) -> None:
    assert [one.membership.slot for one in cluster.join("a", "b", "c")] == [0, 1, 2]
    with cluster.database.use() as db:
        db.run("UPDATE $.node SET until = '-infinity'")
        db.run("UPDATE $.node SET seen = seen - interval '2 days' WHERE node = 'b'")
    assert [one.membership.slot for one in cluster.join("c", "d", "a", "e")] == [2, 1, 0, 3]


def test_a_partition_that_its_process_cannot_open_goes_to_another(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = cluster.join("a", "b")
    b.failing = {3}
    assert (a.look(), b.look()) == ({0, 1}, {2})
    assert (a.look(), b.look()) == ({0, 1}, {2}), "others may have it once it was free for a while"
    monkeypatch.setattr(nodes_module, "LEFT_S", -1.0)
    assert (b.look(), a.look()) == ({2}, {0, 1, 3})
    monkeypatch.setattr(nodes_module, "LEFT_S", 15.0)
    assert a.look() == {0, 3}, "a keeps what others cannot open, and gives another one back"
    assert (a.look(), b.look()) == ({0, 3}, {1, 2})
