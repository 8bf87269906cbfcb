"""Only the rooms of the embedded engine know SQLite, segments, and the places of files in a state folder."""

import ast
from collections.abc import Iterator

import pytest

from tests.rooms.code import name_of, trees

ENGINE = ("relay/copy/", "relay/journal/", "relay/postgres/", "relay/state/", "relay/inspect/")
NAMES = {
    "Segment",
    "SegmentReader",
    "list_journals",
    "list_other_folders",
    "list_segment_files",
    "list_worker_folders",
    "make_journal_folder",
    "make_worker_folder",
    "sqlite3",
}
ROOMS = ("relay.journal", "relay.state")
ALLOWED = {
    "relay/engine.py": "chooses the engine",
    "relay/cli/commands/doctor/disk.py": "looks at the disk of the embedded engine",
    "relay/workers/supervisor.py": "locks the folder of the workers' sockets, which is none of the store's",
    "plugins/relay_plugins/braze_cohorts/older_database.py": "takes over the database of an older relay",
}
"""The files that name the engine, each with the reason."""


def find_names(tree: ast.AST) -> Iterator[str]:
    """Yield what a module names of the engine: its names, its rooms, and files like relay.db as parts of a path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in NAMES or one.name.startswith(ROOMS))
        elif isinstance(node, ast.ImportFrom):
            room = str(node.module)
            yield from (one.name for one in node.names if one.name in NAMES or room.startswith(ROOMS))
        elif isinstance(node, ast.Name) and node.id in NAMES:
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr in NAMES:
            yield node.attr
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            file = getattr(node.right, "value", None)
            yield from [file] if isinstance(file, str) and file.endswith(".db") else []


def test_only_the_engine_knows_what_the_store_stands_on() -> None:
    found = {name_of(path): {*find_names(tree)} for path, tree in trees()}
    outside = {file: names for file, names in found.items() if names and not file.startswith(ENGINE)}
    assert {file: names for file, names in outside.items() if file not in ALLOWED} == {}
    assert outside.keys() == ALLOWED.keys()  # else a reason has gone


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import sqlite3", {"sqlite3"}),
        ("from relay.state import read_parked", {"read_parked"}),
        ("from relay.journal.segment import Segment", {"Segment"}),
        ("import relay.state", {"relay.state"}),
        ("except_ = sqlite3.Error", {"sqlite3"}),
        ("layout.make_worker_folder(folder, 1)", {"make_worker_folder"}),
        ("path = folder / 'relay.db'", {"relay.db"}),
        ("from relay.store import Store", set()),
        ("said = 'relay.db is damaged'", set()),
    ],
)
def test_names_of_the_engine_are_found(code: str, names: set[str]) -> None:
    assert {*find_names(ast.parse(code))} == names
