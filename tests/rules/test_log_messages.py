"""The table of log messages has every message that the code logs, with its level, and no other."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.log_messages import ROOMS

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for folder in ("relay", "plugins/relay_plugins")
    for path in (ROOT / folder).rglob("*.py")
    if "log_messages" not in path.parts
]
LEVELS = ("error", "warning", "info", "debug")
WRITERS = {*LEVELS, "exception", "critical"}
OPENED = ("connector", "filter")
"""What `{self._kind}` in a message stands for."""
MESSAGES = [message for room in ROOMS.values() for message in room]
Found = Iterator[tuple[ast.expr, str]]


class Module:
    """The log calls of one file."""

    def __init__(self, path: Path) -> None:
        self.path, self.tree = path, ast.parse(path.read_text())
        self.nodes = [*ast.walk(self.tree)]
        self.assigned: dict[str, list[ast.expr]] = defaultdict(list)
        """What each name and attribute of the file is assigned."""
        for node in self.nodes:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    self.assigned[_last(target)].append(node.value)
        self.loggers = {"log", *(name for name, values in self.assigned.items() if any(map(_is_logger, values)))}

    def calls(self) -> Found:
        """The first argument of each call that logs, and the level. Raises AssertionError for one that is not seen."""
        aliases = {
            name: [node for node in ast.walk(value) if self._writes(node)]
            for name, values in self.assigned.items()
            for value in values
            if not isinstance(value, ast.Call)
        }
        seen = {id(node) for nodes in aliases.values() for node in nodes}
        for node in self.nodes:
            if not isinstance(node, ast.Call):
                continue
            if self._writes(node.func):
                seen.add(id(node.func))
                yield node.args[0], _last(node.func)
            elif isinstance(node.func, ast.Name):
                yield from ((node.args[0], _last(alias)) for alias in aliases.get(node.func.id, ()))
        lost = [ast.unparse(node) for node in self.nodes if self._writes(node) and id(node) not in seen]
        assert not lost, f"{self.path}: this test does not see what is logged with {lost}"

    def _writes(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr in WRITERS and _last(node.value) in self.loggers

    def texts(self, argument: ast.expr) -> list[str]:
        """The messages that an argument stands for. Raises AssertionError if that cannot be told."""
        match argument:
            case ast.Constant(value=str(text)):
                return [text.replace("%s", "...")]
            case ast.IfExp(body=one, orelse=other):
                return [*self.texts(one), *self.texts(other)]
            case ast.JoinedStr(values=[ast.FormattedValue(value=kind), ast.Constant(value=str(rest))]):
                assert ast.unparse(kind) == "self._kind", ast.unparse(argument)
                return [f"{opened}{rest}" for opened in OPENED]
            case ast.Name(id=name) if self.assigned[name]:
                return [text for value in self.assigned[name] for text in self.texts(value)]
            case ast.Name():
                return [*self._handed(argument)]
        raise AssertionError(f"{self.path}: this test does not see what is logged by {ast.unparse(argument)}")

    def _handed(self, argument: ast.Name) -> Iterator[str]:
        """The texts that others hand to the keyword `NAME=lambda argument: log...`, which they call as `NAME(...)`."""
        names = {
            node.arg
            for node in self.nodes
            if isinstance(node, ast.keyword) and isinstance(node.value, ast.Lambda)
            if argument.id in [each.arg for each in node.value.args.args]
        }
        for module in map(Module, self.path.parent.rglob("*.py")):
            for call in _calls(module.tree):
                if _last(call.func).lstrip("_") in names:
                    yield from module.texts(call.args[0])


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _last(node: ast.AST) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_logger(value: ast.expr) -> bool:
    return any(_last(call.func) in ("get_logger", "bind") for call in _calls(value))


@pytest.fixture(scope="module")
def logged() -> dict[str, set[str]]:
    """Each message that the code logs, and its levels."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in (path for path in FILES if "log" in path.read_text()):
        module = Module(path)
        for argument, level in module.calls():
            for text in module.texts(argument):
                found[text].add(level)
    return found


def test_log_messages_are_all_in_the_table(logged: dict[str, set[str]]) -> None:
    assert len(logged) > 100
    assert sorted(logged.keys() - {one.text for one in MESSAGES}) == []


def test_log_messages_of_the_table_are_all_logged(logged: dict[str, set[str]]) -> None:
    assert sorted({one.text for one in MESSAGES} - logged.keys()) == []


def test_log_messages_have_the_levels_of_the_code(logged: dict[str, set[str]]) -> None:
    table = {one.text: one.levels for one in MESSAGES}
    code = {text: " ".join(level for level in LEVELS if level in levels) for text, levels in logged.items()}
    assert table == code


def test_log_messages_are_each_in_one_room() -> None:
    assert [text for text, count in Counter(one.text for one in MESSAGES).items() if count > 1] == []


def test_log_messages_that_are_errors_say_what_to_do() -> None:
    assert [one.text for one in MESSAGES if "error" in one.levels and not one.action] == []


def test_log_messages_table_is_imported_by_nothing_that_runs() -> None:
    assert [path.name for path in FILES if "log_messages" in path.read_text()] == []
