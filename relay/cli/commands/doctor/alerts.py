"""Checks whether alerts arrive. Sends none."""

from collections.abc import Iterator

from relay.cli.commands.doctor.report import Finding, Installation
from relay.cli.format import format_time


def check_sending(it: Installation) -> Iterator[Finding]:
    """Ask the running relay for the result of each alert's last message."""
    seen = it.running if it.config.alerts else None
    known = {one.alert: one for one in seen.alerts} if seen else {}  # a node that sends none has none in its status
    for name in it.config.alerts:
        alert = known.get(name)
        about, advice = f"alert {name}", f"relay alerts test {name}, once relay runs with it"
        if alert is None or alert.last is None:
            finding = Finding("ok", about, "not tried: only sending would tell", advice)
        elif alert.failing is not None:
            said = f"sends nothing since {format_time(alert.failing)}: {alert.last.problem}"
            finding = Finding("problem", about, said, f"see {alert.file}; relay alerts test {name} tries at once")
        else:
            finding = Finding("ok", about, f"the last message was sent at {format_time(alert.last.at)}")
        yield finding
