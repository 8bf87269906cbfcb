"""How commands tell of what was given wrong, and how counts are written."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.api.text import cut
from relay.cli.main import relay as command
from relay.words import format_count


@pytest.mark.parametrize(("number", "said"), [(0, "0 events"), (1, "1 event"), (2, "2 events"), (1200, "1,200 events")])
def test_one_is_not_several(number: int, said: str) -> None:
    assert format_count(number, "event") == said


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_where_there_is_no_state_folder_no_connector_is_looked_for(tmp_path: Path, action: str) -> None:
    answer = CliRunner().invoke(command, [action, "mail", "--state", str(tmp_path / "no")])
    assert answer.exit_code == 1
    assert answer.stderr == f"Error: there is no state folder {tmp_path}/no: --state names it\n"


def test_a_replay_of_nothing_that_could_be_is_wrong_usage(tmp_path: Path) -> None:
    words = ["replay", "--connector", "c", "--since", "2h", "--until", "3h", "--state", str(tmp_path)]
    answer = CliRunner().invoke(command, words)
    assert answer.exit_code == 2
    assert "--until is before --since" in answer.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("short enough", "short enough"),
        ("just twenty letters!", "just twenty letters!"),
        ("the field app_id is not known", "the field app_id is…"),
        ("the field app_id isn't known", "the field app_id…"),
        ("x" * 30, "x" * 19 + "…"),
        ("a " + "x" * 30, "a " + "x" * 17 + "…"),
    ],
)
def test_a_text_is_cut_between_words_and_says_so(text: str, said: str) -> None:
    assert cut(text, 20) == said
    assert len(said) <= 20
