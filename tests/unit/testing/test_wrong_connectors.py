"""Each connector that is wrong on purpose is caught by the behaviour that is about its mistake, and by its sentence."""

import gc
import warnings

import pytest

from relay.testing import ConnectorSuite
from tests.unit.testing import wrong_connectors as wrong

NEVER_END = (wrong.RetriesForEver, wrong.SwallowsCancellation, wrong.GoesOnWhenCancelled)


def make_suite(connector):
    class Suite(ConnectorSuite):
        many = 20
        patience = 1.0 if connector in NEVER_END else 10.0
        limit = 3.0 if connector is wrong.BlocksForEver else 30.0

        def make(self, url, token, folder):
            return connector("chat", connector.Settings(type="chat", url=url, token=token), folder=folder)

    return Suite()


class TestGood(ConnectorSuite):
    many = 100

    def make(self, url, token, folder):
        return wrong.Good("chat", wrong.Good.Settings(type="chat", url=url, token=token), folder=folder)


CAUGHT = [
    (wrong.SwallowsErrors, "unavailable", "is called delivered, but has not arrived"),
    (wrong.SwallowsErrors, "refused", "is called delivered, but has not arrived"),
    (wrong.DeliversNothing, "whole", "is called delivered, but has not arrived"),
    (wrong.AcknowledgesEarly, "whole", "is called delivered, but has not arrived"),
    (wrong.OnlyTheFirst, "whole", "event 1 of 5 is called delivered, but has not arrived"),
    (wrong.BlocksTheLoop, "loop", "nothing else runs for 0.2 s at a time: .*wrong_connectors.py:"),
    (wrong.BlocksForEver, "whole", "and does not end: .*wrong_connectors.py:"),
    (wrong.BorrowsThreads, "threads", "Batch.lines: use self.run_blocking"),
    (wrong.BorrowsThreadsToErase, "threads", "repr: use self.run_blocking"),
    (wrong.LeaksItsSession, "leaves_nothing", "left behind: the open file socket:"),
    (wrong.SessionPerRequest, "reuse", "10 connections for ten batches"),
    (wrong.LeavesATask, "leaves_nothing", "left behind: the task 'ticker'"),
    (wrong.ClosesTheSharedSession, "whole", "Session is closed, at .*wrong_connectors.py:"),
    (wrong.OtherOrder, "outcomes", "is called refused or skipped, but has arrived|but has not arrived"),
    (wrong.FewerOutcomes, "whole", "1 outcomes for 5 events"),
    (wrong.RetriesForEver, "unavailable", "deliver did not return within 1 s, but waits at .*wrong_connectors.py:"),
    (wrong.SwallowsCancellation, "cancelled", "deliver has swallowed its cancellation"),
    (wrong.SwallowsCancellation, "hanging", "deliver goes on for 1 s after it was cancelled"),
    (wrong.GoesOnWhenCancelled, "hanging", "after it was cancelled, and waits at .*wrong_connectors.py:"),
    (wrong.DropsWhatItCannotEncode, "not_ascii", "event 1 of 5 is called delivered, but has not arrived"),
    (wrong.NeverTriesOddEvents, "no_user", "has not arrived: odd; if it cannot be taken"),
    (wrong.OneOddEventStopsAll, "tiny", "not delivered after 20 attempts: odd"),
    (wrong.LogsItsSecret, "secret", "the secret is in the log or the output"),
    (wrong.PrintsItsSecret, "secret", "the secret is in the log or the output"),
    (wrong.SaysItsSecret, "secret", "the secret is in an outcome"),
    (wrong.EmptySecret, "missing_secret", "an event was sent without the secret"),
    (wrong.RetriesRefusals, "rejected", "not delivered after 20 attempts: HTTP 400"),
    (wrong.RetriesRefusals, "pauses", "HTTP 401 does not pause"),
    (wrong.RefusesTroubles, "unavailable", "a passing trouble is taken for a lasting one"),
    (wrong.RefusesTroubles, "cut", "a passing trouble is taken for a lasting one"),
    (wrong.PausesForTroubles, "refused", "the outcome is Unauthorized, not Retry"),
    (wrong.ForgetsRetryAfter, "retry_after", "HTTP 429 with Retry-After: 7 is a wait of 0 s"),
    (wrong.ForgetsRetryAfter, "retry_after_date", "is a wait of 0 s"),
    (wrong.AnotherKeyEachTime, "same_request", "header idempotency-key: another at each attempt"),
    (wrong.AnotherBodyEachTime, "same_request", "body: another at each attempt"),
    (wrong.ForgetsTheId, "event_id", "has not arrived"),
    (wrong.KeepsBatches, "memory", "grows with each batch .*: seen by 40"),
    (wrong.NotReentrant, "two_at_once", "but has not arrived|outcomes for"),
    (wrong.SendsTwice, "whole", "an event arrived 2 times"),
    (wrong.FollowsRedirects, "redirect", "HTTP 302 is followed|does not pause"),
    (wrong.OwnMeaningOfStatuses, "pauses", "HTTP 401 parks events"),
    (wrong.OwnMeaningOfStatuses, "answers", "409 is refused"),
    (wrong.FragileClose, "closed_twice", "closed twice"),
    (wrong.NeedsOpenToClose, "never_opened", "buffer"),
    (wrong.OpensOnce, "reopened", "opened twice"),
    (wrong.SaysNothingOnOpen, "open_fails", "open says no sentence"),
    (wrong.ProbeSends, "probe", "probe has sent something"),
    (wrong.ProbeAlwaysPasses, "probe_fails", "probe finds a destination that is not there"),
    (wrong.TakesAnySetting, "unknown_setting", "surprise = 1 is taken"),
]


@pytest.mark.parametrize(("connector", "key", "sentence"), CAUGHT, ids=lambda one: getattr(one, "__name__", None))
def test_the_behaviour_catches(connector, key, sentence, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises((AssertionError, RuntimeError, AttributeError), match=sentence):
            make_suite(connector).run(key, tmp_path)
        gc.collect()


def test_a_lack_of_something_that_is_no_behaviour_is_named():
    with pytest.raises(TypeError, match=r"Mine\.lacks: there is no behaviour event_ids; did you mean event_id\?"):
        type("Mine", (ConnectorSuite,), {"lacks": {"event_ids": "nobody reads them"}})
