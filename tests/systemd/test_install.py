"""`make install` never breaks what is there: it refuses with a sentence, or replaces it once the new one has run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
SCRIPT = SYSTEMD / "package" / "install"
NO_PYTHON = "#!/bin/sh\nexit 1\n"
OWNER = "#!/bin/sh\necho currents-relay: $2\n"
INSTALLS = """#!/bin/sh
case "$*" in
*"pip wheel "*) touch "$6/currents_relay-1-py3-none-any.whl" ;;
*"pip install "*)
    cd "${0%/bin/python}"
    mkdir -p "$(echo lib/python3*/site-packages)/currents_relay-1.dist-info"
    cd lib/python3*/site-packages/currents_relay-1.dist-info
    touch direct_url.json RECORD
    echo "#!$0" >"${0%python}/relay" ;;
"-c "*) echo "completes $_RELAY_COMPLETE" ;;
"-m relay --version") echo "relay, version of $0"; exit "$RUNS" ;;
esac
"""
"""The Python of an environment, which gets no packages from anywhere, and runs a relay that ends as $RUNS says."""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def install(folder: Path, python: str | Path = sys.executable, **env: str) -> tuple[int, str]:
    """Runs the script, which gets no packages from anywhere: where it does not refuse, it fails."""
    given = {"DESTDIR": str(folder / "root"), "PREFIX": "/opt/relay", "PYTHON": str(python), "PIP_NO_INDEX": "1"} | env
    found = subprocess.run([SCRIPT], env=os.environ | given, capture_output=True, text=True, check=False, timeout=60)
    return found.returncode, found.stdout + found.stderr


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An environment that runs, though with nothing in it."""
    place = tmp_path / "root" / "opt" / "relay"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    return place


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_environment_of_another_python_is_left_as_it_is(tmp_path: Path, there: Path) -> None:
    config = there / "pyvenv.cfg"
    for line, other in (("version = 3", "version = 2"), ("home = /", "home = /elsewhere/")):
        plain = config.read_text()
        config.write_text(plain.replace(line, other))
        before = contents(tmp_path)
        code, out = install(tmp_path)
        assert (code, contents(tmp_path)) == (1, before), out
        assert f"nothing has changed: {there} is of Python {'2' if 'version' in other else '3'}" in out
        assert "PYTHON=" in out
        config.write_text(plain)


def test_what_fails_on_its_way_leaves_the_one_before_as_it_is(tmp_path: Path, there: Path) -> None:
    before = contents(tmp_path)
    code, out = install(tmp_path)
    assert (code, "No module named pip" in out) == (1, True), out
    assert contents(tmp_path) == before
    there.rename(there.with_name("relay.old"))  # as one leaves it that is killed in between
    code, _ = install(tmp_path)
    assert (code, contents(tmp_path)) == (1, before)


@pytest.fixture
def ready(there: Path) -> Path:
    """An environment into which relay can be installed, as far as the script sees."""
    python = there / "bin" / "python"
    python.unlink()
    program(python, INSTALLS)
    return there


def test_a_relay_that_runs_is_in_place_with_its_completions(tmp_path: Path, ready: Path) -> None:
    code, out = install(tmp_path, RUNS="0")
    assert (code, out.splitlines()[-1]) == (0, f"relay, version of {ready}/bin/python"), out
    root = tmp_path / "root"
    assert (ready / "bin" / "relay").read_text() == "#!/opt/relay/bin/python\n"
    assert (root / "usr" / "bin" / "relay").readlink() == Path("/opt/relay/bin/relay")
    shares = ("bash-completion/completions/relay", "zsh/*/_relay", "fish/vendor_completions.d/relay.fish")
    written = [path.read_text() for one in shares for path in (root / "usr" / "share").glob(one)]
    assert written == [f"completes {shell}_source\n" for shell in ("bash", "zsh", "fish")]
    assert [path.name for path in ready.parent.iterdir()] == ["relay"]


def test_a_relay_that_does_not_run_gives_way_to_the_one_before(tmp_path: Path, ready: Path) -> None:
    before = contents(tmp_path)
    code, out = install(tmp_path, RUNS="1")
    assert (code, "nothing has changed: the new one does not run" in out) == (1, True), out
    assert contents(tmp_path) == before


def test_units_lead_to_documentation_that_is_installed(tmp_path: Path, ready: Path) -> None:
    assert install(tmp_path, RUNS="0")[0] == 0
    units = [*(tmp_path / "root" / "usr" / "lib" / "systemd" / "system").iterdir()]
    assert {unit.name for unit in units} == {"relay.service", "relay.socket", "relay-console.service"}
    for unit in units:
        (where,) = re.findall(r"^Documentation=file://(/.*)$", unit.read_text(), re.MULTILINE)
        assert (tmp_path / "root" / where[1:]).is_file(), f"{unit.name}: {where}"


def test_pages_lead_to_files_that_are_installed(tmp_path: Path, ready: Path) -> None:
    assert install(tmp_path, RUNS="0")[0] == 0
    doc = tmp_path / "root" / "usr" / "share" / "doc" / "currents-relay"
    there = [*doc.rglob("*"), *ready.parents]
    code = tuple(f"{path}/" for path in there if path.is_symlink())
    pages = [path for path in there if path.suffix == ".md"]
    assert doc / "docs" / "start.md" in pages
    for page in pages:
        for link in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)[)#]", page.read_text()):
            target = Path(os.path.normpath(page.parent / link))
            shipped = (SYSTEMD.parent / target.relative_to(doc)).exists() and "tests" not in target.parts
            assert not shipped or target.exists() or f"{target}/".startswith(code), f"{page.relative_to(doc)}: {link}"


def test_the_package_brings_the_authorities_that_destinations_show() -> None:
    (needed,) = re.findall(r"^Depends: (.*)$", (SYSTEMD / "package" / "control").read_text(), re.MULTILINE)
    assert "ca-certificates" in needed.split(", ")


def test_it_says_how_far_it_is(tmp_path: Path, there: Path) -> None:
    assert f"== virtual environment of {sys.executable}\n== wheel\n" in install(tmp_path)[1]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root" / "opt" / "relay" / "data").mkdir(parents=True)
    code, out = install(tmp_path)
    assert (code, "is there, and is no virtual environment; PREFIX=/path names another place" in out) == (1, True), out
    assert [path.name for path in (tmp_path / "root" / "opt").iterdir()] == ["relay"]


@pytest.mark.parametrize(("text", "said"), [("", "there is no "), (NO_PYTHON, "is no Python 3.11 or newer")])
def test_a_python_that_cannot_be_used_is_told(tmp_path: Path, text: str, said: str) -> None:
    python = tmp_path / "bin" / "python3"
    if text:
        program(python, text)
    code, out = install(tmp_path, python)
    assert (code, said in out, "PYTHON=/path/to/python3" in out) == (1, True, True), out
    assert not (tmp_path / "root").exists()


def test_what_dpkg_owns_is_refused(tmp_path: Path) -> None:
    query = program(tmp_path / "bin" / "dpkg-query", OWNER)
    python = program(tmp_path / "bin" / "python3", '#!/bin/sh\n[ "$1" = -c ]\n')  # makes no environment
    path = f"{query.parent}:{os.environ['PATH']}"
    code, out = install(tmp_path, python, DESTDIR="", PREFIX=f"{tmp_path}/opt/relay", PATH=path)
    assert (code, f"is of a Debian package (currents-relay: {tmp_path}/opt/relay)" in out) == (1, True), out
    assert not (tmp_path / "opt").exists()


def test_it_takes_the_python_of_the_system_unless_told() -> None:
    # `make test PYTHON=...` hands its variables to every make below it by MAKEFLAGS.
    untold = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "PYTHON"}}
    made = subprocess.run(
        ["make", "--dry-run", "install"], cwd=SCRIPT.parents[2], env=untold, capture_output=True, text=True, check=True
    )
    assert 'PYTHON=""' in made.stdout
    assert "python=${PYTHON:-/usr/bin/python3}" in SCRIPT.read_text()
