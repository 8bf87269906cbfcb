"""A destination: what the lane of a connector and the replays beside the lane share of it."""

import random
import time
from contextlib import suppress
from typing import Final

from relay.api import Batch, Connector, ConnectorSettings
from relay.config import Redaction
from relay.deliver.attempts import AttemptLog, AttemptMetrics
from relay.deliver.concurrency import ConcurrencyLimit, InFlightLimit
from relay.deliver.health import Health
from relay.deliver.rate_limit import RateLimit
from relay.deliver.result import AttemptResult
from relay.deliver.retry import Breaker

ID_CHARS: Final = 200
"""Longest event id that the status shows, in characters."""


class SharedDestination:
    """Hold what the destination of one connector bears, and how it fares. Each connector has exactly one.

    A `Delivery` is one way to a destination: the lane has one, and so has each replay."""

    def __init__(self, connector: Connector, settings: ConnectorSettings, *, keeps_order: bool) -> None:
        """`keeps_order`: the destination needs the events of one key in their order."""
        self.connector, self.settings, self.keeps_order = connector, settings, keeps_order
        self.name = connector.name
        self.health = Health(self.name)
        """Whether deliveries get through, and if not, why."""
        self.breaker = Breaker()
        """Whether attempts may go: not while the destination is down or an admin pauses the connector."""
        self.metrics = AttemptMetrics()
        self.attempt_log = AttemptLog(self.name)
        self.in_flight = InFlightLimit(settings.concurrency)
        self.concurrency_limit = ConcurrencyLimit(settings.concurrency)
        self.rate_limit = RateLimit(settings.rate)
        self.redact = Redaction(settings).clean
        """Takes out of a text what must not be logged or stored."""
        self.random = random.Random()
        """Jitter of the backoff."""

    def record_attempt(self, batch: Batch, result: AttemptResult, began: float) -> None:
        """Record what an attempt came to, in metrics, health, breaker and concurrency limit. The attempt began at
        `began`, in monotonic seconds, and ends now."""
        took = time.monotonic() - began
        self.metrics.count_attempt(result, took)
        if result.delivered:
            self.health.record_delivered()
        elif result.refused and not result.split:
            last = result.refused[-1]
            self.health.event = _type_and_id(batch, last.number)
            self.health.record_refusal(last.reason, last.status)
        if result.settles_any:
            self.breaker.record_success()
            self.health.record_success(began)
            self.concurrency_limit.record_answer(took)
        elif any(why.bug for why in result.deferred):
            self.breaker.record_bug()
        elif all(why.alone for why in result.deferred):  # the connector needed no answer, or got none
            self.breaker.record_no_result()

    def record_deferred(self, batch: Batch, result: AttemptResult, wait: float) -> None:
        """Record in the health that events of a batch are tried again, the first of them in `wait` seconds."""
        for why in result.deferred:
            if not why.alone or why.unauthorized:
                self.health.event = _type_and_id(batch, why.numbers[0])
            if why.unauthorized:
                self.health.record_unauthorized(why.reason, why.status, wait)
            elif not why.alone:
                fields = {"events": len(why.numbers), "attempt": batch.attempt, "next_try_s": round(wait, 3)}
                self.health.record_failure(why.reason, why.status, **fields)

    def hold_back(self, result: AttemptResult, until: float) -> None:
        """Send less after a failed attempt, which is tried again at `until`, in monotonic seconds."""
        asked = any(why.unauthorized or (why.after is not None and not why.alone) for why in result.deferred)
        self.breaker.record_failure(until, at_once=asked)
        self.concurrency_limit.record_push_back()


def _type_and_id(batch: Batch, number: int) -> tuple[str, str]:
    """Return type and id of an event, for people who look for an event that was not delivered."""
    (event,) = batch.pick([number])
    with suppress(ValueError, LookupError):
        return event.type, event.id[:ID_CHARS]
    return event.type, ""
