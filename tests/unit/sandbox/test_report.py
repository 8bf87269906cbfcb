import pytest

from relay.sandbox.braze.current import CurrentCounts
from relay.sandbox.report import ReportedLane, Result, format_progress, format_result
from relay.store import Counts as Outcomes
from relay.store import Ledger


def result(*, accepted=101, parked_at_source=1, ledger_accepted=100, arrived=60, **outcomes) -> Result:
    outcomes = {"delivered": 60, "unselected": 30, "filtered": 6, "parked": 4} | outcomes
    lane = ReportedLane("heap", Ledger(ledger_accepted, Outcomes(**outcomes)), arrived)
    return Result(sent=101, accepted=accepted, unreadable=1, parked_at_source=parked_at_source, lanes=[lane])


def test_a_ledger_that_agrees_with_arrivals_balances():
    good = result()
    assert good.all_balance
    assert good.make_rows() == [
        {
            "connector": "heap",
            "accepted": 100,
            "wanted": 70,
            "delivered": 60,
            "unselected": 30,
            "filtered": 6,
            "parked": 4,
            "pending": 0,
            "arrived": 60,
            "balances": True,
        }
    ]
    assert "sent 101, accepted (2xx) 101, parked at the source 1 (1 sent unreadable on purpose)" in format_result(good)
    assert format_result(good).endswith("Everything balances.")


@pytest.mark.parametrize(
    "wrong",
    [
        {"arrived": 59},
        {"arrived": 61},
        {"delivered": 59, "arrived": 59},
        {"ledger_accepted": 99, "filtered": 5},
        {"parked_at_source": 0},
        {"parked_at_source": 2, "ledger_accepted": 99, "filtered": 5},
        {"accepted": 100, "ledger_accepted": 99, "filtered": 5},
    ],
)
def test_a_gap_anywhere_is_seen(wrong):
    assert not result(**wrong).all_balance
    assert "NOT" in format_result(result(**wrong))


def test_without_a_lane_nothing_is_proved():
    assert not Result(sent=1, accepted=1, unreadable=1, parked_at_source=1, lanes=[]).all_balance


def test_progress_is_one_line():
    ledgers = {"archive": Ledger(1000, Outcomes(delivered=900)), "heap": Ledger(1000, Outcomes(unselected=1000))}
    line = format_progress(CurrentCounts(sent=1200, accepted=1100), ledgers)
    assert line == ("1,200 sent, 1,100 accepted | archive 900 delivered, 100 pending | heap 0 delivered, 0 pending")
