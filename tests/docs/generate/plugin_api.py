"""docs/plugins/api.md and testing-api.md: every name of relay.api and relay.testing, with signature and docstring."""

import ast
import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import relay.api
import relay.testing
from tests.docs.generate.markdown import code, document, table

INTRO: Final = """
This page helps you look up every name that a plugin may import from `relay.api`. The tests of a plugin may also import
[`relay.testing`](testing-api.md). Nothing else of relay is public.

```python
from relay.api import Batch, Connector
```

Start with the pages that show how to write a plugin: a [connector](connector.md), a [source](source.md),
a [filter](filter.md), an [alert](alert.md). The [configuration](../reference/configuration.md) lists the settings that
all plugins of a kind have.

Times are Unix seconds and durations are seconds, unless stated otherwise.
"""
TESTING_INTRO: Final = """
This page helps you look up every name that a test of a plugin may import from `relay.testing`.

```python
from relay.testing import Destination, make_batch, make_event
```

[Testing plugins](testing.md) shows how to use these names. [api.md](api.md) has the names of `relay.api`. Durations are
seconds.
"""
SECTIONS: Final[dict[str, Sequence[str]]] = {
    "Connectors": (
        "Connector",
        "ConnectorSettings",
        "HttpConnectorSettings",
        "BatchSettings",
        "RetrySettings",
        "PluginMetrics",
        "User",
        "OtherId",
    ),
    "Outcomes": (
        "Outcome",
        "Delivered",
        "DELIVERED",
        "Skipped",
        "Retry",
        "Reject",
        "Unauthorized",
        "Answered",
        "check",
        "retry_after",
    ),
    "Stores": ("KeyValueStore", "StoreError", "find_stores", "Stores", "StoreReader"),
    "Tables for admins": ("AdminTable", "TableColumn", "TableQuery", "TableRow"),
    "Events and batches": ("Event", "Batch", "Block", "Kind", "UnreadableEvent", "read_time", "ERASED", "REDACTED"),
    "Fields of Currents": ("StorageField", "find_storage_fields", "find_known_paths", "find_personal_fields"),
    "Sources": (
        "Source",
        "SourceSettings",
        "Decoded",
        "Entries",
        "Unreadable",
        "Request",
        "Response",
        "Denied",
        "Malformed",
        "read_entries",
    ),
    "Filters": ("Filter", "FilterSettings", "read_plain"),
    "Alerts": ("Alert", "AlertSettings", "HttpAlertSettings", "Message", "Alarm"),
    "Settings and secrets": (
        "Plugin",
        "Settings",
        "CertificateSettings",
        "Contradiction",
        "Duration",
        "ByteSize",
        "HttpUrl",
        "UrlPath",
        "EventSelection",
        "Secret",
        "HeaderSecret",
        "BearerToken",
        "require_library",
        "load_zstd",
    ),
    "Signatures and headers": ("check_secret", "check_hmac", "signing_key", "signed_headers", "check_headers"),
    "JSON in bytes": (
        "LARGE",
        "UNREADABLE",
        "Walk",
        "is_dense",
        "is_utf8",
        "value_in",
        "why_unreadable",
        "without_surrogates",
    ),
    "Hooks": ("hookimpl", "hookspec"),
}
"""The names of relay.api by subject, in the order of the page."""
TESTING_SECTIONS: Final[dict[str, Sequence[str]]] = {
    "Events, batches and messages": ("make_event", "make_batch", "make_message", "filtered"),
    "A destination": ("Destination", "Behaviour", "Answer", "Reset", "Received"),
    "A store": ("MemoryStore",),
    "A relay": ("MemoryRelay", "ConnectorBooks"),
    "Tests that every source or filter must pass": ("SourceSuite", "FilterSuite"),
    "Tests that every connector must pass": (
        "ConnectorSuite",
        "AnyConnectorSuite",
        "SuiteDestination",
        "HttpDestination",
        "Failure",
        "find_ids",
    ),
}
"""The names of relay.testing by subject, in the order of the page."""
MADE: Final = ("Connector", "Source", "Filter", "Alert", "Walk", "Answer", "Reset", "Destination", "MemoryRelay")
"""Classes of which authors of plugins and their tests make objects."""
HOOKS: Final = """
Marks a function of a module as one of relay's hooks. A module that defines classes needs no hook: relay finds classes
with a type name. Write a hook in a module that creates its classes in a function, or that adds commands:

```python
@hookimpl
def relay_types():      # returns connector, source, filter and alert classes
    return [make_connector("a"), make_connector("b")]

@hookimpl
def relay_commands():   # returns commands of click, which `relay` then has
    return [my_command]
```
"""
TEXTS: Final = {
    "Outcome": "What can become of a delivery. Return one per event, or raise one for the whole batch.",
    "hookimpl": HOOKS,
    "hookspec": "Declares a hook. Plugins do not need it.",
}
"""Texts of names that have no docstring."""
PRIVATE: Final = ("_", "TypedDict", "WaySettings", "ArrivalB", "TroubleB", "ConductB", "AdminB", "HttpB", "SuiteBase")
"""Beginnings of the names of bases that a plugin cannot import."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


Definitions = dict[str, tuple[ast.AST, str]]
"""The definition and the text of each name."""


class Field(NamedTuple):
    """An attribute of a class."""

    name: str
    type: str
    text: str


def page() -> str:
    """Make the page of relay.api."""
    return document("The API of plugins", "the docstrings of relay/api", _parts(INTRO, relay.api, SECTIONS))


def testing_page() -> str:
    """Make the page of relay.testing."""
    parts = _parts(TESTING_INTRO, relay.testing, TESTING_SECTIONS)
    return document("The API of tests", "the docstrings of relay/testing", parts)


def _parts(intro: str, package: ModuleType, sections: dict[str, Sequence[str]]) -> Iterator[str]:
    found = definitions(package)
    if wrong := {*package.__all__} ^ {name for names in sections.values() for name in names}:
        raise LookupError(f"{package.__name__} and the sections of its page differ in {', '.join(sorted(wrong))}")
    yield intro
    yield "\n".join(
        f"- [{title}](#{_anchor(title)}): {', '.join(map(code, names))}" for title, names in sections.items()
    )
    for title, names in sections.items():
        yield f"## {title}"
        for name in names:
            yield f"### {name}"
            yield from _described(name, *found[name])


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-").replace(",", "")


def _described(name: str, node: ast.AST, text: str) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield from _class(node)
    elif isinstance(node, Function):
        yield _python(signature_of(node))
        yield text
    else:
        if name not in TEXTS:
            yield _python(_value(node))
        yield TEXTS.get(name, text)


def _class(node: ast.ClassDef) -> Iterator[str]:
    init = next((one for one in node.body if isinstance(one, Function) and one.name == "__init__"), None)
    bases = [ast.unparse(base) for base in node.bases if not ast.unparse(base).startswith(PRIVATE)]
    yield _python(f"class {node.name}" + (f"({', '.join(bases)})" if bases else ""))
    yield _text(node)
    if _is_made_by_plugins(node) and (init or node.name in MADE):
        yield _python(f"{node.name}({_arguments(init) if init else _arguments_of_fields(node)})")
    if node.name.endswith("Suite"):
        yield _behaviours(node.name)
    fields = [] if _is_settings(node) else [*fields_of(node.body), *(fields_of(init.body) if init else ())]
    if fields:
        yield table(["attribute", "type", ""], [(code(one.name), code(one.type), one.text) for one in fields])
    for method in node.body:
        if isinstance(method, Function) and _is_told(node, method):
            yield f"#### {node.name}.{method.name}"
            yield _python(signature_of(method))
            yield _text(method)


def _behaviours(suite: str) -> str:
    """The behaviours of a suite; of a suite that extends another only those that it adds."""
    kind = getattr(relay.testing, suite)
    inherited = {key for base in kind.__mro__[1:] if base.__name__.endswith("Suite") for key in base.behaviours()}
    added = [(key, test) for key, test in kind.behaviours().items() if key not in inherited]
    rows = [(code(key), test.__name__.removeprefix("test_").replace("_", " "), test.__doc__) for key, test in added]
    return table(["behaviour", "the test that it", "what it shows"], rows)


def _value(node: ast.AST) -> str:
    """A definition in a line: of an annotated type only the type."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript(value=ast.Name(id="Annotated"), slice=parts)):
            kind = parts.elts[0] if isinstance(parts, ast.Tuple) else parts
            return f"{name} = {ast.unparse(kind)}  # checked"
    return ast.unparse(node)


def _is_made_by_plugins(node: ast.ClassDef) -> bool:
    """Tell whether authors call the class. An outcome is raised with arguments, and tests make plugins."""
    return any(ast.unparse(base) == "_Failure" for base in node.bases) or node.name in MADE


def _is_settings(node: ast.ClassDef) -> bool:
    """Whether the configuration's page describes the fields."""
    return node.name.endswith("Settings")


def _is_told(node: ast.ClassDef, method: Function) -> bool:
    """Whether a method is public, and no check of a settings model or one form of several."""
    is_check = node.name != "Settings" and method.name in ("contradictions", "warnings")
    is_hidden = method.name.startswith(("_", "test_")) or is_check
    return not (is_hidden or "overload" in map(ast.unparse, method.decorator_list))


def fields_of(body: Sequence[ast.stmt]) -> Iterator[Field]:
    """Find the public attributes among statements, each with the text behind it; of `self.x` those with a text."""
    for node, behind in zip(body, [*body[1:], None], strict=True):
        text = _string(behind)
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind) if not name.startswith("_"):
                yield Field(
                    name, ast.unparse(kind).removeprefix("ClassVar[").removesuffix("]" * _is_class_var(kind)), text
                )
            case ast.Assign(targets=[ast.Attribute(attr=name)], value=value) if text and not name.startswith("_"):
                yield Field(name, _kind_of(value), text)
            case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=kind) if text and not name.startswith("_"):
                yield Field(name, ast.unparse(kind), text)


def _is_class_var(kind: ast.expr) -> bool:
    return ast.unparse(kind).startswith("ClassVar[")


def _kind_of(value: ast.expr) -> str:
    """The type of a first value; empty for a name, such as that of an argument."""
    return (
        type(value.value).__name__
        if isinstance(value, ast.Constant)
        else {"folder": "Path"}.get(ast.unparse(value), "")
    )


def signature_of(node: Function) -> str:
    """Write a function or method as its signature."""
    decorators = [ast.unparse(one).rpartition(".")[2] for one in node.decorator_list]
    returns = ast.unparse(node.returns).strip("'\"") if node.returns else "None"
    if {"property", "cached_property"}.intersection(decorators):
        return f"{node.name}: {returns}  # a property"
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    marks = "".join(f"@{one}\n" for one in decorators if one in ("classmethod", "staticmethod"))
    return f"{marks}{start} {node.name}({_arguments(node)}) -> {returns}"


def _arguments(node: Function) -> str:
    text = ast.unparse(node.args)
    return text.removeprefix("self, ").removeprefix("cls, ") if text not in ("self", "cls") else ""


def _arguments_of_fields(node: ast.ClassDef) -> str:
    """Write the arguments of a dataclass with keywords alone."""
    written = []
    for one in node.body:
        match one:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=value):
                default = ast.unparse(value) if isinstance(value, ast.Constant) else "{}"
                written.append(f"{name}: {ast.unparse(kind)} = {default}")
    return ", ".join(["*", *written])


def _text(node: ast.ClassDef | Function) -> str:
    return ast.get_docstring(node) or ""


def _string(node: ast.stmt | None) -> str:
    """The text that stands behind a definition."""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
    return ""


def _python(text: str) -> str:
    return f"```python\n{text}\n```"


@cache
def definitions(package: ModuleType) -> Definitions:
    """Find the definitions at the top level of a package's modules, by name."""
    found: Definitions = {}
    for path in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, behind in zip(body, [*body[1:], None], strict=True):
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found[name] = node, _text(node)
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                    found.setdefault(name, (node, _string(behind)))
    return found
