"""Messages about what comes in: connections, requests, sources, certificates."""

from typing import Final

from relay.log_messages.message import LogMessage

REQUESTS: Final = (
    LogMessage(
        "request refused",
        "warning",
        "A request was answered with an error. `status`, `reason` and `client` say which, why and whose.",
        "Compare the settings of the sender with those of the source."
        " A 503 for a full journal or disk lasts until you make room. Other 503 pass by themselves.",
    ),
    LogMessage(
        "answering a request failed",
        "error",
        "A bug in relay has ended a request. The sender sends again.",
        "Report the traceback.",
    ),
    LogMessage(
        "connections without a request closed",
        "warning",
        "All connections were in use. relay has closed those that waited longest without a request.",
        "Raise `ingest.max_connections`, or look at the client that the line names.",
    ),
    LogMessage(
        "no connection can be accepted",
        "error",
        "The process has no file descriptor or memory for a connection. Senders wait.",
        "Raise `LimitNOFILE=` in the unit, or find what holds the descriptors.",
    ),
    LogMessage(
        "fewer connections than ingest.max_connections",
        "warning",
        "The limit of open files allows fewer connections than the setting.",
        "Raise `LimitNOFILE=` in the unit (`ulimit -n` in a shell). Senders get half of the limit.",
    ),
    LogMessage(
        "unreadable events parked",
        "warning",
        "Events of an accepted request are not what the source takes. relay has parked them.",
        "Look with `relay parked list --cause unreadable`. To send them: export, correct, `relay send`.",
    ),
    LogMessage(
        "unreadable events cannot be parked",
        "error",
        "`relay.db` does not take parked events. The request got 503, and the sender sends again.",
        "Find out what locks or fills `relay.db`. Requests without unreadable events are not affected.",
    ),
    LogMessage(
        "event type is not in the catalogue",
        "warning",
        "Braze has sent an event type that this relay does not know. The event is taken."
        " Group and channel are guessed by its name.",
        "See whether the `events` of your connectors select the type.",
    ),
)

SOURCES: Final = (
    LogMessage(
        "source has refused everything for too long",
        "error",
        "A source has refused every request since `since`. Braze does not send again what got 401 or 403. At `deadline`"
        " Braze disables the Current. Later events are lost.",
        "Do what `advice` says before the deadline.",
    ),
    LogMessage("source takes events again", "info", "A source has taken a request after a long time of refusals."),
    LogMessage(
        "events cannot be passed to their sources, will be tried again",
        "error",
        "A source that watches its events hears of them later. With a journal in PostgreSQL the process that runs"
        " partition 0 passes them on.",
        "Look at `error`.",
    ),
    LogMessage(
        "bug in a source",
        "error",
        "A source plugin has raised an error or returned a wrong value. The request got 500.",
        "Repair the plugin. The line names plugin, call and place.",
    ),
    LogMessage(
        "what a source remembers cannot be read",
        "error",
        "A source plugin refuses its own saved notes. The source begins without them.",
        "Repair the plugin.",
    ),
    LogMessage(
        "saving what a source remembers failed",
        "error",
        "The database does not take the notes of a source. After a restart the source knows less.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "duplicates cannot be recognized",
        "error",
        "The source has `dedupe`, but its type names no ids of events. Duplicates pass.",
        "Remove `dedupe` from the source, or have the plugin fill `Decoded.ids`.",
    ),
)

CERTIFICATES: Final = (
    LogMessage("certificate renewed", "info", "relay serves the new certificate to new connections."),
    LogMessage(
        "certificate needs renewal",
        "error",
        "The certificate that senders see ends soon, or has ended. Senders then refuse relay.",
        "Put a new certificate into the files that the line names. relay loads the files by itself.",
    ),
    LogMessage(
        "renewed certificate cannot be used",
        "error",
        "The files of the certificate have changed and are not good. relay serves the old certificate.",
        "Correct what `reason` names.",
    ),
    LogMessage(
        "TLS handshake failed",
        "warning",
        "A client has not accepted the certificate, has shown no good one, or does not speak TLS.",
        "Look at `reason`. Scanners on the internet cause such lines too.",
    ),
)
