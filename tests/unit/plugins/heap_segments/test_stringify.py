"""JSON is written as JavaScript writes it, so that a signature over what it writes can be checked.

Looked at as well: the other places that write JSON anew are filters and changes of cohorts, which nobody signs.
"""

import shutil
import subprocess
from random import Random

import pytest

from relay_plugins.heap_segments.stringify import stringify

TABLE = [
    (" [1.0, 1e3, 1.10, -0, -0.0, 0e9, 5E-1]", "[1,1000,1.1,0,0,0,0.5]"),
    ("[9007199254740993, 12345678901234567890123]", "[9007199254740992,1.2345678901234568e+22]"),
    ("[123456789012345678901]", "[123456789012345680000]"),
    (
        "[1e20,1e21,1.5e21,-1e21,1e400,-1e400,5e-324,1e-400]",
        "[100000000000000000000,1e+21,1.5e+21,-1e+21,null,null,5e-324,0]",
    ),
    (
        "[0.00001, 0.000001, 1e-7, 1.5e-7, -0.00000123, 123.456, 0.1]",
        "[0.00001,0.000001,1e-7,1.5e-7,-0.00000123,123.456,0.1]",
    ),
    ('{"b":1,"10":2,"9":3,"a":4,"01":5,"-1":6}', '{"9":3,"10":2,"b":1,"a":4,"01":5,"-1":6}'),
    ('{"4294967295":1,"4294967294":2,"0":3,"x":4}', '{"0":3,"4294967294":2,"4294967295":1,"x":4}'),
    ('{"x":1,"y":2,"x":3,"":4,"__proto__":5}', '{"x":3,"y":2,"":4,"__proto__":5}'),
    (r'["\ud83d","\ud83d\ude00","\ude00\ud83d","\uD83Dx"]', '["\\ud83d","\U0001f600","\\ude00\\ud83d","\\ud83dx"]'),
    (r'["\u0000\u001F\b\t\n\f\r"]', r'["\u0000\u001f\b\t\n\f\r"]'),
    (r'["\u007f\u2028\/\"\\\u00e9"]', '["\x7f\u2028/\\"\\\\\u00e9"]'),
    (" null ", "null"),
    ("[true , false,{}, [ ]]", "[true,false,{},[]]"),
]


@pytest.mark.parametrize(("given", "written"), TABLE)
def test_it_is_as_javascript_has_it(given: str, written: str) -> None:
    assert stringify(given.encode()).decode() == written


@pytest.mark.parametrize("text", ["", "NaN", "[Infinity]", "[01]", "{", "[1,]", "\ufeff1"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        stringify(text.encode())


def test_what_is_nested_without_end_is_refused() -> None:
    with pytest.raises(RecursionError):
        stringify(b"[" * 100_000)


PIECES = ["a", "\\ud83d", "\\uDE00", "\\\\", "\\n", "\\u0007", "\u00e9", "\u2028", "/", "\\/", "7", '\\"', "\U0001f600"]


def made_up(rng: Random, depth: int = 0) -> str:
    """Some JSON."""
    match rng.randrange(7 if depth < 4 else 4):
        case 0:
            return str(rng.randrange(-(10 ** rng.randrange(1, 30)), 10 ** rng.randrange(1, 30)))
        case 1:
            return f"{rng.uniform(-10, 10):.{rng.randrange(20)}f}e{rng.randrange(-330, 312)}"
        case 2:
            return repr(rng.uniform(-1, 1) * 10.0 ** rng.randrange(-10, 24))
        case 3 | 4:
            return f'"{"".join(rng.choices(PIECES, k=rng.randrange(6)))}"'
        case 5:
            return f"[{','.join(made_up(rng, depth + 1) for _ in range(rng.randrange(5)))}]"
    names = [rng.choice([*PIECES, rng.randrange(20), 2**32 - rng.randrange(3)]) for _ in range(rng.randrange(6))]
    return "{" + ",".join(f'"{name}" : {made_up(rng, depth + 1)}' for name in names) + "}"


NODE = shutil.which("node")
PROGRAM = """
const fs = require("fs")
const lines = fs.readFileSync(0, "utf8").split("\\n")
fs.writeSync(1, lines.map(line => JSON.stringify(JSON.parse(line))).join("\\n"))
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_it_is_as_node_has_it() -> None:
    rng = Random(1)
    lines = [*(made_up(rng) for _ in range(3000)), *(given.strip() for given, _ in TABLE)]
    ran = subprocess.run([NODE or "", "-e", PROGRAM], input="\n".join(lines).encode(), capture_output=True, check=True)
    written = [stringify(line.encode()) for line in lines]
    differing = [pair for pair in zip(lines, written, ran.stdout.split(b"\n"), strict=True) if pair[1] != pair[2]]
    assert differing == []
