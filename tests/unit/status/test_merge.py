"""What several workers say, as one: sums, the worst state, the newest and the oldest moment."""

from typing import Any

import pytest
from msgspec.structs import replace

from relay.histogram import QUICK, Histogram
from relay.status.diagnosis import diagnose
from relay.status.merge import freeze, keep_counts, merge_statuses
from relay.status.model import (
    CertificateStatus,
    LastError,
    ListenerStatus,
    Refusing,
    RemovedConnector,
    ReplayStatus,
    Status,
    WorkerStatus,
)
from relay.store import ParkedTotal
from tests.unit.status.statuses import NOON, a_lane, a_source, a_status


def worker(source: dict[str, Any] | None = None, lane: dict[str, Any] | None = None, **given: Any) -> Status:
    return a_status(sources=[a_source(**(source or {}))], lanes=[a_lane(**(lane or {}))], **given)


def error(at: float) -> LastError:
    return LastError(at=at, reason=f"at {at}", status=None)


def refusing(since: float) -> Refusing:
    return Refusing(since=since, status=401, reason="no", deadline=None)


def quick(*values: float) -> Histogram:
    found = Histogram(QUICK)
    for value in values:
        found.observe(value)
    return found


@pytest.mark.parametrize(
    ("ones", "others", "both"),
    [
        ({"state": "working"}, {"state": "failing", "since": 5.0}, {"state": "failing", "since": 5.0}),
        ({"state": "paused", "since": 9.0}, {"state": "paused", "since": 5.0}, {"state": "paused", "since": 5.0}),
        ({"state": "failing", "since": 5.0}, {"state": "unauthorized", "since": 9.0},
         {"state": "unauthorized", "since": 9.0}),
        ({"state": "refusing", "since": 9.0}, {"state": "working"}, {"state": "refusing", "since": 9.0}),
        ({"state": "unauthorized", "since": 5.0}, {"state": "paused", "since": 9.0, "paused_until": 99.0},
         {"state": "paused", "since": 9.0, "paused_until": 99.0}),
        ({"unanswered": 3.0}, {"unanswered": 7.0}, {"unanswered": 7.0}),
        ({"state": "broken"}, {"state": "paused", "since": 9.0}, {"state": "broken", "since": None}),
        ({"breaker": "open", "next_try": 7.0, "state": "failing"}, {}, {"breaker": "open", "next_try": 7.0}),
        ({"oldest_pending": None}, {"oldest_pending": 3.0}, {"oldest_pending": 3.0}),
        ({"oldest_pending": 2.0}, {"oldest_pending": 3.0}, {"oldest_pending": 2.0}),
        ({"drained_in": None}, {"drained_in": 3.0}, {"drained_in": None}),
        ({"drained_in": 2.0}, {"drained_in": 3.0}, {"drained_in": 3.0}),
        ({"last_error": error(2.0)}, {"last_error": error(1.0)}, {"last_error": error(2.0)}),
        ({"outcomes": {"delivered": 1}}, {"outcomes": {"delivered": 2, "parked": 3}},
         {"outcomes": {"delivered": 3, "parked": 3}}),
        ({"pending": 1, "rate": 1.5, "accepted": 7}, {"pending": 2, "rate": 1.0, "accepted": 4},
         {"pending": 3, "rate": 2.5, "accepted": 11}),
        ({"attempt": quick(0.1)}, {"attempt": quick(0.2, 9.0)}, {"attempt": quick(0.1, 0.2, 9.0)}),
    ],
)  # fmt: skip
def test_a_connector_is_what_its_lanes_are_together(
    ones: dict[str, Any], others: dict[str, Any], both: dict[str, Any]
) -> None:
    for pair in ((ones, others), (others, ones)):
        (lane,) = merge_statuses([worker(lane=given) for given in pair], ()).lanes
        found = {name: getattr(lane, name) for name in both}
        if "attempt" in found:
            assert found.pop("attempt").counts == both["attempt"].counts
        assert found == {name: value for name, value in both.items() if name in found}


@pytest.mark.parametrize(
    ("ones", "others", "since"),
    [
        ({"refusing": refusing(10.0), "last": None}, {"last": None}, 10.0),
        ({"refusing": refusing(10.0), "last": 9.0}, {"last": 8.0}, 10.0),
        ({"refusing": refusing(10.0), "last": 9.0}, {"last": 11.0}, None),
        ({"refusing": refusing(10.0), "last": None}, {"refusing": refusing(12.0), "last": None}, 10.0),
        ({"refusing": refusing(10.0), "last": None}, {"refusing": refusing(12.0), "last": 11.0}, 12.0),
    ],
)
def test_a_source_refuses_everything_if_no_worker_takes_anything(
    ones: dict[str, Any], others: dict[str, Any], since: float | None
) -> None:
    for pair in ((ones, others), (others, ones)):
        (source,) = merge_statuses([worker(given) for given in pair], ()).sources
        assert (source.refusing.since if source.refusing else None) == since


def test_counts_of_workers_are_summed_and_parked_events_are_counted_once() -> None:
    parked = [ParkedTotal(source="braze", connector="heap", cause="refused", events=3)]
    source = {"accepted": 3, "requests": {"2xx": 1, "5xx": 2}, "last": 5.0}
    one, other = worker(source, {"parked_now": 9}, now=NOON + 1, started=1.0), worker(lane={"connector": "more"})
    both = merge_statuses([one, other], parked)
    assert (both.now, both.started, both.memory, both.cpu) == (NOON + 1, 1.0, 2 << 20, 72.0)
    assert (both.sources[0].accepted, both.sources[0].last) == (13, NOON - 2)
    assert both.sources[0].requests == {"2xx": 2, "4xx": 0, "5xx": 2}
    assert (both.journal.head, both.journal.capacity, both.journal.fill) == (20, 2000, 0.01)
    assert [(lane.connector, lane.parked_now) for lane in both.lanes] == [("heap", 3), ("more", 0)]
    assert both.parked == parked


def test_counters_go_on_when_a_process_ends_and_another_begins() -> None:
    last = worker({"accepted": 10, "duplicates": 4}, {"pending": 5, "parked": 2, "state": "failing", "since": 1.0})
    fresh = worker({"accepted": 1, "duplicates": 4}, {"pending": 3, "parked": 0}, started=NOON)
    both = merge_statuses([keep_counts(last), fresh], ())
    assert (both.sources[0].accepted, both.sources[0].duplicates) == (11, 4)
    lane = both.lanes[0]
    assert (lane.pending, lane.parked, lane.state, lane.accepted, lane.outcomes["delivered"]) == (
        3,
        2,
        "working",
        10,
        10,
    )
    assert (both.journal.head, both.journal.bytes, both.memory) == (10, 1800, 1 << 20)
    failed = replace(last, journal=replace(last.journal, refusing="full", unsaved="locked"))
    assert diagnose(merge_statuses([keep_counts(failed), fresh], ())).journal.ok
    away = freeze(last)
    assert (away.lanes[0].pending, away.lanes[0].rate, away.lanes[0].drained_in, away.memory) == (5, 0.0, None, 0)


def test_what_is_told_beside_the_counts_is_of_all_that_run() -> None:
    def one(number: int, *restart: str) -> Status:
        replay = ReplayStatus(number=number, connector="heap", settled=1, events=9, rate=2.0)
        gone = [
            RemovedConnector(connector="web", pending=number, later=5),
            RemovedConnector(connector=f"web{number}", pending=1),
        ]
        return worker(replays=[replay], gone=gone, restart=restart)

    both = merge_statuses([one(1, "log.level"), one(2, "log.level", "journal.path")], ())
    assert [replay.number for replay in both.replays] == [1, 2]
    kept = [(gone.connector, gone.pending, gone.later) for gone in both.gone]
    assert kept == [("web", 3, 10), ("web1", 1, 0), ("web2", 1, 0)]
    assert both.restart == ["log.level", "journal.path"]
    away, over = freeze(one(1, "log.level")), keep_counts(one(1, "log.level"))
    assert ([replay.rate for replay in away.replays], len(away.gone), len(away.restart)) == ([0.0], 2, 1)
    assert (*over.replays, *over.gone, *over.restart) == ()


def test_connections_are_summed_and_refusals_of_an_ended_worker_stay() -> None:
    one = ListenerStatus(connections=3, refused={"malformed": 2, "full": 0})
    status = worker(listeners={"ingest": one, "admin": replace(one, connections=1)})
    both = merge_statuses([status, worker(listeners={"ingest": one})], ())
    assert both.listeners["ingest"] == ListenerStatus(connections=6, refused={"malformed": 4, "full": 0})
    assert both.listeners["admin"].connections == 1
    for gone in (keep_counts(status), freeze(status)):
        assert gone.listeners["ingest"] == ListenerStatus(connections=0, refused={"malformed": 2, "full": 0})


def test_of_certificates_of_workers_the_first_to_end_is_shown() -> None:
    shown = [CertificateStatus(certificate="ingest", begins=0.0, ends=ends, files="") for ends in (9.0, 5.0, 7.0)]
    (one,) = merge_statuses([worker(certificates=[each]) for each in shown], ()).certificates
    assert one.ends == 5.0


def test_a_connector_that_still_runs_in_one_worker_is_not_removed() -> None:
    gone = worker(gone=[RemovedConnector(connector="web", pending=3), RemovedConnector(connector="old", pending=1)])
    both = merge_statuses([gone, worker(lane={"connector": "web"})], ())
    assert [one.connector for one in both.lanes] == ["heap", "web"]
    assert [one.connector for one in both.gone] == ["old"]


def test_a_worker_that_is_away_or_nearly_full_needs_a_look() -> None:
    journal = a_status().journal
    seen = WorkerStatus(worker=0, away=False, started=NOON, memory=1, journal=journal)
    workers = [
        seen,
        replace(seen, worker=1, away=True),
        replace(seen, worker=2, away=True, journal=None),
        replace(seen, worker=3, journal=replace(journal, needed=900)),
    ]
    found = diagnose(a_status(workers=workers))
    assert not found.ok
    assert [(one.ok, one.said) for one in found.workers] == [
        (True, "worker 0: journal: 1% of what it may take is still needed"),
        (False, "worker 1: is away, and started again if it has died; its part is shown as it was last"),
        (False, "worker 2: is away, and started again if it has died; its part is missing here"),
        (
            False,
            "worker 3: journal: 90% of what it may take is still needed; raise journal.max_size in conf.d, then relay"
            " reload",
        ),
    ]


@pytest.mark.parametrize(
    ("lane", "most", "seconds"),
    [
        ({"state": "refusing", "parked_rate": 10.0}, 100_000, 700.0),
        ({"state": "refusing", "parked_rate": 10.0}, 0, None),
        ({"state": "refusing"}, 100_000, None),
        ({"state": "working", "parked_rate": 10.0}, 100_000, None),
    ],
)
def test_the_time_until_parked_reach_max_size_is_known_during_refusals(
    lane: dict[str, Any], most: int, seconds: float | None
) -> None:
    parked = [
        ParkedTotal(source="braze", connector="heap", cause="rejected", events=1000, bytes=10_000),
        ParkedTotal(source="braze", connector=None, cause="unreadable", events=1, bytes=20_000),
    ]
    (found,) = merge_statuses([worker(lane=lane)], parked, parked_most=most).lanes
    assert found.parked_full_in == seconds
