"""tests/rules/public_surface.txt: every name of relay.api and relay.testing with its signature, one a line.

The file shows what a change takes away from plugins. docs/plugins/api.md has the same names with their texts.
"""

import ast
from collections.abc import Iterator
from types import ModuleType
from typing import Final

import relay.api
import relay.testing
from tests.docs.generate.plugin_api import Function, definitions, fields_of, signature_of

INTRO: Final = """\
# The public surface of relay: a plugin relies on each of these lines. `make docs` writes this file.
# A line may go, or change for callers, only after one version that warns: see CONTRIBUTING.md.
"""
HIDDEN: Final = ("_", "test_")


def surface() -> str:
    """Return all names with their signatures, sorted."""
    lines = [line for package in (relay.api, relay.testing) for line in sorted({*_list_names(package)})]
    return INTRO + "\n".join(lines) + "\n"


def _list_names(package: ModuleType) -> Iterator[str]:
    found = definitions(package)
    for name in package.__all__:
        node, _ = found[name]
        place = f"{package.__name__}.{name}"
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, [*node.bases, *node.keywords]))
            yield f"{place}: class({bases})"
            yield from _list_members(package, node, place)
        elif isinstance(node, Function):
            yield f"{place}: {_join(signature_of(node))}"
        else:
            yield f"{place}: {_join(ast.unparse(node))}"


def _list_members(package: ModuleType, node: ast.ClassDef, place: str) -> Iterator[str]:
    """Yield the members that a class itself defines, and those of bases that have no public name."""
    for base in node.bases:
        known = definitions(package).get(ast.unparse(base).partition("[")[0])
        if known and isinstance(known[0], ast.ClassDef) and known[0].name not in package.__all__:
            yield from _list_members(package, known[0], place)
    inner = [one for one in node.body if isinstance(one, Function) and one.name == "__init__"]
    fields = [*fields_of(node.body), *(field for init in inner for field in fields_of(init.body))]
    yield from (f"{place}.{field.name}: {field.type or 'attribute'}" for field in fields)
    for method in node.body:
        if isinstance(method, Function) and (method.name == "__init__" or not method.name.startswith(HIDDEN)):
            yield f"{place}.{method.name}: {_join(signature_of(method))}"


def _join(text: str) -> str:
    return " ".join(text.split())
