"""The form in which a log message is described."""

from typing import NamedTuple


class LogMessage(NamedTuple):
    """One log message."""

    text: str
    """The message as the log has it; `...` stands for words that differ."""
    levels: str
    """Its level; two levels are separated by a space, the graver one first."""
    meaning: str
    """What has happened, and what it costs."""
    action: str = ""
    """What to do; empty: nothing."""
