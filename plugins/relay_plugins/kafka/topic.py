"""Names of topics: a template in the settings, and what senders put into it. Pure."""

import re
import string
from typing import Final

LONGEST: Final = 249
"""Characters of a topic's name (Kafka, org.apache.kafka.common.internals.Topic)."""
LONGEST_PART: Final = 100
"""Characters of a type or source in a name."""
PLACEHOLDERS: Final = ("type", "source")
OWN_START: Final = re.compile(r"[A-Za-z0-9]")
ALLOWED: Final = re.compile(r"[A-Za-z0-9._-]*")


def check_topic(topic: str) -> str:
    """Return a template. Raises ValueError if it could make a name that Kafka does not allow, or lead elsewhere."""
    try:
        parts = list(string.Formatter().parse(topic))
    except ValueError as error:
        raise ValueError(f"topic: {error}") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or form or conversion):
            raise ValueError(f"{{{name}}} is none of {', '.join(f'{{{one}}}' for one in PLACEHOLDERS)}")
    fixed = "".join(text for text, *_ in parts)
    if not ALLOWED.fullmatch(fixed) or fixed in (".", "..") or len(fixed) > LONGEST:
        raise ValueError(f"Kafka allows {LONGEST} letters, digits, dots, _ and - in a topic's name, got {topic!r}")
    if not fixed or (is_template(topic) and not OWN_START.match(topic)):
        raise ValueError(f'begin with a text of your own, such as "braze.{{type}}", got {topic!r}')
    return topic


def is_template(topic: str) -> bool:
    """Return whether the name depends on the event."""
    return "{" in topic


def make_topic(template: str, type: str, source: str) -> str:
    """Return the topic of an event. Each character that Kafka does not allow becomes `_`."""
    return template.format(type=_escape(type), source=_escape(source))[:LONGEST]


def _escape(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", text[:LONGEST_PART])
