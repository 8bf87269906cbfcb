"""Adds to a sentence of relay what does the same in the console as a command that the sentence advises. Pure."""

import re
from typing import Final

from markupsafe import Markup

from relay.words import escape

NAME: Final = "([a-z][a-z0-9_-]*)"
PAGES: Final = (
    (f"relay resume {NAME}", "/connectors/{}#acts", "Resume"),
    (f"relay pause {NAME}", "/connectors/{}#acts", "Pause"),
    (f"relay forget {NAME}", "/connectors/{}/forget", "Forget"),
    (f"relay parked (?:list|replay) --connector {NAME}", "/parked?connector={}", "Parked"),
    (f"relay parked list --source {NAME} --cause unreadable", "/parked?source={}&cause=unreadable", "Parked"),
    ("relay reload", "/files#reload", "Reload"),
    ("relay check", "/files", "Configuration"),
    ("relay erasures list", "/erasures", "Erasures"),
    ("relay plugins", "/plugins", "Plugins"),
)
"""Commands, each with the page that does the same, and the name of its link."""
_COMMAND: Final = re.compile(
    "|".join(rf"(?P<at{number}>\b{command}\b)" for number, (command, _, _) in enumerate(PAGES))
)


def link_advice(sentence: str, page: str = "") -> Markup:
    """Return a sentence with a link behind each command that the console has a page for.

    `page`: the path of the page about what the sentence begins with, such as the name of a connector; "": none.
    """
    head, colon, rest = sentence.partition(":")
    if page and colon:
        return Markup('<a href="{}">{}</a>:').format(page, escape(head)) + link_advice(rest)
    text, done, found = escape(sentence), 0, Markup()
    for command in _COMMAND.finditer(text):
        number = next(number for number in range(len(PAGES)) if command[f"at{number}"])
        name = next((one for one in command.groups() if one and one != command[0]), "")
        _, path, said = PAGES[number]
        found += text[done : command.end()] + Markup(' (<a href="{}">{}</a>)').format(path.format(name), said)
        done = command.end()
    return found + text[done:]
