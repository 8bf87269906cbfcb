"""Messages about the process: start, stop, configuration, workers, alerts, history."""

from typing import Final

from relay.log_messages.message import LogMessage

LIFE: Final = (
    LogMessage("relay runs", "info", "relay has started and takes events. The line names the addresses."),
    LogMessage("relay stops", "info", "A stop has begun. Deliveries under way have `drain_s` seconds to end."),
    LogMessage("relay stopped", "info", "The stop has ended. Journal and database are closed."),
    LogMessage(
        "relay cannot start: ...",
        "error",
        "The line has the reason. relay ends with exit code 1; systemd starts relay again every 5 seconds.",
        "Do what the reason says. `relay doctor` may know more.",
    ),
    LogMessage(
        "relay stopped during its start", "info", "A signal to stop has come before relay ran. Nothing was taken in."
    ),
    LogMessage(
        "sockets were passed to relay: ingest.listen is not used",
        "info",
        "systemd has opened the listening sockets (`relay.socket`). The setting `ingest.listen` has no effect.",
    ),
    LogMessage(
        "deliveries under way are cut short and made again after the next start",
        "warning",
        "The drain budget is over, or a second signal has come. Destinations may get these events twice.",
        "Raise `runtime.drain` if destinations need longer to answer.",
    ),
    LogMessage(
        "relay does not stop in time, ends as it is",
        "error",
        "Something hangs, and relay ends without waiting for it. Acknowledged events are on disk.",
        "Find out what hangs: a plugin that blocks, a thread, or a disk.",
    ),
    LogMessage(
        "journal and database are not closed",
        "error",
        "The disk of the state folder hangs at the stop, or the database does not answer when a partition ends here."
        " Acknowledged events are not lost.",
        "Look at the disk of the state folder, or at the database.",
    ),
    LogMessage(
        "threads do not end, relay stops without them",
        "warning",
        "Threads still run at the end of the stop. The line names the threads.",
        "Repair the plugin whose thread hangs.",
    ),
    LogMessage(
        "tasks of plugins do not end, relay stops without them",
        "warning",
        "Tasks of plugins ignore their cancellation. The line names up to 10 tasks.",
        "Repair the plugin: a task ends when it is cancelled.",
    ),
    LogMessage(
        "a task of a plugin tried to end relay, which goes on",
        "error",
        "A plugin has raised `SystemExit` or `KeyboardInterrupt`. relay goes on.",
        "Repair the plugin that the traceback names.",
    ),
    LogMessage(
        "relay ends by a bug of its own",
        "error",
        "An error that relay does not know ends the process with exit code 1. systemd starts relay again.",
        "Report the traceback.",
    ),
    LogMessage(
        "relay is stuck",
        "error",
        "The journal, the database or a worker has not answered for half the watchdog time."
        " systemd gets no sign of life until there is an answer, and then restarts relay.",
        "Look at the disk that `reason` is about.",
    ),
    LogMessage(
        "systemd cannot be notified",
        "warning",
        "The notify socket of systemd takes no message. systemd may take relay for dead and restart relay.",
        "Look at the socket that the line names, and at the load of the machine.",
    ),
    LogMessage(
        "log lines were dropped",
        "warning",
        "Standard error was blocked, so that relay dropped `lines` lines. Events are not affected.",
        "Look at the program that reads the log: journald, or a full disk.",
    ),
)

RELOAD: Final = (
    LogMessage("configuration reloaded", "info", "A reload has ended. `changes` says what is new."),
    LogMessage(
        "configuration not reloaded, the old one goes on",
        "error",
        "The new configuration has mistakes, or a plugin cannot be made of it. Nothing has changed.",
        "Correct what `mistakes` names, check with `relay check`, and reload again.",
    ),
    LogMessage(
        "reload failed by a bug",
        "error",
        "A reload has failed by an error that relay does not know.",
        "Restart relay, and report the traceback.",
    ),
    LogMessage(
        "configuration: ...",
        "warning",
        "What `relay check` warns of, at the start. Of many warnings the first ones are logged.",
        "`relay check` shows the warning with file and line.",
    ),
    LogMessage(
        "configuration: ... more warnings, see relay check",
        "warning",
        "The log shows the first warnings only. This line counts the others.",
        "Run `relay check`.",
    ),
    LogMessage(
        "connector is gone but has events to come",
        "warning",
        "A connector was removed or renamed while events were pending. Its position stays under its old name."
        " The journal keeps the events for `journal.retention` only.",
        "Configure the connector again under this name, or run `relay forget NAME`.",
    ),
    LogMessage(
        "connector is switched off but has events to come",
        "warning",
        "A connector with `enabled = false` has pending events. The journal keeps them for `journal.retention` only.",
        "Switch the connector on, or run `relay forget NAME`. To hold events for longer, use `relay pause`.",
    ),
    LogMessage(
        "connector is forgotten",
        "warning",
        "`relay forget` has removed what relay kept of this connector. The line counts what is lost with it.",
    ),
)

WORKERS: Final = (
    LogMessage("worker runs", "info", "One of several workers has started."),
    LogMessage("worker stops", "info", "One of several workers has begun to stop."),
    LogMessage("worker stopped", "info", "One of several workers has ended."),
    LogMessage(
        "worker died, starts again",
        "error",
        "A worker process has ended. The supervisor starts the process again after `in_s` seconds."
        " Acknowledged events are on disk; some may be delivered twice.",
        "Look at `reason`, and at the lines of this worker before.",
    ),
    LogMessage(
        "worker gives no sign of life, is killed",
        "error",
        "A worker hangs. The supervisor kills the process and starts the process again.",
        "Look at the lines of this worker before: a plugin that blocks, or a disk that hangs.",
    ),
    LogMessage(
        "workers do not stop, are killed",
        "error",
        "Workers still run at the end of the stop. Acknowledged events are on disk.",
        "Find out what hangs: a plugin that blocks, a thread, or a disk.",
    ),
    LogMessage(
        "worker is away, its senders are answered 503",
        "error info",
        "A worker does not answer. The supervisor answers 503 at its socket, and senders try again."
        " At a first start the level is info.",
        "Look at the lines of this worker.",
    ),
    LogMessage(
        "worker is away and nobody answers in its place",
        "error",
        "A worker does not answer, and the supervisor cannot answer at its socket. Senders wait for a connection.",
        "Look at `reason`: a certificate, or the limit of open files.",
    ),
    LogMessage("worker is back at its socket", "info", "A worker that was away takes requests again."),
    LogMessage(
        "worker begins with newer code of plugins than relay did",
        "warning",
        "Files of plugins have changed since relay started, and a worker that starts again runs the new code.",
        "Restart relay, so that all workers run the same code.",
    ),
    LogMessage(
        "a worker that is no longer wanted is left out",
        "error",
        "`runtime.workers` is lower than before, and the database of a former worker cannot be read."
        " What that worker has left is not delivered.",
        "Run `relay audit`, then repair or restore the `relay.db` in the folder that the line names.",
    ),
    LogMessage(
        "the ledgers of former workers cannot be read",
        "error",
        "The status lacks the counts of former workers for now. Deliveries are not affected.",
        "Look at `error`, and at the folders `workers/N` in the state folder.",
    ),
    LogMessage(
        "the socket of a worker was removed, is made anew",
        "warning",
        "Somebody has removed a socket in the runtime folder. The supervisor makes a new socket.",
        "Find out who removes files there. relay needs that folder while relay runs.",
    ),
    LogMessage(
        "the socket of a worker was removed, cannot be made anew",
        "error",
        "Somebody has removed a socket in the runtime folder, and a new socket cannot be made. relay tries again.",
        "Look at `error`, and at the rights of the folder.",
    ),
    LogMessage(
        "the first worker is away",
        "warning",
        "A worker cannot hand on events that the first worker has to keep. Senders of such events get 503.",
        "Look at the lines of worker 0.",
    ),
    LogMessage("another worker is away", "info", "The first worker has lost the connection to another worker."),
    LogMessage(
        "other workers cannot hand on events, tried again",
        "error",
        "The first worker cannot listen on its socket for events of other workers. Senders of such events get 503.",
        "Look at `reason`, and at the rights of the folder of the socket.",
    ),
    LogMessage(
        "what the first worker pauses cannot be read",
        "error",
        "A worker does not know whether connectors are paused. What was paused before stays paused.",
        "Look at `error`, and at the `relay.db` of the first worker.",
    ),
    LogMessage(
        "the status of the workers cannot be reported",
        "error",
        "A bug in the status of the supervisor. systemd shows the last status.",
        "Report the traceback.",
    ),
)

ALERTS: Final = (
    LogMessage("alert sent", "info", "An alert has sent a message."),
    LogMessage(
        "alert not sent, tried again",
        "warning",
        "A message of an alert did not get through. The alert tries again, with longer and longer waits.",
        "Look at `reason`. `relay alerts test NAME` tries at once.",
    ),
    LogMessage(
        "alert given up",
        "error",
        "A message of an alert was not sent for a day, or too many wait. The message is dropped.",
        "Look at `reason`, correct the alert, and test with `relay alerts test NAME`.",
    ),
    LogMessage(
        "alert is not closed",
        "warning",
        "An alert has failed to close. relay goes on without waiting.",
        "Repair the alert's plugin.",
    ),
    LogMessage(
        "messages of an alert are dropped",
        "warning",
        "An alert was removed or switched off while messages were waiting.",
    ),
    LogMessage(
        "an alert cannot send",
        "error",
        "A bug in the sending of an alert. relay tries again later.",
        "Report the traceback.",
    ),
    LogMessage(
        "an alert cannot look at what is wrong",
        "error",
        "A bug in the look of an alert at the conditions. relay tries again.",
        "Report the traceback.",
    ),
    LogMessage(
        "what alerts remember cannot be read",
        "error",
        "The database does not say which messages were sent. Alerts may send some of them again.",
        "Look at `error`, and at `relay.db`.",
    ),
    LogMessage(
        "what an alert remembers cannot be saved",
        "error",
        "The database takes no notes of an alert. After a restart the alert may send some messages again.",
        "Look at `error`: the disk, or a lock on `relay.db`.",
    ),
)

HISTORY: Final = (
    LogMessage(
        "the last run has not ended by a stop",
        "warning",
        "relay has crashed, was killed, or the machine went down: the run since `began`. A connector may send up to its"
        " `window` twice.",
        "Find out why: `journalctl -u relay`, the kernel's log (out of memory), or a power cut.",
    ),
    LogMessage(
        "the history cannot be read",
        "error",
        "The history does not say how the last run ended. Events are not affected.",
        "Look at `error`, and at `relay.db`.",
    ),
    LogMessage(
        "an entry of the history is lost",
        "error",
        "Too many entries wait to be written. Events are not affected.",
        "Look at the disk of the state folder.",
    ),
    LogMessage(
        "entries of the history are lost",
        "error",
        "The database does not take entries of the history. Events are not affected.",
        "Look at `reason`: the disk, or a lock on `relay.db`.",
    ),
    LogMessage(
        "what is done cannot be looked up for the history",
        "error warning",
        "Replays, erasures or files cannot be looked up. The history gets these entries later."
        " At level error it is a bug.",
        "Look at `error`; report a traceback.",
    ),
    LogMessage(
        "what is wrong cannot be looked at",
        "error",
        "The status cannot be read for history and alerts. relay tries again.",
        "Report the traceback if the line comes again.",
    ),
    LogMessage(
        "problems cannot be reported",
        "error",
        "A bug in the history or in the alerts. The others go on.",
        "Report the traceback.",
    ),
    LogMessage(
        "parked events cannot be counted",
        "error",
        "The status lacks the count of parked events for now.",
        "Look at `error`, and at `relay.db`.",
    ),
    LogMessage(
        "failing erasures cannot be read",
        "error",
        "The status lacks the erasures that fail for now.",
        "Look at `error`, and at `relay.db`.",
    ),
    LogMessage(
        "the database does not say what it knows of the journal",
        "error",
        "The status lacks what an admin may have to accept.",
        "Look at `error`, and at `relay.db`.",
    ),
    LogMessage(
        "the ledgers of removed connectors cannot be read",
        "error",
        "The status lacks connectors that are not configured any more.",
        "Look at `error`, and at `relay.db`.",
    ),
    LogMessage(
        "the admin socket was removed, is made anew",
        "warning",
        "Somebody has removed the admin socket. relay has made a new socket.",
        "Find out who removes files in the runtime folder.",
    ),
    LogMessage(
        "the admin socket was removed, cannot be made anew",
        "error",
        "Somebody has removed the admin socket, and a new socket cannot be made. Commands do not reach relay.",
        "Look at `error`, and at the rights of the folder.",
    ),
)
