"""docs/explain/guarantees.md: the promises, and for each the tests that fail when relay breaks it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.docs.generate.markdown import document
from tests.docs.generate.promises import PROMISES

ROOT: Final = Path(__file__).parents[3]
TESTS: Final = ROOT / "tests"
INTRO: Final = """
This page helps you know exactly what you can rely on. Each promise has tests that fail when relay breaks the promise.
"""
PROOF: Final = """
## How to run the tests

```sh
make test        # the tests, the slow ones in short
make test-long   # variants that take longer
make faults      # the slow ones in full
```

The marker `@pytest.mark.promise(N)` binds a test to a promise.
"""


def page() -> str:
    """Make the page."""
    return document("Guarantees", "tests/docs/generate/promises.py and the marked tests", _parts())


def _parts() -> Iterator[str]:
    yield INTRO
    for number, promise in PROMISES.items():
        yield f"## {number}. {promise.short.removesuffix('.')}"
        yield promise.text
        tests = [f"- `{name}` in [{path}](../../{path})" for path, name in marked_tests()[number]]
        yield "\n".join(["<details><summary>Tests</summary>", "", *tests, "", "</details>"])
    yield PROOF


@cache
def marked_tests() -> dict[int, list[tuple[str, str]]]:
    """Find the tests of each promise, as file and name, without running them."""
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.promise(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for number in _numbers(node):
                    found[number].append((str(path.relative_to(ROOT)), node.name))
    return found


def _numbers(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[int]:
    """The numbers of the promises that decorators name."""
    for one in test.decorator_list:
        if isinstance(one, ast.Call) and ast.unparse(one.func) == "pytest.mark.promise":
            yield from (leaf.value for leaf in one.args if isinstance(leaf, ast.Constant) and type(leaf.value) is int)
