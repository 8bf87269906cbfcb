"""Messages about plugins, and those of the built-in ones."""

from typing import Final

from relay.log_messages.message import LogMessage

ANY: Final = (
    LogMessage(
        "a plugin held up relay",
        "warning",
        "A call of a plugin has blocked the event loop for `seconds` seconds. Nothing else ran meanwhile.",
        "Repair the plugin: no blocking requests, files or sleeps in this call.",
    ),
    LogMessage(
        "connector is not closed: a thread of it hangs",
        "error",
        "A thread of a connector does not return. relay does not call `close`.",
        "Repair the connector: a call in a thread needs a timeout.",
    ),
    LogMessage(
        "filter is not closed: its thread hangs",
        "error",
        "The thread of a filter does not return. relay does not call `close`.",
        "Repair the filter: a call in a thread needs a timeout.",
    ),
    LogMessage(
        "alert is not closed: its thread hangs",
        "error",
        "The thread of an alert does not return. relay does not call `close`.",
        "Repair the alert: a call in a thread needs a timeout.",
    ),
)

FILE: Final = (
    LogMessage(
        "cut off a line that was not completely written; its event is written again",
        "warning",
        "A crash or a full disk has left part of a line. No event is lost.",
    ),
    LogMessage("old files removed", "info", "`keep` or `max_total` has removed files."),
    LogMessage(
        "old files cannot be removed",
        "warning",
        "`keep` or `max_total` wants files removed, and the system refuses. Events are written.",
        "Look at `reason`, and at the rights of the folder.",
    ),
)

HEAP_SEGMENTS: Final = (
    LogMessage(
        "segment sync was incomplete",
        "warning",
        "Pages of a segment sync have not come. The users of these pages stay as they are. `missing` has the numbers.",
        "Look in Heap for calls that failed. Run the sync again there, or use `relay cohorts push`.",
    ),
    LogMessage("segment sync is complete after all", "info", "The missing pages of a sync have come late."),
    LogMessage(
        "unknown action of Heap left out",
        "warning",
        "Heap has sent an action that is neither a sync nor a drain. The call was answered 200 and ignored.",
        "Look for a newer relay.",
    ),
)

BRAZE_COHORTS: Final = (
    LogMessage(
        "Braze took a change only in part",
        "warning",
        "Braze's answer names errors for some users. The others are in the cohort.",
        "Look at `first`. `relay cohorts resync ID` sends every member once more.",
    ),
    LogMessage(
        "users left out: Braze cannot find them by such an id",
        "warning",
        "Braze's API takes no ids of this kind in this mode. These users are not sent.",
        "Send another kind of id (`match` of the source), or use the other `mode`.",
    ),
    LogMessage(
        "array overflows: the cohorts that the users came into first leave it",
        "warning",
        "Users are in more cohorts than Braze keeps in an array attribute.",
        "Have Braze raise the limit and set `array_size`, or use `style` with one attribute per cohort.",
    ),
    LogMessage(
        "cohorts are taken over from the database of an older relay",
        "info",
        "The connector has moved what Braze knows from `cohorts/CONNECTOR.db` to its store, and removed that database.",
        "Nothing. An older relay would begin without these cohorts.",
    ),
    LogMessage(
        "cohorts were sent to another Braze, or in another way, so far; each is sent to this one as a whole before its"
        " next change, or now by relay cohorts resync --all. In the other one everybody stays",
        "warning",
        "Endpoint or mode of the connector has changed. Each cohort is sent again as a whole before its next change.",
        "Run `relay cohorts resync --all` to send all cohorts now. Empty the cohorts of the old Braze there.",
    ),
)

LOOKUP: Final = (
    LogMessage(
        "lookup file cannot be used",
        "error",
        "A changed file of a filter of type `lookup` has a mistake, or cannot be read. The rows before stay in force. "
        "The log has each different mistake.",
        "Mend the line that `reason` names. relay reads the file again by itself.",
    ),
    LogMessage("lookup file is read anew", "info", "A file of a filter of type `lookup` has changed. It is in force."),
)
