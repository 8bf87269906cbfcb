"""What is wrong, as values: from the same code as the words of `/health`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.kinds import CONDITIONS
from relay.status.conditions import find_conditions
from relay.status.diagnosis import describe_lane, diagnose
from relay.status.model import CertificateStatus, LastError, RefusedReload, Refusing, WorkerStatus
from relay.store import Doubt, FailingErasures
from tests.unit.status.statuses import NOON, a_lane, a_source, a_status

MORNING = NOON - 7080
HARMLESS = ("parked", "certificate_expiring")
"""What is worth a word, and no failure yet."""
FULL = replace(a_status().journal, refusing="No space left on device")
FILLING = replace(a_status().journal, needed=900)
REFUSING = Refusing(since=MORNING, status=401, reason="wrong bearer token", deadline=NOON + 86400)
ERROR = LastError(at=NOON - 3, reason="HTTP 503: busy", status=503, event_type="users.canvas.Entry", event_id="e-1")


def until(days: float, begun: float = 90) -> CertificateStatus:
    return CertificateStatus(certificate="ingest", begins=NOON - begun * 86400, ends=NOON + days * 86400)


CASES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, []),
    ({"lanes": [a_lane(state="paused", since=MORNING)]}, [("paused", "connector heap")]),
    ({"lanes": [a_lane(state="unauthorized")]}, [("unauthorized", "connector heap")]),
    ({"lanes": [a_lane(state="refusing", last_error=ERROR)]}, [("refusing", "connector heap")]),
    ({"lanes": [a_lane(state="failing", last_error=ERROR)]}, [("failing", "connector heap")]),
    ({"lanes": [a_lane(state="broken", last_error=ERROR)]}, [("broken", "connector heap")]),
    ({"lanes": [a_lane(pending=5, oldest_pending=NOON - 90)]}, [("behind", "connector heap")]),
    (
        {"lanes": [a_lane(state="failing", last_error=ERROR, parked_now=3)]},
        [("failing", "connector heap"), ("parked", "connector heap")],
    ),
    ({"sources": [a_source(refusing=REFUSING)]}, [("source_refusing", "source braze")]),
    ({"sources": [a_source(incomplete=1)]}, [("source_incomplete", "source braze")]),
    ({"sources": [a_source(parked_now=9)]}, [("parked", "source braze")]),
    ({"journal": FULL}, [("journal_full", "journal")]),
    ({"journal": FILLING}, [("journal_filling", "journal")]),
    ({"journal": replace(FULL, refusing=None, unsaved="locked")}, [("database_failing", "journal")]),
    ({"failing_erasures": [FailingErasures("heap", 1, NOON - 86400, "no")]}, [("erasure_failing", "connector heap")]),
    ({"failing_erasures": [FailingErasures("heap", 1, MORNING, "no")]}, []),
    ({"failing_erasures": [FailingErasures(None, 1, MORNING, "no room")]}, [("erasure_failing", "erasures")]),
    ({"doubts": [Doubt(worker=0, what="clock", said="it is ahead")]}, [("doubt", "clock")]),
    ({"doubts": [Doubt(worker=0, what="journal", said="no", is_damage=True)]}, [("damaged", "journal")]),
    ({"refused_reload": RefusedReload(at=MORNING, said="60-heap.toml:1: no")}, [("reload_refused", "relay")]),
    ({"unopened": {2: "its books are torn"}}, [("partition_unopened", "partition 2")]),
    ({"certificates": [until(90)]}, []),
    ({"certificates": [until(13)]}, [("certificate_expiring", "certificate ingest")]),
    ({"certificates": [until(-1)]}, [("certificate_expired", "certificate ingest")]),
    ({"certificates": [until(90, begun=-1)]}, [("certificate_expired", "certificate ingest")]),
    (
        {
            "journal": FULL,
            "workers": [
                WorkerStatus(worker=0, away=False, started=NOON, memory=0, journal=FULL),
                WorkerStatus(worker=1, away=True, started=None, memory=0, journal=None),
                WorkerStatus(worker=2, away=False, started=None, memory=0, journal=None),
            ],
        },
        [("journal_full", "journal of worker 0"), ("worker_lost", "worker 1")],
    ),
]


@pytest.mark.parametrize(("wrong", "found"), CASES)
def test_what_is_wrong_by_kind_and_subject(wrong: dict[str, Any], found: list[tuple[str, str]]) -> None:
    status = a_status(**wrong)
    assert [one.key for one in find_conditions(status)] == found
    assert {kind for kind, _ in found} <= {*CONDITIONS}
    assert diagnose(status).ok is not any(kind not in HARMLESS for kind, _ in found)


@given(st.lists(st.sampled_from([case for case, _ in CASES])))
def test_health_is_bad_exactly_if_something_is_wrong(several: list[dict[str, Any]]) -> None:
    status = a_status()
    for one in several:
        status = replace(status, **one)
    if status.workers:  # theirs together
        status = replace(status, journal=FULL)
    wrong = any(one.kind not in HARMLESS for one in find_conditions(status))
    assert diagnose(status).ok is not wrong
    assert len({one.key for one in find_conditions(status)}) == len(find_conditions(status))


def test_a_condition_says_what_health_says_and_what_is_known() -> None:
    lane = a_lane(state="failing", since=MORNING, last_error=ERROR, pending=12, oldest_pending=NOON - 60, next_try=4.0)
    (one,) = find_conditions(a_status(lanes=[lane]))
    assert (one.sentence, one.since) == (describe_lane(lane, NOON), MORNING)
    assert one.facts == {
        "pending": 12,
        "oldest_s": 60.0,
        "drained_in_s": 0.0,
        "last_error": {"at": NOON - 3, "reason": "HTTP 503: busy", "status": 503},
        "event": {"type": "users.canvas.Entry", "id": "e-1"},
        "do": "relay tries again in 4s; the destination has to recover",
    }


def test_a_source_that_refuses_says_by_when_its_sender_stops() -> None:
    (one,) = find_conditions(a_status(sources=[a_source(refusing=REFUSING)]))
    assert (one.since, one.facts["deadline"], one.facts["last_accepted"]) == (MORNING, NOON + 86400, NOON - 2)
    assert one.facts["last_error"] == {"reason": "wrong bearer token", "status": 401}


def test_parked_events_have_a_sentence_beside_the_sentence_on_the_lane() -> None:
    lane = a_lane(state="refusing", since=MORNING, last_error=ERROR, parked_now=3)
    refusing, parked = find_conditions(a_status(lanes=[lane]))
    assert refusing.sentence == describe_lane(lane, NOON)
    assert parked.sentence == "heap: 3 parked (relay parked list --connector heap)"
    (source,) = find_conditions(a_status(sources=[a_source(parked_now=9)]))
    assert source.sentence == "braze: 9 parked (relay parked list --source braze --cause unreadable)"
