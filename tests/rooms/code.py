"""Measure the rooms of the code: modules, faces, names, functions, and the SQL of tables."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted([*(ROOT / "relay").rglob("*.py"), *(ROOT / "plugins" / "relay_plugins").rglob("*.py")])
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))
INTERNAL: Final = ("relay.api.internal", "relay.api.transport")
"""The faces of `relay.api` for the daemon. Plugins see `relay.api` alone. `transport` needs aiohttp, and commands start
without aiohttp."""
SHARED: Final = "relay_plugins.braze_events"
"""No plugin: what several of them know of Braze."""
A_SUBJECT: Final = "ordering"
"""The order of events is a subject. Other names in -ing are deeds, and a module is no deed."""

SCHEMA: Final = (ROOT / "relay" / "state" / "schema.sql").read_text()
TABLES: Final = re.findall(r"CREATE (?:TABLE|VIEW) IF NOT EXISTS (\w+)", SCHEMA)
SQL: Final = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN|TABLE)\s+(\w+)")
"""A statement and its table."""
EVERY_TABLE: Final = "relay/state/migrations.py"
"""Migrations make the tables of an older relay the tables of today."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """Return the path of a file below the root of the project."""
    return str(path.relative_to(ROOT))


@cache
def trees() -> Sequence[tuple[Path, ast.Module]]:
    """Parse every file."""
    return [(path, ast.parse(path.read_text())) for path in FILES]


def function_lengths() -> list[int]:
    """Return the length of every function and method in lines, with signature and docstring."""
    return [one.end_lineno - one.lineno + 1 for _, tree in trees() for one in _functions(tree) if one.end_lineno]


def private_with_one_use() -> list[str]:
    """Return each private function that its own file names once."""
    return [
        f"{name_of(path)}: {one.name}"
        for path, tree in trees()
        for uses in [_uses(tree)]
        for one in _functions(tree)
        if one.name.startswith("_") and not one.name.startswith("__") and uses[one.name] == 1
    ]


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _uses(tree: ast.Module) -> Mapping[str, int]:
    names = (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    attributes = (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return Counter([*names, *attributes])


def names_in_ing() -> list[str]:
    """Return the modules whose name ends in -ing, without the module on the order of events."""
    return [name_of(path) for path in FILES if path.stem.endswith("ing") and path.stem != A_SUBJECT]


def modules_by_folder() -> Mapping[str, int]:
    """Return the number of modules in each folder, without the face of the folder."""
    return Counter(name_of(path.parent) for path in FILES if path.stem != "__init__")


def imports_past_a_face() -> list[str]:
    """Return each import that goes past the face of another room, with its file."""
    return [f"{name_of(path)}: {one}" for path, tree in trees() for one in past_a_face(path, tree)]


def past_a_face(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield each import of a file that goes past the face of another room."""
    place = path.relative_to(ROOT).with_suffix("").parts
    package, room = place[1:3] if place[0] == "plugins" else place[:2]
    for node in ast.walk(tree):
        for module in _imported(node):
            if module.split(".")[:2] == [package, room]:
                continue
            is_deep = module.count(".") > 1
            is_foreign = package == "relay_plugins" and module not in ("relay.api", SHARED)
            if is_foreign or (is_deep and module not in INTERNAL):
                yield ast.unparse(node)


def _imported(node: ast.AST) -> list[str]:
    """The modules of relay and its plugins that a node of a file imports."""
    match node:
        case ast.Import(names):
            found = [one.name for one in names]
        case ast.ImportFrom(str(module), names, 0):
            found = [module if one.name != "internal" else f"{module}.internal" for one in names]
        case _:
            found = []
    return [one for one in dict.fromkeys(found) if one.split(".")[0] in ("relay", "relay_plugins")]


def classes_with_two_homes() -> Mapping[str, list[str]]:
    """Return the class names that stand in more than one file, with the files."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name_of(path))
    return {name: files for name, files in homes.items() if len(files) > 1}


def tables_with_two_homes() -> Mapping[str, list[str]]:
    """Return the tables whose SQL stands in more than one file, with the files."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees():
        if name_of(path).startswith("relay/") and name_of(path) != EVERY_TABLE:
            for table in named_tables(tree) & {*TABLES}:
                homes[table].append(name_of(path))
    return {table: files for table, files in homes.items() if len(files) > 1}


def named_tables(tree: ast.Module) -> set[str]:
    """Return the tables that statements in the texts of a file name."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {table for text in texts for table in SQL.findall(text)}


def test_names() -> list[str]:
    """Return the name of every test."""
    return [name for path in TESTS for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.M)]


def lines_by_file() -> Mapping[str, int]:
    """Return the number of lines of every file of relay, its plugins and its tests."""
    return {name_of(path): len(path.read_text().splitlines()) for path in [*FILES, *TESTS]}
