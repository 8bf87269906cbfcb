"""The result of a reload, as a value and in words. Pure."""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from relay.config import Mistake
from relay.words import format_count, format_span

NOTHING: Final = "nothing has changed"
NOT_FOUND: Final = "its path answers 404 now"
DISABLED: Final = "which ends in Braze disabling a Current"
REMOVED: Final = ("removed", "switched off")
Kind = Literal["connector", "source", "filter", "alert", "setting"]
What = Literal[
    "added", "changed", "removed", "switched off", "needs no restart any more", "changed, for the console alone"
]


class ReloadChange(Struct, frozen=True):
    """A part of the configuration that has changed."""

    kind: Kind
    name: str
    what: What
    pending: int = 0
    """Pending events of a connector that was added back or removed."""
    failing_erasures: int = 0
    """Failed erasures at a removed connector."""
    kept_for: float = 0.0
    """Seconds for which the journal keeps the events of a removed connector."""
    keys: Sequence[str] = ()
    """The keys of a changed connector whose values have changed, such as `filters`."""
    disables: bool = False
    """Whether the sender of a removed source stops for good after a time of errors, as Braze does."""


class ReloadWarning(Struct, frozen=True):
    """Something that an admin may have to mend after a successful reload."""

    subject: str
    """The part of relay that the warning is about. A reload has one warning per subject."""
    sentence: str


class ReloadResult(Struct, frozen=True):
    """The result of a reload."""

    changes: Sequence[ReloadChange] = ()
    restart_needed: Sequence[str] = ()
    """Settings, and the code of plugins, that take effect at the next restart."""
    warnings: Sequence[ReloadWarning] = ()
    mistakes: Sequence[Mistake] = ()
    """Why the new configuration is not in force. With any, the whole old configuration stays in force."""
    at: float = 0.0
    """The time of the entry in the history, in Unix seconds; 0: there is no entry."""

    @property
    def ok(self) -> bool:
        """Whether the new configuration is in force."""
        return not self.mistakes

    @property
    def lines(self) -> list[str]:
        """Every change and warning, or every mistake, in words. Empty without changes."""
        if self.mistakes:
            return [*map(str, self.mistakes)]
        restarts = [f"{name}: takes a restart" for name in self.restart_needed]
        warnings = [f"warning: {warning.sentence}" for warning in self.warnings]
        return [*map(_describe_change, self.changes), *restarts, *warnings]

    @property
    def said(self) -> list[str]:
        """The same lines, or a line that says that nothing has changed."""
        is_unchanged = not (self.changes or self.restart_needed or self.mistakes)
        return [NOTHING, *self.lines] if is_unchanged else self.lines


def merge_results(results: Sequence[ReloadResult]) -> ReloadResult:
    """Merge the results of several workers: one change, one warning and one restart per subject.

    The first worker's words stand. A setting that needs a restart in one worker counts as no change.
    """
    restart_needed = [*dict.fromkeys(name for one in results for name in one.restart_needed)]
    changes: dict[tuple[Kind, str], ReloadChange] = {}
    warnings: dict[str, ReloadWarning] = {}
    for one in results:
        for change in one.changes:
            if change.kind != "setting" or change.name not in restart_needed:
                changes.setdefault((change.kind, change.name), change)
        for warning in one.warnings:
            warnings.setdefault(warning.subject, warning)
    mistakes = [*dict.fromkeys(mistake for one in results for mistake in one.mistakes)]
    return ReloadResult([*changes.values()], restart_needed, [*warnings.values()], mistakes)


def _describe_change(change: ReloadChange) -> str:
    if change.kind == "setting":
        return f"{change.name}: {change.what}"
    line = f"{change.kind} {change.name}: {change.what}" + (f": {', '.join(change.keys)}" if change.keys else "")
    if change.what not in REMOVED:
        pending = format_count(change.pending, "event")
        return f"{line}; goes on where it was, {pending} pending" if change.pending else line
    if change.kind == "source":
        return f"warning: {line}; {NOT_FOUND}" + (f", {DISABLED}" if change.disables else "")
    if change.pending:
        kept = f"kept until {format_span(change.kept_for)} old (journal.retention), as long as there is room"
        line += f"; {format_count(change.pending, 'pending event')} {kept}, in case it is added back"
    if change.failing_erasures:
        what = f"{format_count(change.failing_erasures, 'erasure')} that failed there"
        verb = "waits" if change.failing_erasures == 1 else "wait"
        line += f"; {what} {verb} until {change.name} is added back, or relay forget {change.name} gives up"
    return line
