"""Renders the pages. Every text is escaped, and an unknown name is a bug."""

import re
from codecs import getincrementaldecoder
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from relay.console.advice import link_advice
from relay.words import escape, format_count, format_size, format_span, format_time

DIGITS: Final = 12
CONTENT_BYTES: Final = 64 << 10
"""Bytes of the content of an event on a page."""


PREDICATES: Final = frozenset({
    "is", "has", "was", "does", "must", "should", "can", "cannot", "gets", "grows", "holds", "looks", "needs",
    "selects", "stands", "takes", "tells",
})  # fmt: skip
"""First words of a sentence that lacks its subject: the setting that it is about."""


class Templates:
    """The templates of the console."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("relay.console"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_show,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "time": make_time,
            "span": format_span,
            "size": format_size,
            "number": lambda number: f"{number:,}",
            "counted": format_count,
            "marked": mark_code,
            "advised": link_advice,
            "words": lambda name: name.replace("_", " "),
            "about": split_subject,
            "content": lambda content: show_content(bytes(content)),
        }
        self._environment.globals["static"] = _Static().name_path

    def render(self, template: str, /, **values: Any) -> str:
        """Render a template."""
        rendered: str = self._environment.get_template(template).render(values)
        return rendered


class _Static:
    """Names static files by their content, so that browsers may keep them."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def name_path(self, name: str) -> str:
        if name not in self._known:
            content = (files("relay.console") / "static" / name).read_bytes()
            self._known[name] = f"/static/{name}?{sha256(content).hexdigest()[:DIGITS]}"
        return self._known[name]


def _show(value: object) -> object:
    """Escape control characters and changes of direction in a foreign text."""
    return escape(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def show_content(content: bytes) -> str:
    """Return content as text, CONTENT_BYTES of it at most."""
    is_cut = len(content) > CONTENT_BYTES
    text = getincrementaldecoder("utf-8")("backslashreplace").decode(content[:CONTENT_BYTES], final=not is_cut)
    return f"{text} ... (cut at {format_size(CONTENT_BYTES)})" if is_cut else text


def split_subject(said: str, label: str) -> tuple[str, str]:
    """Return the subject of a sentence about a setting, and the rest: the setting if the sentence has or lacks it, else
    "". The two together read well beside the field, and behind a link to it."""
    if re.match(rf"{re.escape(label)}(?![\w-])", said):
        return label, said[len(label) :]
    return (label, f" {said}") if said.partition(" ")[0] in PREDICATES else ("", said)


def mark_code(text: str) -> Markup:
    """Return a paragraph of a docstring as one line, in which what stands between backticks is code."""
    parts = re.split(r"`([^`]+)`", escape(" ".join(text.split())))
    return Markup().join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def make_time(unix_seconds: float | None) -> Markup:
    """Return a time in UTC as an element. The script adds the time in the browser's zone."""
    if unix_seconds is None:
        return Markup("-")
    text = format_time(unix_seconds)
    return Markup('<time datetime="{}">{} UTC</time>').format(text, text[:-1].replace("T", " "))
