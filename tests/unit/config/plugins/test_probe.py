"""The probe of plugins in a separate process."""

from pathlib import Path

import pytest

from relay.config.plugins.probe import probe

OK = "from relay.api import Filter\n\n\nclass Ok(Filter, type='ok'):\n    pass\n"


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_missing_folder_has_no_plugins(tmp_path: Path, has_folder: bool) -> None:
    """relay starts without /etc/relay/plugins."""
    mine = tmp_path / "mine"
    if has_folder:
        mine.mkdir()
        (mine / "ok.py").write_text(OK)
    probed = probe([tmp_path / "missing", mine])
    assert probed.fault is None
    names = {str(plugin["name"]) for plugin in probed.plugins}
    assert "heap" in names
    assert ("ok" in names) is has_folder
