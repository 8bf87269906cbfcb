"""Messages of the console."""

from typing import Final

from relay.log_messages.message import LogMessage

CONSOLE: Final = (
    LogMessage("console runs", "info", "The console has started. The line names the addresses."),
    LogMessage("console stops", "info", "The console has begun to stop."),
    LogMessage("console stopped", "info", "The console has stopped. All sessions have ended."),
    LogMessage(
        "nobody can sign in to the console",
        "warning",
        "No user is in `[console]`, and there is no terminal for a link.",
        "Add a table `[console.user.NAME]`, or start `relay console` on a terminal.",
    ),
    LogMessage(
        "nobody can sign in by plain http",
        "warning",
        "The line names an address that others reach without TLS. The console takes no forms from browsers there.",
        "Set `console.tls`, or `console.trusted_proxies` for a proxy with TLS. Or use an SSH tunnel.",
    ),
    LogMessage(
        "a user cannot sign in to the console",
        "warning",
        "The console cannot read the secret of the user. The line has the reason.",
        "Do what the reason says. A credential takes `LoadCredential=` in `relay-console.service`, and a restart.",
    ),
    LogMessage("console sign-in", "info", "A user has signed in. The line names the client."),
    LogMessage(
        "console sign-in failed",
        "warning",
        "Somebody has typed a wrong name or a wrong secret. The line names the client.",
        "If it was no user, find out who the client is.",
    ),
    LogMessage(
        "console request refused",
        "warning",
        "The console has refused a request. The line has the reason, the client and the page.",
        "Do what the reason says. Requests from foreign pages are attacks, or a name that `console.hosts` lacks.",
    ),
    LogMessage("console settings read again", "info", "`[console]` has changed, and users, hosts and proxies count."),
    LogMessage(
        "console settings cannot be used, the former ones count",
        "error",
        "`[console]` has a mistake, or conf.d cannot be read. Users who were in it can still sign in.",
        "Correct what the line names; `relay check` finds it too.",
    ),
    LogMessage(
        "console launch",
        "info",
        "A user has changed conf.d. The line has user, files and result: in force, or waits for relay.",
    ),
    LogMessage(
        "a launch could not be noted in full",
        "warning",
        "A launch of the console is in force. To write its record, or to remove unused files, has failed.",
        "Correct the reason, such as a full disk.",
    ),
)
