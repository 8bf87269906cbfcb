"""Reads the descriptions of settings: the text below each one in the source.

pydantic could do it, but would read the source of every model at its import: a tenth of the start.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache

from pydantic import BaseModel

from relay.api import Plugin, Settings


def read_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the descriptions of settings by name.

    `Field` counts before the text. A redefined setting has its new text, or none.
    """
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Settings):
            found |= _read_texts(base)
    named = {name: field.description for name, field in model.model_fields.items() if field.description}
    return {name: text for name, text in (found | named).items() if text and name in model.model_fields}


def type_description(plugin: type[Plugin]) -> str:
    """Return the docstring of a plugin's class or of its own bases; "" if only bases of `relay.api` have one."""
    for part in plugin.__mro__:
        if part.__module__.startswith("relay.api."):
            break
        if isinstance(part.__doc__, str):
            return inspect.cleandoc(part.__doc__)
    return ""


def summarize(description: str) -> str:
    """Return the first paragraph of a description as one line of plain text, without backticks."""
    first = " ".join(description.partition("\n\n")[0].split())
    return re.sub(r'`([^`]*["[{][^`]*)`', r"\1", first)


@cache
def _read_texts(model: type[Settings]) -> dict[str, str]:
    """Return the settings that a class itself defines, each with the text below it or ""; none without source.

    A copy of a model with other defaults has the source of the model.
    """
    try:
        source = inspect.getsource(model)
    except (OSError, TypeError):
        return {}
    return dict(_defined_in(source))


def _defined_in(source: str) -> Iterator[tuple[str, str]]:
    (outer,) = ast.parse(f"if True:\n{source}" if source.startswith((" ", "\t")) else source).body
    defined = outer.body[0] if isinstance(outer, ast.If) else outer
    body = getattr(defined, "body", [])
    for setting, below in zip(body, [*body[1:], None], strict=True):
        match setting, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
            case ast.AnnAssign(target=ast.Name(id=name)), _:
                yield name, ""
