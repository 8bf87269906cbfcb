"""Messages about what goes out: deliveries, parked events, replays, erasures."""

from typing import Final

from relay.log_messages.message import Message

DELIVERIES: Final = (
    Message(
        "delivery failed, will be tried again",
        "warning",
        "The destination did not take a batch. The events wait and are tried again, ever later.",
        "Look at `reason` and at the destination if it lasts.",
    ),
    Message(
        "destination does not accept relay",
        "error",
        "The destination refuses relay's credentials or address (401, 403 and the like). The events wait.",
        "Mend the credentials, then run `relay resume NAME`.",
    ),
    Message(
        "destination refuses everything",
        "error",
        "The destination has refused for good every event of the last attempts. Each event is parked.",
        "Run `relay pause NAME`, look with `relay parked show NUMBER`, mend, then `relay parked replay`.",
    ),
    Message("destination takes events again", "info", "The destination has taken an event after it refused all."),
    Message("deliveries work again", "info", "A delivery has got through after failures."),
    Message(
        "connector raised",
        "error",
        "A bug in a connector. Its events wait, or the one at fault is parked with the cause `bug`.",
        "Mend the connector that the traceback names.",
    ),
    Message(
        "connector cannot be opened, tried again",
        "error",
        "`open` of a connector has failed or took longer than `open_timeout`. Its events wait.",
        "Look at `reason`.",
    ),
    Message(
        "filter cannot be opened, tried again",
        "error",
        "`open` of a filter has failed or took longer than `open_timeout`. The connector's events wait.",
        "Look at `reason`.",
    ),
    Message("connector is not open yet", "warning", "`open` of a connector takes long. Its events wait."),
    Message("filter is not open yet", "warning", "`open` of a filter takes long. The connector's events wait."),
    Message("connector is open", "info", "A connector has opened after a failure or a delay."),
    Message("filter is open", "info", "A filter has opened after a failure or a delay."),
    Message(
        "connector did not close",
        "error",
        "`close` of a connector has failed or took too long. relay goes on without it.",
        "Mend the connector that the traceback names.",
    ),
    Message(
        "filter did not close",
        "error",
        "`close` of a filter has failed or took too long. relay goes on without it.",
        "Mend the filter that the traceback names.",
    ),
    Message(
        "connector gave no key",
        "error",
        "`key` of a connector has raised an error. The event goes out without an order.",
        "Mend the connector that the traceback names.",
    ),
    Message(
        "lane failed, starts again",
        "error",
        "A bug in the delivery to one connector. relay starts the delivery again after `in_s` seconds."
        " Other connectors go on.",
        "Report the traceback.",
    ),
    Message("lane paused by an admin", "info", "`relay pause` holds the connector's events."),
    Message("lane goes on", "info", "The pause of a connector is over."),
    Message("tried again at once, as an admin asks", "info", "`relay resume` has ended the wait for the next attempt."),
    Message(
        "events expired",
        "error",
        "Events had to leave the journal before this connector got them. They are lost for the connector.",
        "Raise `journal.retention` or `journal.max_size`, or mend the destination.",
    ),
    Message(
        "events are damaged",
        "error",
        "The journal could not read events when their turn came. They are lost for this connector.",
        "Put a good copy of the file back or run `relay journal repair`, then `relay replay`.",
    ),
)

PARKED: Final = (
    Message(
        "event parked",
        "warning",
        "The destination, or the connector, has refused an event for good. The event is parked (dead letter).",
        "Look with `relay parked list`. Mend the cause, then run `relay parked replay NUMBER`.",
    ),
    Message(
        "events parked: a filter failed",
        "warning",
        "A filter has raised an error for these events. They are parked with the cause `filter`.",
        "Mend the filter, then run `relay parked replay --cause filter`.",
    ),
    Message(
        "events parked behind an earlier one",
        "warning",
        "An earlier event of the same key is parked, and `after_parked` wants the later ones to wait for it.",
        "Replay the earlier event: `relay parked list --cause order` shows what waits.",
    ),
    Message(
        "parking failed, will be tried again",
        "error",
        "`relay.db` does not take parked events. The connector waits.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    Message(
        "parked events removed",
        "warning",
        "`parked.retention`, `parked.max_size` or a full disk has removed parked events. They are lost.",
        "Raise the setting that `reason` names, or replay parked events sooner.",
    ),
    Message(
        "removing parked events failed, will be tried again",
        "error",
        "`relay.db` does not let parked events be removed.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    Message(
        "parked events replayed",
        "info",
        "Parked events were tried again. `parked_again` says how many of them are parked still.",
    ),
    Message(
        "parked events delivered, as they were not settled",
        "info",
        "After a crash relay has delivered events that were parked before their batch was settled.",
    ),
)

REPLAYS: Final = (
    Message("replay begins", "info", "A replay has begun, or goes on after a restart."),
    Message("replay is done", "info", "A replay has delivered its range. The line has the counts."),
    Message("replay stopped", "info", "A replay has ended before its end: relay stops, or an admin has cancelled it."),
    Message("replay rests", "debug", "A replay waits while an erasure rewrites the journal."),
)

ERASURES: Final = (
    Message("erasures asked for", "info", "Events have asked for the erasure of users (`erasure.on`)."),
    Message(
        "an event asks for an erasure but names no user",
        "warning",
        "An event of a type in `erasure.on` has neither a user id nor an external id. Nobody is erased.",
        "Look at the event with `relay journal dump --from OFFSET --limit 1`.",
    ),
    Message(
        "users erased from journal and tables",
        "info",
        "Journal and parked events no longer have the events of these users.",
    ),
    Message("erasures done", "info", "All connectors have answered. relay has forgotten the ids of these users."),
    Message(
        "erasing failed, will be tried again",
        "error",
        "The journal or the database could not be rewritten. relay tries again after `in_s` seconds.",
        "Look at `error`: often the disk has no room for one more segment, or the journal is damaged.",
    ),
    Message(
        "erasing failed at the connector",
        "error warning",
        "A connector could not erase users at its destination. relay tries again."
        " At level error the destination refuses, or does not accept relay.",
        "Look at `reason`. `relay erasures list` shows what is still to do.",
    ),
    Message(
        "connector is gone but has users to erase",
        "warning",
        "A connector that has not confirmed erasures is not configured any more.",
        "Configure the connector again under this name, or run `relay forget NAME`.",
    ),
    Message(
        "erasures cannot be read",
        "error",
        "The database does not answer. The connector's erasures wait.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    Message(
        "erasures cannot be kept",
        "error",
        "The database does not take a connector's answers to erasures. The connector is called again after the start.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    Message(
        "looking for erasures failed, goes on",
        "error",
        "The search of the journal for erasures has failed. relay tries again after `in_s` seconds.",
        "Look at `error`.",
    ),
    Message(
        "a damaged segment that was kept is removed: it names an erased user",
        "warning",
        "A file `NAME.log.damaged` held events of an erased user. relay has removed the file.",
    ),
    Message(
        "a worker that does not run erases at its next start",
        "warning",
        "A former worker's folder holds events of the user. Its erasure waits for the worker.",
        "Start relay with as many workers as before, until `relay erasures show` says done.",
    ),
)
