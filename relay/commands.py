"""relay's own commands: plugins may not take these names."""

from collections.abc import Mapping
from typing import Final, NamedTuple


class OwnCommand(NamedTuple):
    """A command, known before its module is imported."""

    module: str
    """Its module below `relay.cli.commands`."""
    summary: str
    """Its line in `relay --help`: the first sentence of its own help."""


COMMANDS: Final[Mapping[str, OwnCommand]] = {
    "accept": OwnCommand("state.accept", "Confirm that the clock is right, or that the journal may stay."),
    "add": OwnCommand("config.add", "Write a source, connector, filter or alert into conf.d."),
    "alerts": OwnCommand("running.alerts", "Show and test the alerts of the running relay."),
    "audit": OwnCommand("state.audit", "Prove for every connector that no accepted event has vanished."),
    "backup": OwnCommand("state.backup", "Copy the state folder into DIR, whether relay runs or not."),
    "check": OwnCommand("config.check", "Check the configuration in DIR, and name every mistake."),
    "config": OwnCommand("config.config", "Show the settings in the files of conf.d, and the schema of these files."),
    "console": OwnCommand("running.console", "Show relay in a browser, until SIGTERM or SIGINT."),
    "diff": OwnCommand("state.diff", "Show what a new configuration would change, by the recorded events."),
    "doctor": OwnCommand("doctor", "Find problems of installation, machine and destinations."),
    "erasures": OwnCommand("state.erasures", "Remove all events of a user, and look at the receipts."),
    "events": OwnCommand("config.events", "List the event types that `events` in conf.d can name."),
    "forget": OwnCommand("state.forget", "Remove what relay keeps of a connector that is not configured any more."),
    "history": OwnCommand("running.history", "Show what happened, when, and by whom."),
    "init": OwnCommand("config.init", "Write a configuration to start from into DIR."),
    "journal": OwnCommand("state.journal", "Look into the journal, whether relay runs or not."),
    "new": OwnCommand("config.new", "Write the Python code of a plugin to start from, and its test."),
    "parked": OwnCommand("state.parked", "Look at parked events (dead letters); replay or drop them."),
    "pause": OwnCommand("running.pause", "Hold the events of a connector; senders notice nothing."),
    "plugins": OwnCommand("config.plugins", "List the plugins, and what each provides."),
    "reload": OwnCommand("running.reload", "Have the running relay go over to the new configuration."),
    "replay": OwnCommand(
        "state.replay", "Deliver a range of the journal to one connector, again or for the first time."
    ),
    "restore": OwnCommand("state.restore", "Make a state folder of the backup in DIR."),
    "resume": OwnCommand("running.resume", "End a pause, or have a connector that waits try again at once."),
    "run": OwnCommand("running.run", "Take events in and deliver them, until SIGTERM or SIGINT."),
    "sandbox": OwnCommand("sandbox.demo", "Run the demo: made-up events through relay, counted at the end."),
    "send": OwnCommand("running.send", "Post the events in FILE to a running relay."),
    "status": OwnCommand("running.status", "Show on one screen how the running relay is."),
    "tail": OwnCommand("running.tail", "Print events as they pass."),
    "test": OwnCommand("config.test", "Try the tables [test.NAME] of the configuration in DIR; nothing is delivered."),
    "top": OwnCommand("running.top", "Show `relay status` again and again, until Ctrl-C."),
    "trace": OwnCommand("state.trace", "Find the event with this ID, and show its way through relay."),
}
ALIASES: Final[Mapping[str, tuple[str, str]]] = {"new-connector": ("new", "connector")}
"""Other names of commands: the group, and the command in it."""
