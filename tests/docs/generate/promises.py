"""The ten promises of relay: the text of each stands here and nowhere else. Tests are marked `promise(N)`."""

from typing import Final, NamedTuple


class Promise(NamedTuple):
    """One promise."""

    short: str
    """The promise in a sentence."""
    text: str
    """What it means exactly, in Markdown."""


PROMISES: Final[dict[int, Promise]] = {
    1: Promise(
        "2xx means on disk.",
        "relay answers after the fsync of the commit that holds the event, or after the COMMIT of a"
        " [database](../guide/cluster.md#what-survives-what). `kill -9` or a power cut after a 2xx loses nothing."
        " By itself, relay removes an undelivered event later only under"
        ' `journal.on_full = "expire_oldest"` and the limits in `[parked]`. relay counts such events. Pending events'
        " of a removed or disabled connector stay for `journal.retention` only. Erasures, `relay forget` and"
        " `relay parked drop` give up events, too.",
    ),
    2: Promise(
        "Nothing vanishes.",
        """
For every connector:

```
accepted = delivered + unselected + filtered + parked + expired + damaged + erased + pending
```

- *Unselected*: the `events` of the connector do not select the event.
- *Filtered*: a filter has dropped the event, or the connector has no use for the event.
- *Parked*: the event was refused for good, and waits for an admin ([parked events](../guide/parked.md)).
- *Expired*: the event had to leave the journal before its turn came.
- *Damaged*: relay could not read the event in the journal when the event's turn came.
- *Erased*: the event was of a user who was erased.
- *Pending*: the event waits for its delivery.

relay saves the counts in one transaction with the position that they belong to. `relay audit` proves the equation.
`accepted` counts from the moment when the connector began. Replays have their own counts outside this equation.
""",
    ),
    3: Promise(
        "A dead destination costs only disk, as long as there is disk.",
        "Each connector reads the journal from its own position. A dead destination slows no other connector, and"
        " memory does not grow. When the journal reaches `journal.max_size`, or its disk is full, senders get 503 and"
        " keep their events, unless `journal.on_full` says otherwise.",
    ),
    4: Promise(
        "Bytes in = bytes out.",
        "relay passes an event on as the exact bytes that came, unless a filter or an erasure has changed the event."
        " In files and NDJSON an event is one line: line breaks between its tokens become spaces. `heap` in the mode"
        " `api` and `braze_cohorts` translate events. Unknown event types and fields pass.",
    ),
    5: Promise(
        "Senders get precise answers.",
        """
- 400: only if the body does not have the format of the source. relay parks a bad event in a good batch with the
  reason, and accepts the other events.
- 401: only for a wrong token or signature.
- 403: only from addresses that the source's `allow` does not name.
- 413: only over the size limit.
- 429, with `Retry-After`: only beyond the source's `rate`.
- 503, with `Retry-After`, if relay cannot accept events now:
  - The journal or its disk has no room, or cannot be written.
  - The body has unreadable entries, and `relay.db` has no room, cannot be written, or is locked.
  - Requests use up `ingest.max_in_flight`, or every connection of `ingest.max_connections` has a request.
  - relay stops.
  - A worker is away. With several workers, some events need the first worker.

[Sources](../guide/sources.md#causes-of-503) has each cause with its words.
[Troubleshooting](../guide/troubleshooting.md#the-sender-gets-an-error) has the rarer statuses, such as 408
and 415.

Braze's empty probes check the token and do nothing.
""",
    ),
    6: Promise(
        "At least once, with bounded duplicates.",
        "After a crash a connector sends at most its `window` of events again, with the same event ids. After `kill"
        " -9` the connector sends the same batches. The type `http` then uses the same `Idempotency-Key`. After a"
        " power cut, relay may group the events into other batches. A clean stop sends nothing twice, if"
        " destinations answer within the drain budget (`runtime.drain`).",
    ),
    7: Promise(
        "A bad configuration never replaces a good one.",
        "relay does not start with a bad configuration, and a reload leaves the old configuration in force. relay names"
        " every mistake at once, with file and line.",
    ),
    8: Promise(
        "Memory is bounded.",
        "The limits include Python objects, not only bytes of events: `ingest.max_in_flight`,"
        " `ingest.max_connections` and `journal.memory`. Each connector may use `concurrency` x `batch`, or its"
        " `memory` if `memory` is more. The last events that each connector read from disk come on top.",
    ),
    9: Promise(
        "Secrets are references.",
        "No log, error or parked reason has a secret of 4 characters or more. A destination's answer or an exception"
        " may repeat a secret of its connector: `...` then stands for the secret. `...` also stands for everything"
        " after the host in a connector's URL.",
    ),
    10: Promise(
        "Order is kept where it is asked for.",
        "Order is not promised in general, and Braze does not promise it either. A connector with `order_by` keeps the"
        " order of the events of one key.",
    ),
}
