"""A pause is one of all workers, also of one that comes later."""

from pathlib import Path

from click.testing import CliRunner

from relay.cli.main import relay
from relay.state.database import StateDatabase
from relay.state.layout import make_worker_folder
from relay.state.pauses import FolderPauses


async def test_all_workers_pause_and_resume(tmp_path: Path) -> None:
    first, other = StateDatabase(tmp_path), StateDatabase(make_worker_folder(tmp_path, 1), 1)
    assert [FolderPauses(tmp_path).pause("heap"), FolderPauses(tmp_path).pause("heap")] == [True, False]
    assert FolderPauses(other.folder).read().keys() == FolderPauses(tmp_path).read().keys() == {"heap"}
    later = StateDatabase(make_worker_folder(tmp_path, 2), 2)
    await later.follow_pauses()
    assert FolderPauses(later.folder).read() == FolderPauses(tmp_path).read()
    assert [FolderPauses(tmp_path).resume("heap"), FolderPauses(tmp_path).resume("heap")] == [True, False]
    assert FolderPauses(later.folder).read() == {}
    for each in (first, other, later):
        each.close()


def test_a_pause_for_no_time_is_wrong_usage(tmp_path: Path) -> None:
    answer = CliRunner().invoke(relay, ["pause", "heap", "--for", "0s", "--state", str(tmp_path)])
    assert (answer.exit_code, "a pause that is over at once is none" in answer.output) == (2, True)
