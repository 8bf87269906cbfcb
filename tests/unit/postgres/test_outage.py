"""An outage of the database is said once, and so is its end."""

import pytest
from structlog.testing import capture_logs

from relay.postgres.outage import QUIET_S, UNTRIED_S, Outage
from relay.store import Unavailable


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    monkeypatch.setattr("relay.postgres.outage.time.monotonic", lambda: _clock[0])
    return Outage()


_clock = [1000.0]


def fail(outage: Outage, said: str, *, is_late: bool = False) -> None:
    _clock[0] += 0.1
    error = Unavailable(said)
    outage.note_failure(error, is_late=is_late)
    assert error.is_logged


def answer(outage: Outage, after_s: float, *, is_commit: bool = False) -> None:
    _clock[0] += after_s
    outage.note_answer(is_commit=is_commit)


def test_an_outage_is_logged_with_the_first_reason_and_its_length(outage: Outage) -> None:
    with capture_logs() as logs:
        answer(outage, 1)
        fail(outage, "the server is going down")
        fail(outage, "nobody listens")
        answer(outage, 7)
        answer(outage, 1)
    assert logs == [
        {"event": "the database is away", "reason": "the server is going down", "log_level": "error"},
        {"event": "the database is back", "after_s": 7.1, "log_level": "info"},
    ]


def test_answers_between_failures_do_not_end_an_outage(outage: Outage) -> None:
    with capture_logs() as logs:
        fail(outage, "gone")
        answer(outage, QUIET_S / 2)
        fail(outage, "gone")
        answer(outage, QUIET_S / 2)
        assert len(logs) == 1
        answer(outage, QUIET_S)
    assert [line["event"] for line in logs] == ["the database is away", "the database is back"]


def test_reads_do_not_end_an_outage_in_which_commits_wait(outage: Outage) -> None:
    with capture_logs() as logs:
        fail(outage, "no answer within 10 s", is_late=True)
        answer(outage, 60)
        assert len(logs) == 1
        answer(outage, 1, is_commit=True)
    assert logs[-1] == {"event": "the database is back", "after_s": 61.0, "log_level": "info"}


def test_a_single_failure_is_no_outage_for_load_balancers(outage: Outage) -> None:
    fail(outage, "this session was ended by an admin")
    assert outage.reason is None
    fail(outage, "nobody listens")
    assert outage.reason == "nobody listens"
    answer(outage, QUIET_S)
    assert outage.reason is None


def test_while_commits_wait_a_process_without_leases_lets_senders_try(outage: Outage) -> None:
    for _ in range(2):
        fail(outage, "no answer", is_late=True)
        answer(outage, 1)
    assert outage.reason == "no answer"
    answer(outage, UNTRIED_S)
    assert outage.reason is None
    fail(outage, "no answer", is_late=True)
    assert outage.reason == "no answer"


def test_no_node_is_ready_while_its_tables_are_lost(outage: Outage) -> None:
    outage.note_loss(Unavailable("relay's tables are not there", "missing"))
    assert outage.reason == "relay's tables are not there"
    outage.note_tables()
    assert outage.reason is None
