"""The packages of relay are rooms: each has a face, one subject, and few modules, and each name means one thing."""

import ast

import pytest

from tests.rooms.code import (
    ROOT,
    TABLES,
    classes_with_two_homes,
    imports_past_a_face,
    modules_by_folder,
    named_tables,
    names_in_ing,
    past_a_face,
    tables_with_two_homes,
)
from tests.rooms.code import test_names as names_of_tests

MODULES_IN_A_FOLDER = 20
LENGTH_OF_A_TEST_NAME = 70
UNIT = ROOT / "tests" / "unit"


def test_no_module_imports_past_the_face_of_another_room() -> None:
    assert not imports_past_a_face()


@pytest.mark.parametrize(
    ("file", "line", "is_allowed"),
    [
        ("relay/deliver/lane.py", "from relay.state import State", True),
        ("relay/deliver/lane.py", "from relay.deliver.batch.parts import Part", True),
        ("relay/deliver/lane.py", "from relay.words import format_count", True),
        ("relay/deliver/lane.py", "from relay.api.internal import cut", True),
        ("relay/deliver/lane.py", "from relay.api.transport import outage", True),
        ("relay/deliver/lane.py", "from relay.api.transport.pem import Pem", False),
        ("relay/deliver/lane.py", "from relay.state.database import State", False),
        ("relay/deliver/lane.py", "import relay.state.database", False),
        ("relay/words.py", "from relay.state.database import State", False),
        ("plugins/relay_plugins/http.py", "from relay.api import Event", True),
        ("plugins/relay_plugins/http.py", "from relay.api.internal import cut", False),
        ("plugins/relay_plugins/http.py", "from relay.api import internal", False),
        ("plugins/relay_plugins/http.py", "from relay.words import format_count", False),
        ("plugins/relay_plugins/heap/bulk_track.py", "from relay_plugins.heap.limits import LIMIT", True),
        ("plugins/relay_plugins/heap/bulk_track.py", "from relay_plugins.file.writer import Writer", False),
    ],
)
def test_an_import_past_a_face_is_found(file: str, line: str, is_allowed: bool) -> None:
    assert [*past_a_face(ROOT / file, ast.parse(line))] == ([] if is_allowed else [line])


def test_no_folder_has_more_than_twenty_modules() -> None:
    crowded = {folder: count for folder, count in modules_by_folder().items() if count > MODULES_IN_A_FOLDER}
    assert crowded == {}


def test_a_class_name_has_one_meaning() -> None:
    assert classes_with_two_homes() == {}


def test_no_module_name_ends_in_ing_but_ordering() -> None:
    assert names_in_ing() == []


def test_a_test_name_has_at_most_seventy_characters() -> None:
    assert [name for name in names_of_tests() if len(name) > LENGTH_OF_A_TEST_NAME] == []


def test_folders_of_unit_tests_have_the_names_of_packages() -> None:
    packages = {init.parent.name for init in ROOT.glob("relay/*/__init__.py")}
    folders = {path.relative_to(UNIT).parts[0] for path in UNIT.glob("*/**/test_*.py")}
    assert folders <= packages | {"plugins"}


def test_no_unit_test_starts_a_daemon() -> None:
    assert [path.name for path in UNIT.rglob("*.py") if "tests.daemon" in path.read_text(encoding="utf-8")] == []


def test_one_module_holds_the_sql_of_a_table() -> None:
    assert tables_with_two_homes() == {}


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
