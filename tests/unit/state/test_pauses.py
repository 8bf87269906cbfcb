"""A pause is one of all workers, also of one that comes later."""

from pathlib import Path

from click.testing import CliRunner

from relay.cli.main import relay
from relay.state.database import StateDatabase
from relay.state.layout import make_worker_folder
from relay.state.pauses import list_pauses, pause_connector, resume_connector


async def test_all_workers_pause_and_resume(tmp_path: Path) -> None:
    first, other = StateDatabase(tmp_path), StateDatabase(make_worker_folder(tmp_path, 1), 1)
    assert [pause_connector(tmp_path, "heap"), pause_connector(tmp_path, "heap")] == [True, False]
    assert list_pauses(other.folder).keys() == list_pauses(tmp_path).keys() == {"heap"}
    later = StateDatabase(make_worker_folder(tmp_path, 2), 2)
    await later.follow_pauses()
    assert list_pauses(later.folder) == list_pauses(tmp_path)
    assert [resume_connector(tmp_path, "heap"), resume_connector(tmp_path, "heap")] == [True, False]
    assert list_pauses(later.folder) == {}
    for each in (first, other, later):
        each.close()


def test_a_pause_for_no_time_is_wrong_usage(tmp_path: Path) -> None:
    answer = CliRunner().invoke(relay, ["pause", "heap", "--for", "0s", "--state", str(tmp_path)])
    assert (answer.exit_code, "a pause that is over at once is none" in answer.output) == (2, True)
