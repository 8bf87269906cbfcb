"""Messages about what goes out: deliveries, parked events, replays, erasures."""

from typing import Final

from relay.log_messages.message import LogMessage

DELIVERIES: Final = (
    LogMessage(
        "delivery failed, will be tried again",
        "warning",
        "The destination did not take a batch. The events wait, and relay tries again with longer and longer waits.",
        "Look at `reason` and at the destination if it lasts.",
    ),
    LogMessage(
        "destination does not accept relay",
        "error",
        "The destination refuses relay's credentials or address (401, 403 and the like). The events wait.",
        "Correct the secret, then run `relay reload`; for a systemd credential restart relay. If the destination was at"
        " fault, run `relay resume NAME`.",
    ),
    LogMessage(
        "destination refuses everything",
        "error",
        "The destination has refused for good every event of the last attempts. Each event is parked.",
        "Run `relay pause NAME`, look with `relay parked show NUMBER`, repair, then `relay parked replay`.",
    ),
    LogMessage("destination takes events again", "info", "The destination has taken an event after it refused all."),
    LogMessage("deliveries work again", "info", "A delivery has got through after failures."),
    LogMessage(
        "connector raised",
        "error",
        "A bug in a connector. Its events wait, or the one at fault is parked with the cause `bug`.",
        "Repair the connector that the traceback names.",
    ),
    LogMessage(
        "connector cannot be opened, tried again",
        "error",
        "`open` of a connector has failed or took longer than `open_timeout`. Its events wait.",
        "Look at `reason`.",
    ),
    LogMessage(
        "filter cannot be opened, tried again",
        "error",
        "`open` of a filter has failed or took longer than `open_timeout`. The connector's events wait.",
        "Look at `reason`.",
    ),
    LogMessage("connector is not open yet", "warning", "`open` of a connector takes long. Its events wait."),
    LogMessage("filter is not open yet", "warning", "`open` of a filter takes long. The connector's events wait."),
    LogMessage("connector is open", "info", "A connector has opened after a failure or a delay."),
    LogMessage("filter is open", "info", "A filter has opened after a failure or a delay."),
    LogMessage(
        "connector did not close",
        "error",
        "`close` of a connector has failed or took too long. relay goes on without it.",
        "Repair the connector that the traceback names.",
    ),
    LogMessage(
        "filter did not close",
        "error",
        "`close` of a filter has failed or took too long. relay goes on without it.",
        "Repair the filter that the traceback names.",
    ),
    LogMessage(
        "connector gave no key",
        "error",
        "`key` of a connector has raised an error. The event goes out without an order.",
        "Repair the connector that the traceback names.",
    ),
    LogMessage(
        "lane failed, starts again",
        "error",
        "A bug in the delivery to one connector. relay starts the delivery again after `in_s` seconds."
        " Other connectors go on.",
        "Report the traceback.",
    ),
    LogMessage("lane paused by an admin", "info", "`relay pause` holds the connector's events."),
    LogMessage("lane goes on", "info", "The pause of a connector is over."),
    LogMessage(
        "tried again at once, as an admin asks", "info", "`relay resume` has ended the wait for the next attempt."
    ),
    LogMessage(
        "events expired",
        "error",
        "Events had to leave the journal before this connector got them. They are lost for the connector.",
        "Raise `journal.retention` or `journal.max_size`, or repair the destination.",
    ),
    LogMessage(
        "events are damaged",
        "error",
        "The journal could not read events when their turn came. They are lost for this connector.",
        "Put a good copy of the file back, restart relay, then run `relay replay`. A repair brings no event back.",
    ),
)

PARKED: Final = (
    LogMessage(
        "event parked",
        "warning",
        "The destination, or the connector, has refused an event for good. The event is parked (dead letter).",
        "Look with `relay parked list`. Remove the cause, then run `relay parked replay NUMBER`.",
    ),
    LogMessage(
        "events parked: a filter failed",
        "warning",
        "A filter has raised an error for these events. They are parked with the cause `filter`.",
        "Repair the filter, then run `relay parked replay --cause filter`.",
    ),
    LogMessage(
        "events parked behind an earlier one",
        "warning",
        "An earlier event of the same key is parked, and `after_parked` wants the later ones to wait for it.",
        "Replay the earlier event: `relay parked list --cause order` shows what waits.",
    ),
    LogMessage(
        "parking failed, will be tried again",
        "error",
        "`relay.db` does not take parked events. The connector waits.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "parked events removed",
        "warning",
        "`parked.retention`, `parked.max_size` or a full disk has removed parked events. They are lost.",
        "Raise the setting that `reason` names, or replay parked events sooner.",
    ),
    LogMessage(
        "removing parked events failed, will be tried again",
        "error",
        "`relay.db` does not let parked events be removed.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "parked events replayed",
        "info",
        "Parked events were tried again. `parked_again` says how many of them are parked still.",
    ),
    LogMessage(
        "parked events delivered, as they were not settled",
        "info",
        "After a crash relay has delivered events that were parked before their batch was settled.",
    ),
)

REPLAYS: Final = (
    LogMessage("replay begins", "info", "A replay has begun, or goes on after a restart."),
    LogMessage("replay is done", "info", "A replay has delivered its range. The line has the counts."),
    LogMessage(
        "replay stopped", "info", "A replay has ended before its end: relay stops, or an admin has cancelled it."
    ),
    LogMessage("replay rests", "debug", "A replay waits while an erasure rewrites the journal."),
)

ERASURES: Final = (
    LogMessage("erasures asked for", "info", "Events have asked for the erasure of users (`erasure.on`)."),
    LogMessage(
        "an event asks for an erasure but names no user",
        "warning",
        "An event of a type in `erasure.on` has neither a user id nor an external id. Nobody is erased.",
        "Look at the event with `relay journal dump --from OFFSET --limit 1`.",
    ),
    LogMessage(
        "users erased from journal and tables",
        "info",
        "Journal and parked events no longer have the events of these users.",
    ),
    LogMessage("erasures done", "info", "All connectors have answered. relay has forgotten the ids of these users."),
    LogMessage(
        "erasing failed, will be tried again",
        "error",
        "The journal or the database could not be rewritten. relay tries again after `in_s` seconds.",
        "Look at `error`: often the disk has no room for one more segment, or the journal is damaged.",
    ),
    LogMessage(
        "erasing failed at the connector",
        "error warning",
        "A connector could not erase users at its destination. relay tries again."
        " At level error the destination refuses, or does not accept relay.",
        "Look at `reason`. `relay erasures list` shows what is still to do.",
    ),
    LogMessage(
        "connector is gone but has users to erase",
        "warning",
        "A connector that has not confirmed erasures is not configured any more.",
        "Configure the connector again under this name, or run `relay forget NAME`.",
    ),
    LogMessage(
        "erasures cannot be read",
        "error",
        "The database does not answer. The connector's erasures wait.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "erasures cannot be kept",
        "error",
        "The database does not take a connector's answers to erasures. The connector is called again after the start.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "looking for erasures failed, goes on",
        "error",
        "The search of the journal for erasures has failed. relay tries again after `in_s` seconds.",
        "Look at `error`.",
    ),
    LogMessage(
        "a damaged segment that was kept is removed: it may name an erased user",
        "warning",
        "A file `NAME.log.damaged` held events of an erased user, or compressed events, which relay cannot search once "
        "they are damaged. relay has removed the file.",
    ),
    LogMessage(
        "a worker that does not run erases at its next start",
        "warning",
        "A former worker's folder holds events of the user. Its erasure waits for the worker.",
        "Start relay with as many workers as before, until `relay erasures show` says done.",
    ),
)
