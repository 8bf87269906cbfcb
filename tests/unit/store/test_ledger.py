"""What the ledgers say of a loss."""

from relay.store import Cursor, LaneLedger, describe_missed


def test_a_loss_names_who_lacks_which_events_and_who_had_all() -> None:
    lanes = [
        LaneLedger("mail", 30, Cursor(0, 8, [(12, 14), (18, 30)])),
        LaneLedger("heap", 30, Cursor(0, 15, [(16, 20)])),
        LaneLedger("archive", 20, Cursor(0, 20)),
        LaneLedger("file", 20, Cursor(25, 25)),
    ]
    said = "of these, heap had not got 1 (15), mail had not got 6 (10-11, 14-17), archive, file had got all"
    assert describe_missed(lanes, 10, 20) == said
    assert describe_missed([], 10, 20) == "of these, no connector had got any"


def test_events_since_a_lane_ended_count_while_the_journal_has_them() -> None:
    ended = LaneLedger("mail", 30, Cursor(0, 25))
    assert [ended.count_later(oldest, 50) for oldest in (0, 30, 45, 50)] == [20, 20, 5, 0]
    assert ended.count_later(0, 30) == 0
