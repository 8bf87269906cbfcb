"""How counts are written for people, in the log and by commands."""


def counted(number: int, noun: str) -> str:
    """So many of them: "1 event", "1,200 events"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
