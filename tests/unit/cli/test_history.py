"""`relay history` shows all that is known of an entry."""

import json
from pathlib import Path

from click.testing import CliRunner

from relay.cli.main import relay
from relay.state.database import StateDatabase
from relay.state.history import FolderHistory
from relay.store import Entry


def test_json_has_every_field_of_an_entry(tmp_path: Path) -> None:
    StateDatabase(tmp_path).close()
    at = 1_767_225_600.0
    FolderHistory(tmp_path).add(
        [Entry("paused", "connector heap", "heap was paused", "anna", {"pending": 3}, at)], keep=1e12
    )
    shown = CliRunner().invoke(relay, ["history", "--json", "--state", str(tmp_path)])
    assert json.loads(shown.output) == [
        {
            "kind": "paused",
            "subject": "connector heap",
            "sentence": "heap was paused",
            "by": "anna",
            "about": {"pending": 3},
            "at": "2026-01-01T00:00:00Z",
            "number": 1,
        }
    ]
