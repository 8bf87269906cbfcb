"""Files of the console on disk: all of them or none, taken back to the byte, and remembered; and pasted secrets."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tomlkit", reason="the console takes the package currents-relay[console]")

from relay.config import ConfFolders, ConfigError, is_file_name
from relay.console.edits import record, secrets
from relay.console.edits.conf import ConfView
from relay.console.edits.record import Launch, Launches, LaunchUnderWay
from relay.console.edits.secrets import find_new_secrets, remove_unused, write_secret
from relay.console.edits.tables import Files, put_table
from relay.console.edits.write import WrittenFiles

CHANGE: Files = {"60-a.toml": "new\n", "60-b.toml": None, "60-c.toml": "c\n", "60-d.toml.d/50-console.toml": "d\n"}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf.d"
    folder.mkdir(0o750)
    (folder / "60-a.toml").write_text("old\n")
    (folder / "60-b.toml").write_text("b\n")
    (folder / "90-person.toml").write_text("p\n")
    return folder


def read_all(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Return text, inode and time of each file, by name, and the folders."""
    found = {}
    for path in folder.rglob("*"):
        about = path.stat()
        text = path.read_text() if path.is_file() else ""
        found[path.relative_to(folder).as_posix()] = text, about.st_ino, about.st_mtime_ns if text else 0
    return found


def test_files_are_written_and_taken_back_to_the_byte(conf: Path) -> None:
    before = read_all(conf)
    written = WrittenFiles.write(conf, CHANGE)
    texts = {name: text for name, (text, _, _) in read_all(conf).items() if text and not name.startswith(".")}
    assert texts == {
        "60-a.toml": "new\n", "60-c.toml": "c\n", "60-d.toml.d/50-console.toml": "d\n", "90-person.toml": "p\n",
    }  # fmt: skip
    assert (conf / "60-a.toml").stat().st_mode & 0o777 == 0o640
    assert written.take_back() == []
    assert read_all(conf) == before

    WrittenFiles.write(conf, CHANGE).settle()
    WrittenFiles.write(conf, {"60-d.toml.d/50-console.toml": None}).settle()
    assert sorted(read_all(conf)) == ["60-a.toml", "60-c.toml", "90-person.toml"]


def test_what_somebody_has_changed_since_is_not_taken_back(conf: Path) -> None:
    written = WrittenFiles.write(conf, {"60-a.toml": "new\n", "60-c.toml": "c\n"})
    (conf / "60-c.toml").write_text("by hand\n")
    assert written.take_back() == ["60-c.toml"]
    assert {name: text for name, (text, _, _) in read_all(conf).items()} == {
        "60-a.toml": "old\n", "60-b.toml": "b\n", "60-c.toml": "by hand\n", "90-person.toml": "p\n",
    }  # fmt: skip


@pytest.mark.parametrize("call", ["fsync", "link", "rename"])
@pytest.mark.parametrize("nth", range(6))
def test_an_error_at_any_step_changes_nothing(conf: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int) -> None:
    before, calls = read_all(conf), 0

    def fail(real: Callable[..., object]) -> Callable[..., object]:
        def call_real(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == nth + 1:
                raise OSError(28, "No space left on device")
            return real(*arguments, **named)

        return call_real

    owner = Path if call == "rename" else os
    name = "replace" if call == "rename" else call
    monkeypatch.setattr(owner, name, fail(getattr(owner, name)))
    written = None
    with suppress(OSError):
        written = WrittenFiles.write(conf, CHANGE)
    monkeypatch.undo()
    if written:  # that step was not reached
        written.take_back()
    assert read_all(conf) == before


def test_nothing_is_written_behind_a_link(conf: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (conf / "60-d.toml.d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link: the console writes nothing outside its folder"):
        WrittenFiles.write(conf, CHANGE)
    assert [*(tmp_path / "elsewhere").iterdir()] == []
    assert (conf / "60-a.toml").read_text() == "old\n"


@given(name=st.text(max_size=12) | st.from_regex(r"[./a-z]{1,8}", fullmatch=True))
def test_whatever_a_table_is_called_its_file_lies_in_the_folder(name: str) -> None:
    view = ConfView(ConfFolders([Path("/not/there")]), Path("/not/there"), [], [], [])
    if re.fullmatch("[a-z][a-z0-9_-]*", name):
        (file,) = put_table(view, "connector", name, {"type": "http"}, {})
        assert is_file_name(file)
        assert "/" not in file
    else:
        with pytest.raises(ConfigError, match="a name is made of"):
            put_table(view, "connector", name, {"type": "http"}, {})


def make_launch(subject: str = "connector a") -> Launch:
    return Launch(
        at=1.0, by="cleo", subject=subject, folder="/etc", before={"60-a.toml": None}, after={"60-a.toml": "x"}
    )


def test_launches_are_kept_in_order_and_the_oldest_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "KEPT", 3)
    launches = Launches(tmp_path)
    assert launches.list_newest() == []
    with launches.lock():
        for number in range(1, 6):
            assert launches.add(make_launch(f"connector {number}")).number == number
        with pytest.raises(LaunchUnderWay), Launches(tmp_path).lock():
            pass
    with launches.lock():
        launches.forget(launches.list_newest()[0])
    assert [one.subject for one in launches.list_newest(3)] == ["connector 4", "connector 3"]
    assert launches.find(1) is None
    (tmp_path / "console" / "launches" / "00000003.json").write_text("{")
    assert [one.number for one in launches.list_newest()] == [4]
    assert (tmp_path / "console").stat().st_mode & 0o777 == 0o700


def test_a_pasted_secret_is_a_file_for_its_owner_under_a_new_name(tmp_path: Path) -> None:
    first, second = (write_secret(tmp_path, "heap token", f"s3cr3t-{number}") for number in (1, 2))
    assert (first, second) == (tmp_path / "secrets" / "heap-token", tmp_path / "secrets" / "heap-token-2")
    assert (first.read_text(), first.stat().st_mode & 0o777) == ("s3cr3t-1", 0o600)
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert write_secret(tmp_path, "../../x", "s").parent == first.parent
    assert [path.name for path in first.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("secret", ["", "  ", "a\nb", "a\r\n", "a\x00b", "\ud800", "x" * (64 << 10) + "y"])
def test_what_is_no_secret_of_a_line_is_refused_without_it(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ValueError, match=r"is empty|line break|64 KiB") as refused:
        write_secret(tmp_path, "x", secret)
    assert not secret.strip() or secret not in str(refused.value)
    assert not (tmp_path / "secrets").exists()


def test_pasted_secrets_that_nothing_names_are_removed(
    tmp_path: Path, conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, kept, unused, replaced = (
        write_secret(tmp_path, name, "s") for name in ("used", "kept", "unused", "replaced")
    )
    persons = tmp_path / "secrets" / "persons"
    persons.write_text("p")
    replaced.unlink()
    replaced.write_text("by hand")
    (conf / "60-a.toml").write_text(f'[connector.a]\ntoken = {{ file = "{used}" }}\n')
    launches = Launches(tmp_path)
    with launches.lock():
        launches.add(
            Launch(at=1.0, by="", subject="", folder="", before={"x.toml": f'{{ file = "{kept}" }}'}, after={})
        )
    view = ConfView.read(ConfFolders([conf]))
    remove_unused(tmp_path, view)
    assert unused.exists(), "it may wait for its launch"
    monkeypatch.setattr(secrets, "UNUSED_S", -1.0)
    remove_unused(tmp_path, view)
    assert sorted(path.name for path in persons.parent.iterdir()) == ["kept", "persons", "replaced", "used"]


def test_only_new_secrets_in_plain_text_are_found() -> None:
    before = '[connector.a]\npassword = "old-one"\ntoken = { file = "/x" }\n'
    text = before + 'api_key = "new-one"\n[connector.a.headers]\nCookie = "c"\nAccept = "text/plain"\n'
    assert [(path, value) for path, value, _ in find_new_secrets(text, before)] == [
        (("connector", "a", "api_key"), "new-one"),
        (("connector", "a", "headers", "Cookie"), "c"),
    ]
    assert find_new_secrets("not = = toml", None) == []
