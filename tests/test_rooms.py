"""The packages of relay are rooms: each has a face, one subject, and few modules, and each name means one thing."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "relay").rglob("*.py"), *(ROOT / "plugins" / "relay_plugins").rglob("*.py")])
TREES = {path: ast.parse(path.read_text()) for path in FILES}
MODULES_IN_A_FOLDER = 20
INTERNAL = ("relay.api.internal", "relay.api.transport")
"""The faces of `relay.api` for the daemon. Plugins see `relay.api` alone. `transport` needs aiohttp, and commands start
without aiohttp."""
CARRIED_ON = "ordering"
"""The order of events is a subject. Other names in -ing are deeds, and a module is no deed."""

SCHEMA = (ROOT / "relay" / "state" / "schema.sql").read_text()
TABLES = re.findall(r"CREATE (?:TABLE|VIEW) IF NOT EXISTS (\w+)", SCHEMA)
SQL = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN|TABLE)\s+(\w+)")
"""A statement and its table."""
EVERY_TABLE = "relay/state/migrations.py"
"""It makes the tables of an older relay the tables of today."""


def test_no_module_imports_past_the_face_of_another_room() -> None:
    found = [f"{path.relative_to(ROOT)}: {one}" for path in FILES for one in past_a_face(path, TREES[path])]
    assert not found


@pytest.mark.parametrize(
    ("file", "line", "is_allowed"),
    [
        ("relay/deliver/lane.py", "from relay.state import State", True),
        ("relay/deliver/lane.py", "from relay.deliver.batch.parts import Part", True),
        ("relay/deliver/lane.py", "from relay.words import counted", True),
        ("relay/deliver/lane.py", "from relay.api.internal import cut", True),
        ("relay/deliver/lane.py", "from relay.api.transport import outage", True),
        ("relay/deliver/lane.py", "from relay.api.transport.pem import Pem", False),
        ("relay/deliver/lane.py", "from relay.state.database import State", False),
        ("relay/deliver/lane.py", "import relay.state.database", False),
        ("relay/words.py", "from relay.state.database import State", False),
        ("plugins/relay_plugins/http.py", "from relay.api import Event", True),
        ("plugins/relay_plugins/http.py", "from relay.api.internal import cut", False),
        ("plugins/relay_plugins/http.py", "from relay.api import internal", False),
        ("plugins/relay_plugins/http.py", "from relay.words import counted", False),
        ("plugins/relay_plugins/heap/bulk_track.py", "from relay_plugins.heap.limits import LIMIT", True),
        ("plugins/relay_plugins/heap/bulk_track.py", "from relay_plugins.file.writer import Writer", False),
    ],
)
def test_an_import_past_a_face_is_found(file: str, line: str, is_allowed: bool) -> None:
    assert [*past_a_face(ROOT / file, ast.parse(line))] == ([] if is_allowed else [line])


def test_no_folder_has_more_than_twenty_modules() -> None:
    modules = Counter(path.parent.relative_to(ROOT) for path in FILES if path.stem != "__init__")
    assert {str(folder): count for folder, count in modules.items() if count > MODULES_IN_A_FOLDER} == {}


def test_a_class_name_has_one_meaning() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_no_module_name_ends_in_ing_but_ordering() -> None:
    assert {path.stem for path in FILES if path.stem.endswith("ing")} <= {CARRIED_ON}


def test_one_module_holds_the_sql_of_a_table() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for path, tree in TREES.items():
        file = str(path.relative_to(ROOT))
        if file.startswith("relay/") and file != EVERY_TABLE:
            for table in named_tables(tree) & {*TABLES}:
                homes[table].add(file)
    assert {table: files for table, files in homes.items() if len(files) > 1} == {}


@pytest.mark.parametrize(
    ("code", "tables"),
    [
        ('db.execute("DELETE FROM parked WHERE number = ?", (1,))', {"parked"}),
        ('f"SELECT {columns} FROM cursor JOIN pause USING (connector)"', {"cursor", "pause"}),
        ('f"INSERT INTO parked ({columns}) SELECT * FROM {other}"', {"parked"}),
        ('"UPDATE replay SET ended = 1;\\nDELETE\\nFROM attempt"', {"replay", "attempt"}),
        ('"events from history"', set()),
    ],
)
def test_the_tables_of_a_statement_are_found(code: str, tables: set[str]) -> None:
    assert named_tables(ast.parse(code)) == tables


def test_the_tables_are_those_of_the_schema() -> None:
    assert {"cursor", "parked", "parked_total", "ledger", "journal_state"} <= {*TABLES}


def named_tables(tree: ast.Module) -> set[str]:
    """Return the tables that statements in the texts of a file name."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {table for text in texts for table in SQL.findall(text)}


def past_a_face(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield each import of a file that goes past the face of another room."""
    place = path.relative_to(ROOT).with_suffix("").parts
    package, room = place[1:3] if place[0] == "plugins" else place[:2]
    for node in ast.walk(tree):
        for module in _imported(node):
            if module.split(".")[:2] == [package, room]:
                continue
            is_deep = module.count(".") > 1
            is_foreign = package == "relay_plugins" and module != "relay.api"
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
